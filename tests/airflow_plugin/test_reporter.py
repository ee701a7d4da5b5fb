"""When a report is sent, and how a dag processor keeps its name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dagferry_airflow.reporter import FIRST_PAUSE_SECONDS, NOT_NOW_SECONDS, REPORT_SECONDS, Identity, NotNow, Reporter
from dagferry_core.errors import DagferryError
from dagferry_follow.errors import ServerRefused, ServerUnreachable

HOME = Path(__file__).parents[2]


class Post:
    """What is reported to: it fails, or answers."""

    def __init__(self) -> None:
        self.got: list[dict[str, object]] = []
        self.now = 0.0
        self.takes = 0.0
        self.answer: Exception | dict[str, object] = {"report_seconds": 30, "ignored": None}

    def __call__(self, data: dict[str, object]) -> bytes:
        self.got.append(data)
        self.now += self.takes
        if isinstance(self.answer, Exception):
            raise self.answer
        return json.dumps(self.answer).encode()


@pytest.fixture
def post() -> Post:
    return Post()


@pytest.fixture
def reporter(post: Post) -> Reporter:
    return Reporter(post, clock=lambda: post.now)


def said(what: str) -> dict[str, object]:
    return {"parsed": None, "what": what}


def test_what_changed_is_sent_at_once_and_the_rest_as_often_as_the_server_says(post, reporter) -> None:
    for what in ("a", "a", "b", "b"):
        reporter.report(said(what))
    assert post.got == [said("a"), said("b")]
    post.now = 29.9
    reporter.report(said("b"))
    assert len(post.got) == 2
    post.now = 30.0
    reporter.report(said("b"))
    assert len(post.got) == 3


@pytest.mark.parametrize("answer", [b"", b"[]", b"9", b"[" * 60_000, b"\xff"])
def test_an_answer_that_says_nothing_is_no_failure(post, answer) -> None:
    reporter = Reporter(lambda data: post(data) and answer, clock=lambda: post.now)
    for _ in range(2):
        reporter.report(said("a"))
    assert post.got == [said("a")]


@pytest.mark.parametrize("seconds", [None, "often", 1e9, -1, float("nan"), pytest.param(10**400, id="huge")])
def test_an_odd_interval_is_not_followed(post, reporter, seconds: object) -> None:
    post.answer = {"report_seconds": seconds}
    reporter.report(said("a"))
    post.now = 10 * REPORT_SECONDS
    reporter.report(said("a"))
    reporter.report(said("a"))
    assert len(post.got) == 2


@pytest.mark.parametrize("error", [ServerUnreachable("away"), ServerRefused("no")])
def test_failures_are_followed_by_growing_pauses_and_logged_once(post, reporter, error: DagferryError, caplog) -> None:
    post.answer = error
    moments = []
    for second in range(200):
        post.now = float(second)
        before = len(post.got)
        reporter.report(said(str(second)))
        if len(post.got) > before:
            moments.append(second)
    assert moments == [pauses * FIRST_PAUSE_SECONDS for pauses in (0, 1, 3, 7, 15, 31)]
    assert len(caplog.records) == 1
    post.now, post.answer = 1000.0, {"report_seconds": 30}
    reporter.report(said("a"))
    post.now, post.answer = 1001.0, error
    reporter.report(said("b"))
    assert len(caplog.records) == 2


def test_a_slow_server_blocks_for_a_tenth_of_the_time(post, reporter) -> None:
    post.answer, post.takes = ServerUnreachable("slow"), 3.0
    reporter.report(said("a"))
    post.now = 32.9
    reporter.report(said("b"))
    assert len(post.got) == 1
    post.now = 33.0
    reporter.report(said("b"))
    assert len(post.got) == 2


def test_what_is_no_longer_so_is_not_sent_again_and_is_no_failure(post, reporter, caplog) -> None:
    post.answer = NotNow()
    reporter.report(said("a"))
    reporter.report(said("b"))
    assert len(post.got) == 1, "there is a pause"
    post.now += NOT_NOW_SECONDS
    reporter.report(said("b"))
    reporter.leave(said("c"))
    assert len(post.got) == 3
    assert caplog.records == []


def test_why_the_server_ignores_a_report_is_logged_once(post, reporter, caplog) -> None:
    post.answer = {"report_seconds": 30, "ignored": "It is about another log."}
    for what in "abc":
        reporter.report(said(what))
    assert [record.getMessage() for record in caplog.records] == [
        "The server ignores what Airflow has parsed: It is about another log."
    ]


def test_an_answer_that_is_no_json_is_an_answer(reporter) -> None:
    reporter._post = lambda _: b"<html>"
    reporter.report(said("a"))


def test_an_id_is_the_same_after_a_restart_and_another_one_beside_the_first(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    root = str(tmp_path / "root")
    packages = [str(HOME / name) for name in ("core", "follow", "airflow_plugin")]
    code = (
        f"import sys, tempfile; sys.path[:0] = {packages!r}\n"
        f"tempfile.tempdir = {str(tmp_path)!r}\n"
        "from dagferry_airflow.reporter import Identity\n"
        f"print(Identity({root!r}, 'pod').id)"
    )

    def other() -> str:
        return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()

    first = other()
    assert len(first) == 32
    mine = Identity(root, "pod")
    assert mine.id == first
    assert other() != first
    assert Identity(root, "other-pod").id not in {first, other()}


def test_the_volume_names_itself(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("here", "there"):
        (tmp_path / name / ".trees").mkdir(parents=True)
        (tmp_path / name / ".trees/lock").write_text("0123456789abcdef" * 2)
    first = Identity(str(tmp_path / "here"), "pod").id
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "there"))
    assert Identity(str(tmp_path / "there"), "pod").id == first, "mounted elsewhere it is the same volume"


def test_without_a_folder_to_lock_there_is_an_id_too(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    assert len(Identity(str(tmp_path), "pod").id) == 32
