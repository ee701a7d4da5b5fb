"""Modes and mtimes, on volumes that keep them, refuse them, or keep them coarsely."""

import errno
import os
import stat

import pytest

from dagferry_follow.volume.attributes import FINE_NS, same_mtime, set_mode, set_mtime, set_mtime_not_before

SECOND_NS = 10**9
NOW_NS = 1_800_000_001 * SECOND_NS + 900_000_000


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "dag.py").write_bytes(b"")
    (tmp_path / "link").symlink_to("dag.py")
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def coarse(monkeypatch):
    """A volume that rounds mtimes down to so many nanoseconds."""
    utime = os.utime

    def keep(step: int) -> None:
        def rounded(name, ns, **kinds):
            utime(name, ns=tuple(moment // step * step for moment in ns), **kinds)

        monkeypatch.setattr(os, "utime", rounded)

    return keep


def test_a_mode_is_set_by_path_and_by_descriptor(tmp_path) -> None:
    file = tmp_path / "dag.py"
    file.write_bytes(b"")
    set_mode(str(file), 0o640)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    with file.open() as opened:
        set_mode(opened.fileno(), 0o755)
    assert stat.S_IMODE(file.stat().st_mode) == 0o755


@pytest.mark.parametrize("reason", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_a_volume_may_refuse_modes(monkeypatch, reason) -> None:
    def refuse(*_: object) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "chmod", refuse)
    set_mode("dag.py", 0o644)


def test_any_other_failure_to_set_a_mode_is_one(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        set_mode(str(tmp_path / "gone"), 0o644)


def test_an_mtime_is_set_without_following_links(folder, tmp_path) -> None:
    before = (tmp_path / "dag.py").stat().st_mtime_ns
    assert set_mtime(folder, "link", NOW_NS) == NOW_NS
    assert (tmp_path / "dag.py").stat().st_mtime_ns == before
    assert (tmp_path / "link").lstat().st_mtime_ns == NOW_NS


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (1, NOW_NS),
        (FINE_NS, NOW_NS),
        (SECOND_NS, 1_800_000_002 * SECOND_NS),
        (2 * SECOND_NS, 1_800_000_002 * SECOND_NS),
    ],
)
def test_an_mtime_of_a_moment_is_not_before_it(folder, coarse, step, expected) -> None:
    coarse(step)
    assert set_mtime_not_before(folder, "dag.py", NOW_NS) == expected
    assert os.stat("dag.py", dir_fd=folder).st_mtime_ns == expected


def test_where_one_second_more_is_not_enough_two_are(folder, coarse) -> None:
    coarse(2 * SECOND_NS)
    unexpected = 1_800_000_001 * SECOND_NS - SECOND_NS + 900_000_000  # a second more is still in the same pair
    assert set_mtime_not_before(folder, "dag.py", unexpected) == 1_800_000_002 * SECOND_NS


@pytest.mark.parametrize(
    ("found", "same"),
    [
        (NOW_NS, True),
        (NOW_NS - 900_000_000, True),
        (NOW_NS - 900_000_000 - SECOND_NS, True),
        (NOW_NS - 900_000_000 - 2 * SECOND_NS, False),
        (NOW_NS - 1, False),
        (NOW_NS + 100_000_000, False),
    ],
)
def test_the_same_mtime_is_the_one_that_was_set_or_what_a_coarse_volume_makes_of_it(found, same) -> None:
    assert same_mtime(found, NOW_NS) is same
