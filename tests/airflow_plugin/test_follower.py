"""When a process of Airflow asks for the newest version, and what it touches again; its clock is the test's."""

import contextlib
import itertools
import math
import os
import shutil

import pytest

from dagferry_airflow.follower import CHECK_SECONDS, FIRST_DOWNLOAD_SECONDS, MAX_SECONDS, Follower
from dagferry_airflow.live import live_version, locked
from dagferry_follow.defaults import MAX_PAUSE_SECONDS
from dagferry_follow.errors import AwaitingFirstDeploy, RootInUse
from dagferry_follow.remote.connection import Timeouts
from dagferry_follow.remote.server import Server
from harness import tree

A = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n", "plain.py": b"pass\n"}
B = {**A, "shop.py": b"rate = 2\n"}
LONG_AGO = 1_600_000_000
CHANGED = {"etl.py", "shop.py"}


class Process:
    """One process that follows ``fake``."""

    def __init__(self, root: str, fake) -> None:
        self.root = root
        self.fake = fake
        self.now = 1000.0
        self.given: list[Timeouts] = []
        self.follower = Follower(root, self.connect, clock=lambda: self.now, jitter=lambda: 1.0)

    def connect(self, timeouts: Timeouts) -> Server:
        self.given.append(timeouts)
        return Server(self.fake.url, "default", agent="test", timeouts=timeouts)

    def follow(self, after: float = 0.0) -> int:
        """Follow so much later; return how often the server was asked."""
        self.now += after
        before = len(self.given)
        self.follower.follow()
        return len(self.given) - before

    def touched_by(self, after: float) -> set[str]:
        """Age all files, follow so much later, and return which were touched."""
        for path in A:
            os.utime(f"{self.root}/current/{path}", (LONG_AGO, LONG_AGO))
        self.follow(after)
        return {path for path in A if os.stat(f"{self.root}/current/{path}").st_mtime != LONG_AGO}


@pytest.fixture
def root(tmp_path) -> str:
    return str(tmp_path / "bundle/live")


@pytest.fixture
def process(root, fake) -> Process:
    return Process(root, fake)


def hang(process: Process, seconds: float) -> None:
    """Make each request to the server take so many seconds."""

    def intercept(_kind, handler) -> bool:
        process.now += seconds
        process.fake.send(handler, 503, b"{}")
        return True

    process.fake.intercept = intercept


# --- a server that is away -------------------------------------------------------------------------------------------


def test_a_server_that_hangs_costs_a_tenth_of_the_time_and_then_less(process, fake) -> None:
    fake.deploy(A)
    process.follow()
    hang(process, 3)
    begun = process.now
    asked = [process.now for _ in range(3600) if process.follow(after=1)]
    pauses = [round(later - before) for before, later in itertools.pairwise(asked)]
    assert pauses[:4] == [33, 63, 123, 243]
    assert set(pauses[4:]) == {MAX_SECONDS + 3}
    assert len(asked) * 3 / (process.now - begun) < 0.02
    assert tree(f"{process.root}/current") == A


def test_a_question_is_short_and_a_download_gets_more_time_with_each_failure(process, fake) -> None:
    for failures, seconds in enumerate((20, 40, 80, 160, 300, 300)):
        hang(process, 1)
        process.follow(after=MAX_SECONDS)
        timeouts = process.given[failures]
        assert timeouts.connect + timeouts.answer <= 3
        assert timeouts.download == seconds
    process.follower.follow(for_task=True)
    assert process.given[-1].download == 900


def test_a_server_that_refuses_at_once_is_polled_each_time(process, fake) -> None:
    fake.stop()
    assert [process.follow(after=1) for _ in range(5)] == [1] * 5
    fake.start()
    version = fake.deploy(A)
    assert process.follow(after=1) == 1
    assert live_version(process.root) == version


def test_success_ends_the_pauses_and_a_task_does_not_wait_for_their_end(process, fake) -> None:
    fake.deploy(A)
    hang(process, 3)
    process.follow()
    process.follow(after=30)
    assert process.follower.error
    fake.intercept = lambda _kind, _handler: False
    assert process.follow(after=1) == 0
    assert process.follower.error
    process.follower.follow(for_task=True)
    assert process.follower.error is None
    assert tree(f"{process.root}/current") == A
    hang(process, 3)
    process.follow()
    assert [process.follow(after=15) for _ in range(2)] == [0, 1]


def test_each_failure_is_logged_once(process, fake, caplog) -> None:
    hang(process, 3)
    for _ in range(20):
        process.follow(after=1)
    assert len(caplog.records) == 1
    assert "503" in caplog.text


def test_a_volume_that_refuses_is_an_error_like_any_other(process, fake, tmp_path) -> None:
    fake.deploy(A)
    (tmp_path / "bundle").write_text("in the way")
    process.follow()
    assert process.follower.error
    assert process.follower.error.code == "volume_failed"


def test_another_process_at_work_is_not_waited_for_for_long(process, fake, monkeypatch) -> None:
    monkeypatch.setattr("dagferry_airflow.follower.LOCK_SECONDS", 0.1)
    fake.deploy(A)
    with locked(process.root, 0):
        process.follow()
    assert process.follower.error.code == "root_in_use"
    process.follow(after=1)
    assert process.follower.error is None


def test_a_download_that_drips_costs_no_more_than_a_tenth_however_long_it_may_take(process, fake) -> None:
    fake.deploy(A)
    attempts = []
    while len(attempts) < 7:
        hang(process, min(FIRST_DOWNLOAD_SECONDS * 2 ** len(attempts), MAX_SECONDS))
        began = process.now + 1
        if process.follow(after=1):
            attempts.append((began, process.now))
    for (began, ended), (again, _) in itertools.pairwise(attempts):
        assert again - ended >= 10 * (ended - began)


@pytest.mark.parametrize("harm", ["file", "tree"])
def test_damage_is_found_after_a_while_and_mended(process, fake, harm) -> None:
    fake.deploy(A)
    process.follow()
    live = os.path.realpath(f"{process.root}/current")
    if harm == "tree":
        shutil.rmtree(live)
    else:
        with open(f"{live}/shop.py", "w") as file:
            file.write("by hand\n")
    process.follow(after=CHECK_SECONDS)
    assert process.follower.error is None
    assert tree(f"{process.root}/current") == A


# --- damage and other logs -------------------------------------------------------------------------------------------


def break_link(root: str) -> None:
    shutil.rmtree(os.path.realpath(f"{root}/current"))


def test_a_tree_that_is_removed_again_and_again_is_rebuilt_ever_less_often(process, root, fake) -> None:
    fake.deploy(A)
    process.follow()
    rebuilt, begun = [], process.now
    while process.now < begun + 280:
        if not rebuilt or os.path.isdir(f"{root}/current"):
            break_link(root)
        process.follow(after=1)
        if os.path.isdir(f"{root}/current"):
            rebuilt.append(process.now)
            assert process.follower.error is None
        else:
            assert process.follower.error.code == "tree_damaged"
    pauses = [later - earlier for earlier, later in itertools.pairwise(rebuilt)]
    assert pauses == [5, 10, 20, 40, MAX_PAUSE_SECONDS, 60, 60]


def test_a_pause_between_repairs_holds_up_neither_a_newer_deploy_nor_a_task(process, root, fake) -> None:
    fake.deploy(A)
    process.follow()
    for _ in range(2):
        break_link(root)
        process.follow(after=1)
    assert process.follower.error.code == "tree_damaged"
    process.follower.follow(for_task=True)
    assert tree(f"{root}/current") == A
    break_link(root)
    fake.deploy(B)
    process.follow(after=1)
    assert process.follower.error is None
    assert tree(f"{root}/current") == B


def test_another_log_id_is_followed_with_a_warning(process, root, fake, caplog) -> None:
    fake.deploy(A)
    process.follow()
    assert caplog.records == []
    fake.forget("restored")
    for _ in range(3):
        process.follow(after=CHECK_SECONDS)
    assert [record.message for record in caplog.records] == [
        "The server has another log id, restored, without deploys. The live tree stays."
    ], "once, although the server is polled more often"
    assert tree(f"{root}/current") == A
    fake.deploy(A)  # which has the version of the deploy that is live
    fake.deploy(B)
    process.follow(after=1)
    assert [record.message for record in caplog.records[1:]] == [
        "The server has another log id, restored, with deploys. They are followed."
    ]
    assert tree(f"{root}/current") == B


# --- touching again --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("swapped_by", ["itself", "another process"])
def test_what_a_swap_changed_is_touched_again_after_10_and_60_s(process, root, fake, swapped_by) -> None:
    fake.deploy(A)
    process.follow()
    assert process.touched_by(after=0) == set()
    fake.deploy(B)
    if swapped_by == "another process":
        Process(root, fake).follow()
    process.follow()
    assert process.touched_by(after=9.5) == set()
    assert process.touched_by(after=0.5) == CHANGED
    assert process.touched_by(after=49) == set()
    assert process.touched_by(after=1) == CHANGED
    assert process.touched_by(after=1000) == set()


def test_a_touch_that_another_process_at_work_holds_up_is_not_waited_for_again_and_again(
    process, fake, monkeypatch
) -> None:
    monkeypatch.setattr("dagferry_airflow.follower.CHECK_SECONDS", math.inf)
    waits = []

    @contextlib.contextmanager
    def busy(_root, _seconds):
        waits.append(process.now)
        process.now += 3
        raise RootInUse("busy")
        yield

    fake.deploy(A)
    process.follow()
    process.touched_by(after=0)
    fake.deploy(B)
    process.follow()
    with monkeypatch.context() as patched:
        patched.setattr("dagferry_airflow.follower.locked", busy)
        for _ in range(35):
            process.follow(after=1 if waits else 10)
    assert len(waits) == 2
    assert process.touched_by(after=40) == CHANGED


def test_an_unreachable_server_keeps_nothing_from_being_touched(process, fake) -> None:
    fake.deploy(A)
    process.follow()
    process.touched_by(after=0)
    fake.deploy(B)
    process.follow()
    hang(process, 3)
    process.follow()
    assert process.touched_by(after=10) == CHANGED


def test_what_this_process_cannot_have_read_before_is_not_touched(process, root, fake) -> None:
    process.follow()
    assert isinstance(process.follower.error, AwaitingFirstDeploy)
    assert live_version(root) == ""
    fake.deploy(A)
    process.follow()
    assert process.touched_by(after=100) == set()
    later = Process(root, fake)
    later.follow()
    assert later.touched_by(after=100) == set()
