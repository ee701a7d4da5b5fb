"""A cached hash is used only for a file that cannot have changed."""

from pathlib import Path

import pytest

from dagferry_client.local import hash_cache
from dagferry_client.local.hash_cache import RACY_NS, HashCache
from dagferry_client.local.scan import LocalFile

NOW = 10**18
OLD = NOW - RACY_NS - 1
SHA = "a" * 64


def local_file(path: str = "a.py", **stamp: int) -> LocalFile:
    values = {"size": 6, "modified": OLD, "changed": OLD, "inode": 1, "device": 1} | stamp
    return LocalFile(path, f"/dags/{path}", values["size"], 0o644, tuple(values.values()))


@pytest.fixture(autouse=True)
def _at_a_fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hash_cache.time, "time_ns", lambda: NOW)


def saved(folder: Path, *files: LocalFile) -> HashCache:
    cache = HashCache(str(folder), "/dags")
    for file in files:
        cache.put(file, SHA)
    cache.save()
    return HashCache(str(folder), "/dags")


def test_an_unchanged_file_has_its_hash(tmp_path: Path) -> None:
    assert saved(tmp_path, local_file()).get(local_file()) == SHA
    assert saved(tmp_path, local_file()).get(local_file("b.py")) is None
    assert HashCache(str(tmp_path), "/other").get(local_file()) is None


@pytest.mark.parametrize("change", ["size", "modified", "changed", "inode", "device"])
def test_a_file_with_another_stamp_has_none(tmp_path: Path, change: str) -> None:
    assert saved(tmp_path, local_file()).get(local_file(**{change: 7})) is None


@pytest.mark.parametrize("time", ["modified", "changed"])
@pytest.mark.parametrize("when", [NOW - RACY_NS, NOW, NOW + 10**12])
def test_a_file_written_shortly_before_is_not_kept(tmp_path: Path, time: str, when: int) -> None:
    file = local_file(**{time: when})
    assert saved(tmp_path, file).get(file) is None


def test_what_was_got_stays_and_the_rest_is_forgotten(tmp_path: Path) -> None:
    cache = saved(tmp_path, local_file("a.py"), local_file("b.py"))
    assert cache.get(local_file("b.py")) == SHA
    cache.save()
    again = HashCache(str(tmp_path), "/dags")
    assert again.get(local_file("b.py")) == SHA
    assert again.get(local_file("a.py")) is None


@pytest.mark.parametrize("damage", [b"", b"x", b"x\n{}", b"\n"])
def test_a_damaged_file_is_empty(tmp_path: Path, damage: bytes) -> None:
    saved(tmp_path, local_file())
    [path] = tmp_path.iterdir()
    path.write_bytes(damage)
    assert HashCache(str(tmp_path), "/dags").get(local_file()) is None


def test_one_wrong_character_is_found_out(tmp_path: Path) -> None:
    saved(tmp_path, local_file())
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes().replace(b"a" * 64, b"a" * 63 + b"b"))
    assert HashCache(str(tmp_path), "/dags").get(local_file()) is None


def test_the_number_of_folders_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hash_cache, "MAX_FOLDERS", 2)
    for number in range(4):
        cache = HashCache(str(tmp_path), f"/dags{number}")
        cache.put(local_file(), SHA)
        cache.save()
    assert len(list(tmp_path.iterdir())) == 2
