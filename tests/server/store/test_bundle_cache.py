import errno
import os
from pathlib import Path

import pytest

from dagferry_server.errors import StoreFull
from dagferry_server.store.bundle_cache import BundleCache, Name, write_and_describe

HEX = "a" * 64
DIGEST = f"sha256:{HEX}"


def name(number: int, deployment: str = "prod") -> Name:
    return Name(deployment, f"{number:064x}", f"{number:032x}")


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def keep(cache: BundleCache, which: Name, content: bytes, index: bytes = b"index") -> None:
    with cache.scratch() as file:
        blob, _ = write_and_describe(file, lambda out: out.write(content) and b"")
        with cache.keep(which, file, blob, index) as source:
            assert (source.read(0, source.size), source.encoded_index) == (content, index)


def content(cache: BundleCache, number: int) -> bytes | None:
    source = cache.open("prod", digest(number))
    if source is None:
        return None
    with source:
        return source.read(0, source.size)


@pytest.fixture
def cache(tmp_path: Path) -> BundleCache:
    return BundleCache(str(tmp_path / "cache"), 10_000)


def test_a_bundle_that_was_kept_is_opened_with_its_index(cache) -> None:
    keep(cache, name(1), b"bundle", b"beside")
    with cache.open("prod", digest(1)) as source:
        assert (source.read(0, 100), source.size, source.encoded_index) == (b"bundle", 6, b"beside")
    assert content(cache, 2) is None
    assert cache.open("staging", digest(1)) is None


def test_a_later_start_finds_what_is_there(cache, tmp_path) -> None:
    keep(cache, name(1), b"bundle")
    assert content(BundleCache(str(tmp_path / "cache"), 10_000), 1) == b"bundle"


@pytest.mark.parametrize("damage", [b"bundlX", b"bundle longer", b""])
def test_a_later_start_does_not_use_a_bundle_that_a_crash_damaged(cache, tmp_path, damage) -> None:
    keep(cache, name(1), b"bundle")
    (file,) = (tmp_path / "cache").glob("*.bundle")
    file.write_bytes(damage)
    assert content(BundleCache(str(tmp_path / "cache"), 10_000), 1) is None
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_later_start_removes_what_is_not_complete(cache, tmp_path) -> None:
    keep(cache, name(1), b"bundle")
    (tmp_path / "cache" / ".new-1234").touch()
    (tmp_path / "cache" / f"prod.{HEX}.{'0' * 32}.index").touch()
    assert content(BundleCache(str(tmp_path / "cache"), 10_000), 1) == b"bundle"
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_above_the_limit_the_bundle_that_was_not_used_for_the_longest_time_goes(cache) -> None:
    for number in (1, 2, 3):
        keep(cache, name(number), bytes([number]) * 3000)
    assert content(cache, 1) == b"\x01" * 3000  # used again
    keep(cache, name(4), b"\x04" * 3000)
    assert [number for number in (1, 2, 3, 4) if content(cache, number)] == [1, 3, 4]


def test_a_bundle_that_is_larger_than_the_cache_can_be_read_once(cache, tmp_path) -> None:
    keep(cache, name(1), bytes(20_000))
    assert content(cache, 1) is None
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_is_open_stays_readable(cache) -> None:
    keep(cache, name(1), b"bundle")
    with cache.open("prod", digest(1)) as source:
        cache.forget_digest("prod", digest(1))
        assert content(cache, 1) is None
        assert source.read(0, 10) == b"bundle"


def test_a_bundle_that_is_stored_again_takes_the_place_of_the_earlier_one(cache, tmp_path) -> None:
    keep(cache, name(1), b"before")
    keep(cache, name(1)._replace(nonce="f" * 32), b"afterwards")
    assert content(cache, 1) == b"afterwards"
    assert len(list((tmp_path / "cache").glob("*.bundle"))) == 1


def test_the_same_bundle_may_be_kept_twice(cache) -> None:
    keep(cache, name(1), b"bundle")
    keep(cache, name(1), b"bundle")
    assert content(cache, 1) == b"bundle"


def test_a_bundle_that_somebody_removed_is_none(cache, tmp_path) -> None:
    keep(cache, name(1), b"bundle")
    for file in (tmp_path / "cache").iterdir():
        file.unlink()
    assert content(cache, 1) is None


def test_only_the_owner_can_read_the_cache(cache, tmp_path) -> None:
    keep(cache, name(1), b"bundle")
    assert os.stat(tmp_path / "cache").st_mode & 0o777 == 0o700
    assert {os.stat(file).st_mode & 0o077 for file in (tmp_path / "cache").iterdir()} == {0}


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_on_a_full_volume_a_bundle_can_be_read_until_it_is_closed(cache, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "link", full)
    keep(cache, name(1), b"bundle")
    assert content(cache, 1) is None
    assert list((tmp_path / "cache").iterdir()) == []


def test_on_a_full_volume_bundles_that_are_not_in_use_make_room(cache) -> None:
    for number in (1, 2, 3):
        keep(cache, name(number), b"bundle")
    with cache.filling("Fetching", final=False):
        full()
    assert [number for number in (1, 2, 3) if content(cache, number)] == [3]
    with pytest.raises(StoreFull, match="Fetching failed: No space left"), cache.filling("Fetching"):
        full()
    assert content(cache, 3) is None
