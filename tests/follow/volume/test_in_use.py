"""Trees that processes use: each holds a lock on its tree, which ends with the process."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from dagferry_follow.volume import in_use
from dagferry_follow.volume.records import MANIFEST
from harness import eventually
from publishing import publish, trees_of
from volumes import mounted, needs_mounts, only_root

HOLDER = """
import os, sys
from dagferry_follow.volume import in_use
in_use.hold(*sys.argv[1:3])
{then}
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def trees(root, opened) -> list[str]:
    """The unique names of three trees, the oldest first; the last one is live."""
    volume = opened()
    for number in (1, 2, 3):
        publish(volume, number)
    return [*(tree.unique for tree in reversed(volume.old)), volume.live.unique]


@pytest.fixture
def holder(root) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start processes that hold a tree; they run until their input ends."""
    started: list[subprocess.Popen[str]] = []

    def start(unique: str, then: str = "") -> subprocess.Popen[str]:
        code = HOLDER.format(then=then)
        process = subprocess.Popen([sys.executable, "-c", code, root, unique], text=True, stdin=-1, stdout=-1)
        started.append(process)
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for file in (process.stdin, process.stdout):
            file.close()


def test_a_tree_is_used_from_hold_to_the_end_of_the_process_however_it_ends(root, trees, holder) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        process = holder(trees[0])
        assert in_use.used(str(root), trees) == {trees[0]}
        process.send_signal(how)
        process.wait()
        assert in_use.used(str(root), trees) == set()


def test_several_processes_use_one_tree_and_the_live_one_too(root, trees) -> None:
    held = [in_use.hold(str(root), unique) for unique in (trees[0], trees[0], trees[2])]
    assert in_use.used(str(root), trees) == {trees[0], trees[2]}
    os.close(held.pop(0))
    assert in_use.used(str(root), trees) == {trees[0], trees[2]}
    for fd in held:
        os.close(fd)
    assert in_use.used(str(root), trees) == set()


def test_a_forked_child_uses_the_tree_after_its_parent_and_a_program_that_is_started_does_not(
    root, trees, holder
) -> None:
    process = holder(trees[0], then="if os.fork(): os._exit(0)")
    process.wait()
    assert in_use.used(str(root), trees) == {trees[0]}
    process.stdin.close()
    eventually("the child to end", lambda: not in_use.used(str(root), trees))
    spawn = (
        "os.environ['HELD'] = 'x'\n"
        "os.posix_spawn('/bin/sh', ['sh', '-c', 'echo held; read line'], os.environ)\n"
        "os._exit(0)"
    )
    process = holder(trees[1], then=spawn)
    process.wait()
    assert in_use.used(str(root), trees) == set(), "what a task leaves behind keeps no tree"


def test_a_tree_that_is_gone_or_half_removed_or_never_was_published_cannot_be_held(root, trees, opened) -> None:
    with pytest.raises(FileNotFoundError):
        in_use.hold(str(root), "0123456789abcdef")
    # A removal that was killed: it takes the mark first.
    (root / ".trees" / trees[0] / "ended").unlink()
    with pytest.raises(FileNotFoundError):
        in_use.hold(str(root), trees[0])
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        in_use.hold(str(root), trees[0])
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_tree_cannot_be_held_while_it_is_removed_nor_afterwards_by_a_file_that_was_open(
    root, trees, monkeypatch
) -> None:
    monkeypatch.setattr(in_use, "HOLD_ATTEMPTS", 2)
    folder = root / ".trees" / trees[0]
    with in_use.unless_used(str(folder)) as is_unused:
        assert is_unused
        with pytest.raises(FileNotFoundError):
            in_use.hold(str(root), trees[0])
    flock = fcntl.flock

    def replaced(fd: int, kind: int) -> None:
        """Another process has removed the tree, and a third one made another, between open and lock."""
        (folder / MANIFEST).rename(folder / "gone")
        (folder / MANIFEST).write_bytes((folder / "gone").read_bytes())
        flock(fd, kind)

    monkeypatch.setattr(fcntl, "flock", replaced)
    with pytest.raises(FileNotFoundError):
        in_use.hold(str(root), trees[0])


def test_a_look_of_another_process_is_waited_for(root, trees, monkeypatch) -> None:
    looked = os.open(root / ".trees" / trees[0] / MANIFEST, os.O_RDONLY)
    fcntl.flock(looked, fcntl.LOCK_EX)
    monkeypatch.setattr("time.sleep", lambda _: os.close(looked))
    fd = in_use.hold(str(root), trees[0])
    assert in_use.used(str(root), trees) == {trees[0]}
    os.close(fd)


@pytest.mark.parametrize("reason", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF])
def test_without_locks_holding_is_an_error_that_leaves_nothing_open_and_no_tree_is_used(
    root, trees, monkeypatch, reason
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(reason, os.strerror(reason))))
        with pytest.raises(OSError, match=os.strerror(reason)) as caught:
            in_use.hold(str(root), trees[0])
        assert not isinstance(caught.value, FileNotFoundError)
        assert in_use.used(str(root), trees) == set()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_whether_a_tree_is_used_is_not_guessed_when_no_file_can_be_opened(root, trees, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", lambda *_: (_ for _ in ()).throw(OSError(errno.EMFILE, "too many")))
        assert in_use.used(str(root), trees) == set(trees)
    (root / ".trees" / trees[0] / MANIFEST).unlink()
    assert in_use.used(str(root), trees) == set()


@only_root
def test_another_user_who_may_only_read_holds_a_tree(root, trees) -> None:
    child = os.fork()
    if not child:
        os.chdir(root)  # the folders above are closed to other users
        os.setuid(65534)
        try:
            in_use.hold(".", trees[0])
            os._exit(0 if in_use.used(".", trees) == {trees[0]} else 1)
        except BaseException:  # noqa: BLE001 - a forked child must not go on with the tests
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@needs_mounts
def test_a_tree_is_held_through_a_mount_that_is_read_only(root, trees, tmp_path) -> None:
    with mounted(tmp_path / "bound", "--bind", root):
        subprocess.run(["mount", "-o", "remount,bind,ro", tmp_path / "bound"], check=True)
        with pytest.raises(OSError, match="Read-only"):
            (tmp_path / "bound/file").write_bytes(b"")
        fd = in_use.hold(f"{tmp_path}/bound", trees[0])
        assert in_use.used(str(root), trees) == {trees[0]}
        os.close(fd)
    assert in_use.used(str(root), trees) == set()


def test_looking_changes_nothing(root, trees) -> None:
    before = {path: path.lstat().st_mtime_ns for path in root.rglob("*")}
    fd = in_use.hold(str(root), trees[0])
    in_use.used(str(root), trees)
    os.close(fd)
    assert {path: path.lstat().st_mtime_ns for path in root.rglob("*")} == before
    assert trees_of(root) == set(trees)
