"""The cache is where the system has it, and no error in it is the user's."""

import os
from pathlib import Path

import pytest

from dagferry_client.local.cache_folder import cache_folder, prune, write_cached


@pytest.mark.parametrize(
    ("environ", "platform", "expected"),
    [
        ({"XDG_CACHE_HOME": "/c"}, "linux", "/c/dagferry"),
        ({"XDG_CACHE_HOME": "/c"}, "darwin", "/c/dagferry"),
        ({"XDG_CACHE_HOME": "relative"}, "linux", "~/.cache/dagferry"),
        ({}, "linux", "~/.cache/dagferry"),
        ({}, "darwin", "~/Library/Caches/dagferry"),
        ({"LOCALAPPDATA": "/l"}, "win32", "/l/dagferry/cache"),
        ({}, "win32", "~/AppData/Local/dagferry/cache"),
    ],
)
def test_where_it_is(environ: dict[str, str], platform: str, expected: str) -> None:
    assert cache_folder(environ, platform) == os.path.expanduser(expected)


def test_a_file_appears_as_a_whole_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_cached(str(path), b"one")
    write_cached(str(path), b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["file"]
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_what_cannot_be_written_is_no_error_and_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    write_cached(str(tmp_path / "file" / "x"), b"one")

    def full(draft: str, path: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    write_cached(str(tmp_path / "cache" / "x"), b"one")
    assert os.listdir(tmp_path / "cache") == []


def test_the_oldest_go_first(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / str(number)).write_bytes(b"x" * 10)
        os.utime(tmp_path / str(number), (number, number))
    prune(str(tmp_path), 4, 1000)
    assert sorted(os.listdir(tmp_path)) == ["1", "2", "3", "4"]
    prune(str(tmp_path), 4, 25)
    assert sorted(os.listdir(tmp_path)) == ["3", "4"]
    prune(str(tmp_path / "gone"), 0, 0)
