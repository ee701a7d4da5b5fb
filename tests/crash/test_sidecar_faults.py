"""A sidecar that is killed, or whose volume refuses, at any system call: ``current`` stays whole, the next cycle heals.

Each promise is tried at every call that one clean run of ``--once`` makes in the root folder: see ``faults``.
"""

import errno
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from dagferry_follow.volume import in_use
from dagferry_follow.volume.lookup import trees_of
from dagferry_follow.volume.records import MANIFEST
from faults import (
    calls,
    error_points,
    injecting,
    kill_points,
    most_attempts,
    needs_strace,
    recording,
    struck,
    traced,
    try_each,
)
from harness import PATIENCE_SECONDS, eventually, tree
from invariants import check_log, check_no_root_leftovers, check_root

pytestmark = needs_strace

A = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n", "sql/load.sql": b"select 1\n", "old.py": b"pass\n"}
B = {**A, "shop.py": b"rate = 2\n", "new/deep/dag.py": b"pass\n"}
C = {**B, "shop.py": b"rate = 3\n", "copy.py": b"pass\n"}
del C["old.py"]
ONCE = ("--once", "--once-timeout", "10", "--keep-trees", "0", "--keep-hours", "0")
"""Of the old trees only the one before stays, so that each swap is followed by a removal."""


class Server(NamedTuple):
    url: str
    published: dict[str, dict[str, bytes]]
    newest: str


class Scenario:
    """One kind of run, from a root that is copied for each attempt."""

    def __init__(self, fork_sidecar, server: Server, folder: Path, prepared: Path) -> None:
        self._fork = fork_sidecar
        self.server = server
        self.folder = folder
        self.prepared = prepared
        self.trace = folder / "trace"
        self.attempts = 0
        self.damaged = False
        """Whether what is published in the prepared root is not what it should be."""

    def fresh(self) -> Path:
        self.attempts += 1
        root = self.folder / f"root-{self.attempts}"
        if self.prepared.exists():
            subprocess.run(["cp", "-a", self.prepared, root], check=True)
        return root

    def start(self, root: Path, **options):
        return self._fork(self.server.url, root, *ONCE, **options)

    def record(self):
        root = self.fresh()
        sidecar = self.start(root, stopped=True)
        with recording(sidecar.process.pid, self.trace):
            sidecar.process.send_signal(signal.SIGCONT)
            assert sidecar.process.wait(PATIENCE_SECONDS) == 0
        assert check_root(root, self.server.published) == self.server.newest
        check_no_root_leftovers(root, 1)
        return calls(self.trace, root)

    def heals(self, root: Path) -> None:
        sidecar = self.start(root)
        assert sidecar.process.wait(PATIENCE_SECONDS) == 0, sidecar.log.read_text()
        assert check_root(root, self.server.published) == self.server.newest
        # A kill between a swap and the removal of an old tree leaves that to the next swap, or the next check.
        check_no_root_leftovers(root, 2)
        check_log(sidecar.log)

    def killed(self, call, what) -> None:
        root = self.fresh()
        before = os.readlink(root / "current") if self.prepared.exists() else None
        sidecar = self.start(root, stopped=True)
        with injecting(sidecar.process.pid, self.trace, call, what):
            sidecar.process.send_signal(signal.SIGCONT)
            assert sidecar.process.wait(PATIENCE_SECONDS) == -signal.SIGKILL
        self.is_as_before_or_newest(root, before)
        self.heals(root)

    def failing(self, call, what) -> None:
        root = self.fresh()
        before = os.readlink(root / "current") if self.prepared.exists() else None
        sidecar = self.start(root, stopped=True)
        with injecting(sidecar.process.pid, self.trace, call, what):
            sidecar.process.send_signal(signal.SIGCONT)
            code = sidecar.process.wait(PATIENCE_SECONDS)
        assert struck(self.trace)
        check_log(sidecar.log)
        # Once it is at work it tries again by itself; before that it ends, and says why.
        assert code == 0 or (code == 6 and "New deploy available" not in sidecar.log.read_text()), (
            sidecar.log.read_text()
        )
        self.is_as_before_or_newest(root, before if code else None)
        self.heals(root)

    def is_as_before_or_newest(self, root: Path, before: str | None) -> None:
        """Check what is live: the tree from before the run, as it was, or the newest one, whole."""
        if os.path.lexists(root / "current") and os.readlink(root / "current") == before:
            assert tree(root / "current") == tree(self.prepared / "current")
            if self.damaged:
                return
        live = check_root(root, self.server.published)
        assert live == self.server.newest or live == os.path.basename(before or "")


class Held(Scenario):
    """A task uses the oldest tree, which no rule keeps: it stays until the task ends, whatever the sidecar meets."""

    fd = -1

    def fresh(self) -> Path:
        if self.fd >= 0:
            os.close(self.fd)
        root = super().fresh()
        self.version = min(self.server.published)
        (self.unique,) = trees_of(str(root), self.version)
        self.fd = in_use.hold(str(root), self.unique)
        return root

    def record(self):
        root = self.fresh()
        sidecar = self.start(root, stopped=True)
        with recording(sidecar.process.pid, self.trace):
            sidecar.process.send_signal(signal.SIGCONT)
            assert sidecar.process.wait(PATIENCE_SECONDS) == 0
        self.stays(root)
        return calls(self.trace, root)

    def is_as_before_or_newest(self, root: Path, before: str | None) -> None:
        super().is_as_before_or_newest(root, before)
        self.stays(root)

    def heals(self, root: Path) -> None:
        super().heals(root)
        self.stays(root)

    def stays(self, root: Path) -> None:
        assert tree(root / ".trees" / self.unique / self.version) == self.server.published[self.version]

    def ends(self) -> None:
        """End the task of the last attempt: the tree goes at the next removal."""
        root = self.folder / f"root-{self.attempts}"
        os.close(self.fd)
        self.fd = -1
        # Something to do, after which trees are removed.
        (root / "current" / "shop.py").resolve().write_bytes(b"torn")
        super().heals(root)
        assert not (root / ".trees" / self.unique).exists()


@pytest.fixture
def roots(fork_server, fork_sidecar, tmp_path):
    """Prepare a server with three deploys, and roots that were synced at the second and at the third."""
    (tmp_path / "server").mkdir()
    server = fork_server(tmp_path / "server" / "data").ready()
    published: dict[str, dict[str, bytes]] = {}
    prepared = tmp_path / "prepared"
    for files in (A, B, C):
        version = server.deploy(files)["version"]
        published[version] = files
        assert fork_sidecar(server.url, prepared, *ONCE).process.wait(PATIENCE_SECONDS) == 0
        subprocess.run(["cp", "-a", prepared, tmp_path / f"synced-{len(published)}"], check=True)
    told = Server(server.url, published, version)

    def scenario(name: str, kind: type[Scenario] = Scenario) -> Scenario:
        (tmp_path / "work").mkdir()
        return kind(fork_sidecar, told, tmp_path / "work", tmp_path / name)

    return scenario


def litter(root: Path) -> None:
    """Leave what a killed sidecar may leave: a link, a half-built tree, one that never went live, one half removed."""
    trees = root / ".trees"
    (trees / "link-0123456789abcdef").symlink_to(".trees/0123456789abcdef/x")
    (trees / "0123456789abcdef" / "half" / "sql").mkdir(parents=True)
    (trees / "0123456789abcdef" / "half" / "etl.py").write_bytes(b"imp")
    live = trees / os.readlink(root / "current").split("/")[1]
    shutil.copytree(live, trees / "1123456789abcdef")
    (trees / "2123456789abcdef").mkdir()


def test_a_first_sync_may_be_killed_at_any_call(roots) -> None:
    scenario = roots("nothing")
    assert try_each(kill_points(scenario.record()), scenario.killed) > 10


def test_a_patch_its_swap_and_the_removal_of_an_old_tree_may_be_killed_at_any_call(roots) -> None:
    scenario = roots("synced-2")
    assert try_each(kill_points(scenario.record()), scenario.killed) > 20


def test_a_start_that_sweeps_may_be_killed_at_any_call(roots) -> None:
    scenario = roots("synced-3")
    litter(scenario.prepared)
    assert try_each(kill_points(scenario.record()), scenario.killed) > 5


def test_a_first_sync_survives_an_error_at_any_call(roots) -> None:
    scenario = roots("nothing")
    assert try_each(error_points(scenario.record()), scenario.failing) > 50


def test_a_patch_its_swap_and_the_removal_of_an_old_tree_survive_an_error_at_any_call(roots) -> None:
    scenario = roots("synced-2")
    assert try_each(error_points(scenario.record()), scenario.failing) > 50


def test_a_start_that_sweeps_survives_an_error_at_any_call(roots) -> None:
    scenario = roots("synced-3")
    litter(scenario.prepared)
    assert try_each(error_points(scenario.record()), scenario.failing) > 50


@pytest.mark.parametrize(
    ("names", "error"),
    [
        ("?mkdir,?mkdirat", "ENOSPC"),
        ("openat", "EMFILE"),
        ("?symlink,?symlinkat", "EACCES"),
        ("?rename,?renameat,?renameat2", "EROFS"),
    ],
)
def test_a_volume_that_refuses_for_long_costs_neither_the_tree_nor_the_truth(
    fork_server, fork_sidecar, tmp_path, names, error
) -> None:
    server = fork_server(tmp_path / "data").ready()
    old = server.deploy(A)["version"]
    published = {old: A}
    pod = fork_sidecar(server.url, tmp_path / "root")
    pod.runs(old)

    def failures() -> float:
        return pod.metric('dagferry_sidecar_syncs_total{outcome="volume_failed"}')

    with traced(pod.process.pid, tmp_path / "trace", "-e", f"trace={names}", "-e", f"inject={names}:error={error}"):
        new = server.deploy(B)["version"]
        published[new] = B
        most_attempts(failures, at_least=4, first_pause=0.05)
        assert check_root(pod.root, published) == old
        status, body = pod.probe("/readyz")
        assert status == 200, "its DAGs can be run as before"
        told = json.loads(body)
        assert (told["version"], told["error"]["code"]) == (old, "volume_failed")
        assert os.strerror(getattr(errno, error)) in told["error"]["message"]
        assert pod.metric("dagferry_sidecar_live_sequence") == 1
    pod.runs(new)
    assert check_root(pod.root, published) == new
    eventually("all to be well", lambda: json.loads(pod.probe("/readyz")[1])["error"] is None)
    check_no_root_leftovers(pod.root, 3)
    check_log(pod.log)


def test_a_damaged_tree_that_is_built_again_may_be_killed_at_any_call(roots) -> None:
    scenario = roots("synced-3")
    (scenario.prepared / "current" / "shop.py").resolve().write_bytes(b"torn")
    scenario.damaged = True
    assert try_each(kill_points(scenario.record()), scenario.killed) > 10


def test_a_tree_with_a_foreign_file_that_is_linked_anew_may_be_killed_at_any_call(roots) -> None:
    scenario = roots("synced-3")
    (scenario.prepared / "current" / "mine.py").resolve().write_bytes(b"pass\n")
    scenario.damaged = True
    assert try_each(kill_points(scenario.record()), scenario.killed) > 10


def test_a_tree_that_a_task_uses_outlives_a_kill_at_any_call(roots) -> None:
    scenario = roots("synced-2", Held)
    assert try_each(kill_points(scenario.record()), scenario.killed) > 20
    scenario.ends()


def test_a_tree_that_a_task_uses_outlives_an_error_of_any_call_that_looks_for_tasks(roots) -> None:
    scenario = roots("synced-2", Held)
    looks = [call for call in scenario.record() if call.name == "flock" or MANIFEST in call.kind]
    points = [point for point in error_points(looks) if not point[1].endswith("ENOSPC")]  # that does cost trees
    assert try_each(points, scenario.failing) > 5
    scenario.ends()
