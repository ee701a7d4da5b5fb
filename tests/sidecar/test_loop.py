"""The loop in this process, with a real volume and a real server: what processes cannot be asked in a short time."""

import itertools
import logging
import os
import random
import threading
import time

import pytest

from dagferry_core.errors import DagferryError
from dagferry_follow.choose import Condition
from dagferry_follow.remote import inflate
from dagferry_follow.remote.server import SILENCE_SECONDS, Server
from dagferry_follow.volume import in_use
from dagferry_follow.volume.volume import Volume
from dagferry_runtime.signals import Stopping
from dagferry_sidecar import decide, loop, pace
from dagferry_sidecar.loop import Loop
from dagferry_sidecar.settings import read_settings
from dagferry_sidecar.state import Apply, ApplyFailed, Changed, Check, Checked, NotModified, Poll, Published, Touch
from dagferry_sidecar.stats import Stats
from harness import PATIENCE_SECONDS

pytestmark = pytest.mark.slow

A = {"dag.py": b"import helper\n", "helper.py": b"rate = 1\n", "other.py": b"pass\n"}
B = {**A, "helper.py": b"rate = 2\n"}


class Watched(Loop):
    """Does one step at a time, and notes what was done and what came of it."""

    def __init__(self, root: str, url: str, *flags: str) -> None:
        flags = ("--root", root, "--server", url, "--poll-wait", "1", "--poll-interval", "0.05", *flags)
        self.stats = Stats()
        self.volume = Volume(root)
        self.server = Server(url, "default", "pod", agent="test")
        damage = self.volume.load()
        self.volume.sweep()
        super().__init__(read_settings(flags, {}), self.volume, damage, self.server, self.stats, stopping=Stopping())
        self.done: list[tuple[object, object]] = []
        self.action = self._next(self._started())

    def until(self, seen) -> "Watched":
        """Go on until what ``seen`` finds in the last step is true."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            event = self._do(self.action)
            self.done.append((self.action, event))
            self.action = self._next(event)
            if seen(*self.done[-1]):
                return self
            assert time.monotonic() < deadline, self.done[-5:]

    def close(self) -> None:
        self.server.close()
        self.volume.close()


@pytest.fixture
def watched(fake, tmp_path):
    made: list[Watched] = []

    def start(*flags: str) -> Watched:
        for before in made:
            before.close()
        made[:] = [Watched(str(tmp_path / "root"), fake.url, *flags)]
        return made[0]

    yield start
    for last in made:
        last.close()


def published(action, event) -> bool:
    return isinstance(event, Published)


def mtimes(tmp_path) -> dict[str, int]:
    current = tmp_path / "root" / "current"
    return {name: (current / name).stat().st_mtime_ns for name in os.listdir(current)}


def test_fresh_files_are_touched_again_twice_and_no_other(fake, tmp_path, watched, monkeypatch) -> None:
    monkeypatch.setattr(decide, "TOUCH_AGAIN_SECONDS", (0.3, 1.2))
    fake.deploy(A)
    watched().until(published)
    fake.deploy(B)
    looping = watched().until(published)
    seen = [mtimes(tmp_path)]
    # As if the swap had been in the past: its mtimes may be up to a second ahead of the clock.
    clock = time.time
    monkeypatch.setattr(loop.time, "time", lambda: clock() + 10)
    for _ in range(2):
        looping.until(lambda action, _: isinstance(action, Touch))
        seen.append(mtimes(tmp_path))
    for before, after in itertools.pairwise(seen):
        assert {name for name in A if after[name] > before[name]} == {"dag.py", "helper.py"}
    looping.until(lambda _, event: isinstance(event, Checked))
    assert looping.done[-1][1].condition is Condition.INTACT, "its own touch is no damage"


def test_files_a_swap_made_fresh_are_touched_again_although_the_sidecar_was_restarted(
    fake, tmp_path, watched, monkeypatch
) -> None:
    monkeypatch.setattr(decide, "TOUCH_AGAIN_SECONDS", (3.6, 60.0))
    fake.deploy(A)
    watched().until(published)
    long_ago = time.time() - 1000
    for name in A:
        os.utime(tmp_path / "root" / "current" / name, (long_ago, long_ago))
    watched()
    fake.deploy(B)
    watched().until(published)
    clock = time.time
    monkeypatch.setattr(loop.time, "time", lambda: clock() + 3)
    again = watched().until(lambda action, _: isinstance(action, Touch))
    assert again.done[-1][0] == Touch(("dag.py", "helper.py"))


def trickle(fake, kind: str):
    """Send a body of this kind in twenty pieces, one every 0.1 s."""

    def intercept(asked: str, handler) -> bool:
        if asked != kind:
            return False
        new, old = fake.deploys[-1][1], fake.deploys[-2][1]
        body = new.body if kind == "whole" else new.patch_from(old)
        handler.send_response(200)
        content_type = "application/zstd" if kind == "whole" else "application/vnd.dagferry.patch"
        handler.send_header("Content-Type", content_type)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        for start in range(0, len(body), len(body) // 20):
            handler.wfile.write(body[start : start + len(body) // 20])
            handler.wfile.flush()
            time.sleep(0.1)
        return True

    return intercept


@pytest.mark.parametrize("kind", ["whole", "patch"])
def test_files_are_touched_in_time_though_a_download_drips(fake, tmp_path, watched, monkeypatch, kind) -> None:
    monkeypatch.setattr(decide, "TOUCH_AGAIN_SECONDS", (0.5, 60.0))
    monkeypatch.setattr(inflate, "HEARTBEAT_SECONDS", 0.1)
    fake.deploy(A)
    watched().until(published)
    fake.deploy(B)
    looping = watched().until(published)
    clock = time.time
    monkeypatch.setattr(loop.time, "time", lambda: clock() + 10)
    fake.intercept = trickle(fake, kind)
    if kind == "whole":
        fake.corrupt = lambda _kind, _body: b"no patch"
    touched: list[str] = []
    touch = looping._touch
    monkeypatch.setattr(
        looping, "_touch", lambda action: (touched.append(looping.volume.live.record.version), touch(action))
    )
    fake.deploy({**B, "data.bin": random.Random(1).randbytes(60_000)})
    looping.until(lambda action, event: isinstance(action, Apply) and isinstance(event, Published))
    assert touched == [fake.deploys[1][0]["version"]], "before the swap, and once"
    assert not looping.volume.check(), "what was touched meanwhile is no damage in the new tree"
    assert mtimes(tmp_path)["dag.py"] > (clock() + 5) * 1e9, "the new tree has it too"


def test_files_are_touched_in_time_though_the_server_says_nothing(fake, watched, monkeypatch) -> None:
    monkeypatch.setattr(decide, "TOUCH_AGAIN_SECONDS", (0.3, 60.0))
    monkeypatch.setattr(pace, "MAX_TOUCH_DELAY_SECONDS", 0.5)
    fake.deploy(A)
    watched().until(published)
    fake.deploy(B)
    looping = watched().until(published)
    swapped = time.monotonic()
    over = threading.Event()
    fake.intercept = lambda *_: over.wait(PATIENCE_SECONDS)
    looping.until(lambda action, _: isinstance(action, Touch))
    assert time.monotonic() - swapped < SILENCE_SECONDS, "before a silence is too long"
    over.set()


def test_a_bug_costs_the_deploy_and_not_the_pod(fake, watched, monkeypatch, caplog) -> None:
    def break_down(*_args: object) -> None:
        raise RuntimeError("nobody thought of that")

    fake.deploy(A)
    looping = watched()
    monkeypatch.setattr(looping.volume, "stage", break_down)
    looping.until(lambda _, event: isinstance(event, ApplyFailed))
    assert "nobody thought of that" in caplog.text
    assert looping.stats.syncs[DagferryError.code] == 1
    monkeypatch.undo()
    looping.until(published)


def test_a_failure_is_logged_once_and_its_end_too(fake, watched, caplog) -> None:
    fake.deploy(A)
    looping = watched().until(published)
    fake.stop()
    caplog.set_level(logging.INFO)
    looping.until(lambda *_: looping.stats.syncs["server_unreachable"] >= 4)
    fake.start()
    looping.until(lambda _, event: isinstance(event, (Changed, NotModified)))
    told = [record.message for record in caplog.records]
    assert len([message for message in told if "does not answer" in message]) == 1
    assert told.count("Recovered") == 1


def test_what_the_outside_sees_is_what_is(fake, watched) -> None:
    version = fake.deploy(A)
    looping = watched().until(published)
    looping.until(lambda _, event: isinstance(event, NotModified))
    stats = looping.stats
    assert stats.live is not None
    assert (stats.live.version, stats.intact, stats.error) == (version, True, None)
    assert stats.syncs["ok"] == stats.sync_count == 1
    assert stats.sync_seconds > 0
    assert (stats.trees, stats.tree_bytes) == (1, 7 * 4096), "three files, two folders, two records"
    assert stats.download_bytes == {"whole": len(fake.deploys[0][1].body), "patch": 0}
    assert stats.last_contact > 1e9


def test_old_trees_are_retired_after_a_swap(fake, tmp_path, watched) -> None:
    looping = watched("--keep-trees", "1", "--keep-hours", "0")
    for number in range(5):
        fake.deploy({**A, "number.py": b"n = %d\n" % number})
        looping.until(published)
    assert len(list((tmp_path / "root" / ".trees").glob("*/deploy.json"))) == 2
    assert looping.stats.trees == 2


def test_a_deploy_is_one_poll_and_one_apply(fake, watched) -> None:
    fake.deploy(A)
    looping = watched().until(published)
    assert [type(action).__name__ for action, _ in looping.done] == ["Poll", "Apply"]
    assert isinstance(looping.done[-1][0], Apply)


def test_a_tree_that_a_task_uses_stays_and_is_reported(fake, watched) -> None:
    versions = [fake.deploy({**A, "helper.py": b"rate = %d\n" % number}) for number in range(2)]
    looping = watched("--keep-trees", "0", "--keep-hours", "0")
    looping.until(lambda _, event: isinstance(event, Published))
    held = in_use.hold(looping.volume.root.path, looping.volume.live.unique)
    for number in range(2, 5):
        versions.append(fake.deploy({**A, "helper.py": b"rate = %d\n" % number}))
        looping.until(lambda _, event: isinstance(event, Published))
    looping.until(lambda action, _: isinstance(action, Check))
    assert [tree.record.version for tree in looping.volume.old] == [versions[3], versions[1]]
    assert looping.stats.used_trees == 1
    fake.requests.clear()
    looping.until(lambda action, _: isinstance(action, Poll))
    assert fake.requests[-1][1]["Dagferry-In-Use"] == "1"
    os.close(held)
    looping.until(lambda action, _: isinstance(action, Check))
    assert [tree.record.version for tree in looping.volume.old] == [versions[3]]
    looping.until(lambda action, _: isinstance(action, Poll))
    assert "Dagferry-In-Use" not in fake.requests[-1][1]
