"""What a volume offers is tried before anything is published on it, and the trial leaves nothing behind."""

import errno
import logging
import os
import stat
from pathlib import Path

import pytest

from dagferry_follow.errors import RootUnusable
from dagferry_follow.volume import capabilities as offering
from dagferry_follow.volume.capabilities import LINKS_HINT, MTIME_HINT, RENAME_HINT, keeps_modes


def tried(root: Path) -> bool:
    return keeps_modes(str(root), str(root / "trial"))


@pytest.fixture(autouse=True)
def _said_anew():
    offering._log_once.cache_clear()
    yield
    offering._log_once.cache_clear()


def shows(monkeypatch, folder_mode: int, file_mode: int) -> None:
    """Be a volume that shows the same mode for every folder and for every file."""
    monkeypatch.setattr(os, "chmod", lambda *_: None)
    real = os.stat

    def fixed(path, **kinds):
        found = real(path, **kinds)
        mode = folder_mode if stat.S_ISDIR(found.st_mode) else file_mode
        kept = os.stat_result((stat.S_IFMT(found.st_mode) | mode, *found[1:]))
        return type("Status", (), {"st_mode": kept.st_mode, "st_mtime_ns": found.st_mtime_ns})()

    monkeypatch.setattr(os, "stat", fixed)


def test_a_local_disk_has_all_and_keeps_modes(tmp_path) -> None:
    assert tried(tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("modes", "level"),
    [
        ((0o755, 0o755), logging.INFO),
        ((0o777, 0o644), logging.INFO),
        ((0o700, 0o644), logging.WARNING),
        ((0o754, 0o644), logging.WARNING),
        ((0o755, 0o640), logging.WARNING),
    ],
)
def test_a_volume_of_fixed_modes_is_reported_once_as_a_warning_if_others_cannot_read(
    tmp_path, monkeypatch, caplog, modes, level
) -> None:
    caplog.set_level(logging.INFO)
    shows(monkeypatch, *modes)
    for _ in range(2):
        assert not tried(tmp_path)
    (told,) = caplog.records
    assert told.levelno == level
    assert f"folders show {modes[0]:04o}, files {modes[1]:04o}" in told.message
    assert os.listdir(tmp_path) == []


def test_the_group_s_bits_are_not_looked_at(tmp_path, monkeypatch) -> None:
    chmod = os.chmod
    monkeypatch.setattr(os, "chmod", lambda path, mode: chmod(path, mode | 0o020))
    assert tried(tmp_path)


@pytest.mark.parametrize(("call", "hint"), [("symlink", LINKS_HINT), ("rename", RENAME_HINT), ("utime", MTIME_HINT)])
@pytest.mark.parametrize("reason", [errno.EPERM, errno.ENOSPC, errno.EDQUOT])
def test_what_a_volume_lacks_is_named_unless_it_is_only_full(tmp_path, monkeypatch, call, hint, reason) -> None:
    def refuse(*_args: object, **_kinds: object) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, call, refuse)
    if reason == errno.EPERM:
        with pytest.raises(RootUnusable) as caught:
            tried(tmp_path)
        assert caught.value.hint == hint
        assert caught.value.message.endswith(": Operation not permitted.")
    else:
        assert not tried(tmp_path), "nobody can tell now"
    assert os.listdir(tmp_path) == []


def test_mtimes_that_are_not_kept_are_a_lack(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "utime", lambda *_args, **_kinds: None)
    with pytest.raises(RootUnusable, match="does not keep modification times") as caught:
        tried(tmp_path)
    assert caught.value.hint == MTIME_HINT


@pytest.mark.parametrize("call", ["mkdir", "open"])
@pytest.mark.parametrize("reason", [errno.EACCES, errno.ENOSPC])
def test_where_the_trial_cannot_begin_only_a_full_volume_is_no_error(tmp_path, monkeypatch, call, reason) -> None:
    real = getattr(os, call)

    def refuse(path, flags=0, *args: object, **kinds: object):
        if call == "open" and not flags & os.O_CREAT:
            return real(path, flags, *args, **kinds)
        raise OSError(reason, os.strerror(reason), path)

    with monkeypatch.context() as patched:
        patched.setattr(os, call, refuse)
        if reason == errno.ENOSPC:
            assert not tried(tmp_path)
        else:
            with pytest.raises(PermissionError):
                tried(tmp_path)
    assert os.listdir(tmp_path) == []
