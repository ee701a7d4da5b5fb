"""The root folder has one owner, and its link is never anything but complete."""

import errno
import fcntl
import os
import re
import stat
import subprocess
import sys

import pytest

from dagferry_follow.errors import RootInUse, RootUnusable, VolumeFailed
from dagferry_follow.volume.root import LOCK_HINT, Root, failures

TARGET = ".trees/0123456789abcdef/v-1"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "root"


@pytest.fixture
def root(path):
    owned = Root(str(path))
    yield owned
    owned.close()


def refuse(reason: int):
    def fail(*_args: object, **_kinds: object) -> None:
        raise OSError(reason, os.strerror(reason))

    return fail


def test_a_root_is_made_readable_for_all_and_owned_until_it_is_closed(path, root) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert sorted(os.listdir(path / ".trees")) == ["lock"]
    assert root.modes
    with pytest.raises(RootInUse, match="Another sidecar owns"):
        Root(str(path))
    root.close()
    root.close()
    Root(str(path)).close()


def test_it_is_owned_anew_if_its_lock_was_removed_and_reports_whether_the_trees_are_gone(path, root, caplog) -> None:
    assert not root.own()
    (path / ".trees" / "lock").unlink()
    assert not root.own()
    assert "lock is missing. It is created again." in caplog.text
    (path / ".trees" / "lock").unlink()
    (path / ".trees").rmdir()
    assert root.own()
    with pytest.raises(RootInUse):
        Root(str(path))


@pytest.mark.parametrize(
    ("mode", "opened"), [(0o700, 0o755), (0o2700, 0o2755), (0o711, 0o711), (0o750, 0o750), (0o770, 0o770)]
)
def test_a_root_that_is_closed_to_all_others_is_opened(path, mode, opened, caplog) -> None:
    path.mkdir(parents=True)
    path.chmod(mode)
    Root(str(path)).close()
    assert stat.S_IMODE(path.stat().st_mode) == opened
    assert ("No other user could read" in caplog.text) == (mode != opened)


def test_a_closed_root_of_somebody_else_is_reported_and_one_of_a_volume_without_modes_is_not(
    path, monkeypatch, caplog
) -> None:
    path.mkdir(parents=True)
    path.chmod(0o700)
    with monkeypatch.context() as patched:
        patched.setattr(os, "chmod", lambda *_: None)
        Root(str(path)).close()
    assert "No other user" not in caplog.text
    monkeypatch.setattr(os, "chmod", refuse(errno.EPERM))
    Root(str(path)).close()
    assert "It belongs to another user" in caplog.text


@pytest.mark.parametrize("reason", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_volume_without_locks_is_refused_with_what_to_do(path, monkeypatch, reason) -> None:
    monkeypatch.setattr(fcntl, "flock", refuse(reason))
    with pytest.raises(RootUnusable, match=f"lock cannot be locked: {os.strerror(reason)}") as caught:
        Root(str(path))
    assert caught.value.hint == LOCK_HINT


def test_a_root_that_cannot_be_made_is_refused_by_name(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RootUnusable, match="file/root cannot be used: Not a directory"):
        Root(str(tmp_path / "file" / "root"))


def test_a_root_that_turns_out_to_lack_something_is_given_up(path, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, "symlink", refuse(errno.EPERM))
        with pytest.raises(RootUnusable, match="does not support symbolic links"):
            Root(str(path))
    with monkeypatch.context() as patched:
        patched.setattr(os, "rmdir", refuse(errno.EIO))
        with pytest.raises(VolumeFailed, match="Input/output error"):
            Root(str(path))
    Root(str(path)).close()


@pytest.mark.parametrize(
    "target", ["/opt/dags", ".trees/../x/y", ".trees/0123456789abcdef", f"{TARGET}/x", f"x{TARGET}"]
)
def test_a_link_of_somebody_else_is_refused_at_first_and_replaced_where_a_sidecar_has_been(
    path, target, caplog
) -> None:
    path.mkdir(parents=True)
    (path / "current").symlink_to(target)
    with pytest.raises(RootUnusable, match="not a link that a sidecar created"):
        Root(str(path))
    (path / ".trees").mkdir()
    root = Root(str(path))
    assert "is not a link that a sidecar created. It is replaced." in caplog.text
    assert root.target() == root.published_version() == ""
    root.close()


def test_the_link_changes_by_one_rename_and_gives_the_version_if_it_leads_anywhere(path, root) -> None:
    assert (root.target(), root.published_version()) == ("", "")
    root.point_at(TARGET)
    assert (root.target(), root.published_version()) == (TARGET, "")
    (path / TARGET).mkdir(parents=True)
    assert root.published_version() == "v-1"
    root.point_at(TARGET.replace("v-1", "v-2"))
    assert os.readlink(path / "current") == TARGET.replace("v-1", "v-2")
    assert sorted(os.listdir(path / ".trees")) == ["0123456789abcdef", "lock"]


def test_a_file_in_the_place_of_the_link_is_replaced(path, root) -> None:
    (path / "current").write_text("")
    assert root.target() == ""
    root.point_at(TARGET)
    assert root.target() == TARGET


def test_a_folder_in_the_place_of_the_link_is_left_alone_and_nothing_is_left_behind(path, root) -> None:
    (path / "current").mkdir()
    for call in (root.target, lambda: root.point_at(TARGET)):
        with pytest.raises(RootUnusable, match="current is a folder, not a symbolic link"):
            call()
    assert root.published_version() == ""
    assert os.listdir(path / ".trees") == ["lock"]


@pytest.mark.parametrize("reason", [errno.EIO, errno.ENOSPC])
def test_a_rename_that_fails_leaves_no_link_behind(path, root, monkeypatch, reason) -> None:
    monkeypatch.setattr(os, "rename", refuse(reason))
    with pytest.raises(OSError, match=os.strerror(reason)):
        root.point_at(TARGET)
    assert os.listdir(path / ".trees") == ["lock"]


def test_a_link_that_cannot_be_read_is_an_error_and_no_version(root, monkeypatch) -> None:
    monkeypatch.setattr(os, "readlink", refuse(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        root.target()
    assert root.published_version() == ""


@pytest.mark.parametrize(
    ("filename", "told"), [("/vol/file", "/vol/file"), ("file", "/vol"), (7, "/vol"), (None, "/vol")]
)
def test_a_failure_names_the_file_or_what_was_worked_on(filename, told) -> None:
    error = OSError(errno.EIO, "Input/output error", filename)
    with pytest.raises(VolumeFailed) as caught, failures("/vol"):
        raise error
    assert caught.value.message == f"{told}: Input/output error."
    assert caught.value.__cause__ is error


def test_a_root_that_does_not_exist_is_made_readable_for_all_whatever_the_umask(path) -> None:
    before = os.umask(0o077)
    try:
        Root(str(path)).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o755


def test_a_real_folder_in_the_place_of_current_is_not_touched_and_the_error_says_what_to_do(path) -> None:
    (path / "current").mkdir(parents=True)
    (path / "current" / "mine.py").write_text("mine")
    with pytest.raises(RootUnusable, match=r"current is a folder, not a symbolic link") as refused:
        Root(str(path))
    assert "Move it away" in refused.value.hint
    assert (path / "current" / "mine.py").read_text() == "mine"


@pytest.mark.parametrize("target", ["/opt/dags", "worktree", ".trees/../x/y", ".trees/0123456789abcdef/../../.."])
def test_somebody_elses_link_is_not_touched_where_no_sidecar_has_been(path, target) -> None:
    path.mkdir(parents=True)
    (path / "current").symlink_to(target)
    for _ in range(2):
        with pytest.raises(RootUnusable, match="not a link that a sidecar created"):
            Root(str(path))
    assert os.readlink(path / "current") == target


def test_a_root_that_is_a_file_is_refused_by_name(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RootUnusable, match="file"):
        Root(str(tmp_path / "file"))


def test_a_root_has_one_owner_and_a_killed_one_does_not_count(path) -> None:
    program = (
        "import sys, time; from dagferry_follow.volume.root import Root\n"
        "root = Root(sys.argv[1]); print(1); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-u", "-c", program, path], stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        with pytest.raises(RootInUse):
            Root(str(path))
        other.kill()
        other.wait()
        Root(str(path)).close()


@pytest.mark.usefixtures("root")
def test_the_lock_is_a_flock_on_the_documented_file(path) -> None:
    with (path / ".trees" / "lock").open() as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)


# --- the id of the volume --------------------------------------------------------------------------------------------


def test_a_volume_keeps_its_id_and_another_volume_has_another(path, root, tmp_path) -> None:
    known = root.identity()
    assert re.fullmatch("[0-9a-f]{32}", known)
    assert root.identity() == known
    root.close()
    again = Root(str(path))
    assert again.identity() == known, "after a restart"
    again.close()
    other = Root(str(tmp_path / "other"))
    assert other.identity() != known
    other.close()


def test_nobody_asks_and_nothing_is_written(path, root) -> None:
    root.close()
    assert (path / ".trees" / "lock").read_bytes() == b""


@pytest.mark.parametrize("damaged", [b"0123", b"x" * 32, b"0" * 33, b"0" * 31 + b"\n"])
def test_an_id_that_is_damaged_is_replaced(path, root, damaged) -> None:
    root.close()
    lock = path / ".trees" / "lock"
    lock.write_bytes(damaged)
    again = Root(str(path))
    known = again.identity()
    assert lock.read_bytes() == known.encode() != damaged
    again.close()


def test_a_lock_that_is_made_again_has_the_same_id(path, root) -> None:
    known = root.identity()
    lock = path / ".trees" / "lock"
    lock.unlink()
    root.own()
    assert lock.read_bytes() == known.encode()
    assert root.identity() == known


def test_a_volume_that_is_full_has_an_id_that_is_not_kept(path, root, monkeypatch, caplog) -> None:
    monkeypatch.setattr(os, "pwrite", refuse(errno.ENOSPC))
    known = root.identity()
    assert len(known) == 32
    assert root.identity() == known
    assert "The volume's id cannot be kept" in caplog.text
    assert (path / ".trees" / "lock").read_bytes() == b""


def test_a_volume_whose_id_cannot_be_read_gets_another(path, root, monkeypatch) -> None:
    known = root.identity()
    root.close()
    monkeypatch.setattr(os, "pread", refuse(errno.EIO))
    again = Root(str(path))
    assert re.fullmatch("[0-9a-f]{32}", again.identity())
    assert again.identity() != known
    again.close()
