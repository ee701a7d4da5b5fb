"""The power fails: what the server has answered with 200 is there, and a sidecar finds the tree that was torn.

A disk is played by an ext4 in a file. What the file holds while it is mounted is what a power cut would leave.
"""

import os
import signal
from pathlib import Path

import pytest

from faults import calls, injecting, kill_points, needs_strace, recording, try_each
from harness import PATIENCE_SECONDS, pack
from invariants import check_log, check_root, check_server
from volumes import Disk, needs_mounts

pytestmark = [needs_strace, needs_mounts]

A = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n", "sql/load.sql": b"select 1\n"}
B = {**A, "shop.py": b"rate = 2\n", "new/dag.py": b"pass\n" * 1000}


class Machine:
    """A server on a disk. Nothing here asks it whether it can write: that would sync the disk."""

    def __init__(self, fork_server, folder: Path) -> None:
        self.fork_server = fork_server
        self.folder = folder
        self.mount = folder / "mount"
        self.trace = folder / "trace"
        self.data = self.mount / "data"
        self.disk = Disk.make(folder / "disk")
        with self.disk.mounted(self.mount):
            server = self.start()
            assert server.deploy(A)["sequence"] == 1
            server.stop()

    def start(self):
        return self.fork_server(self.data, log=self.folder / "server.log").ready()

    def copy(self, name: str) -> Disk:
        return self.disk.after_power_cut(self.folder / name)

    def holds(self, disk: Disk, sequences: set[int]) -> None:
        """The server starts on this disk, its log is whole, and it has as many deploys as it may have."""
        with disk.mounted(self.mount):
            server = self.start()
            try:
                assert len(check_server(server)) in sequences
                assert server.deploy(B)["sequence"] == 2
            finally:
                server.kill()


@pytest.fixture
def machine(fork_server, tmp_path) -> Machine:
    return Machine(fork_server, tmp_path)


def upload(server) -> int:
    try:
        return server.request("/upload", pack(B))[0]
    except OSError:
        return 0


def test_an_upload_that_was_answered_survives_a_power_cut_right_after(machine) -> None:
    with machine.disk.mounted(machine.mount):
        server = machine.start()
        assert upload(server) == 200
        server.kill()
        cut = machine.copy("cut")
    machine.holds(cut, {2})


def test_a_power_cut_at_any_call_of_an_upload_leaves_the_old_deploy_or_the_new_one(machine) -> None:
    with machine.copy("recorded").mounted(machine.mount):
        server = machine.start()
        with recording(server.process.pid, machine.trace):
            assert upload(server) == 200
            server.stop()
    points = kill_points(calls(machine.trace, machine.data))

    def attempt(call, what) -> None:
        used = machine.copy("used")
        with used.mounted(machine.mount):
            server = machine.start()
            with injecting(server.process.pid, machine.trace, call, what):
                answered = upload(server)
                server.stop(expected=None)
            assert server.process.returncode == -signal.SIGKILL
            cut = used.after_power_cut(machine.folder / "cut")
            # Now only the process died, the client tries again, and then the power fails.
            server = machine.start()
            assert upload(server) == 200
            server.kill()
            later_cut = used.after_power_cut(machine.folder / "later")
        machine.holds(cut, {2} if answered == 200 else {1, 2})
        machine.holds(later_cut, {2})

    assert try_each(points, attempt) > 15


def test_a_sidecar_finds_what_a_power_cut_tore_and_builds_it_again(fork_server, fork_sidecar, tmp_path) -> None:
    server = fork_server(tmp_path / "data").ready()
    published = {}
    disk = Disk.make(tmp_path / "disk")
    mount = tmp_path / "mount"
    root = mount / "root"

    def sync(root: Path):
        sidecar = fork_sidecar(server.url, root, "--once", log=tmp_path / "sidecar.log")
        assert sidecar.process.wait(PATIENCE_SECONDS) == 0, sidecar.log.read_text()
        check_log(sidecar.log)

    with disk.mounted(mount):
        for files in (A, B):
            published[server.deploy(files)["version"]] = files
            sync(root)
        # Something else on the volume is synced, and takes the names along, but not the contents.
        (mount / "other").write_bytes(b"")
        with (mount / "other").open("rb") as file:
            os.fsync(file.fileno())
        cut = disk.after_power_cut(tmp_path / "cut")
    with cut.mounted(mount):
        corrupt = {path.name for path in (root / "current").rglob("*") if path.is_file() and not path.stat().st_size}
        assert corrupt, "nothing was torn, so there is nothing to find"
        sync(root)
        assert check_root(root, published) == list(published)[-1]
