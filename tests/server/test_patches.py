"""Patches are kept within limits, and made once."""

import asyncio

import pytest

from dagferry_core.errors import BundleGone, StoreFailed
from dagferry_core.patch import Patch
from dagferry_server import patches
from dagferry_server.patches import Key, Patches, patch_between
from treemaker import Stored


class Never:
    """A store that is never asked."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(name)


def key(number: int) -> Key:
    return Key("prod", f"old {number}", "new")


@pytest.fixture
def made(monkeypatch) -> list[Key]:
    made: list[Key] = []

    def make(self: Patches, key: Key) -> bytes:
        made.append(key)
        return b"patch of " + key.old.encode()

    monkeypatch.setattr(Patches, "_make_now", make)
    return made


async def test_a_patch_is_made_once_and_kept(made) -> None:
    kept = Patches(Never())
    answers = await asyncio.gather(*(kept.get(key(1)) for _ in range(500)))
    assert set(answers) == {b"patch of old 1"}
    assert await kept.get(key(1)) == b"patch of old 1"
    assert made == [key(1)]


async def test_the_least_recently_used_goes_first_when_there_are_too_many(made, monkeypatch) -> None:
    monkeypatch.setattr(patches, "MAX_KEPT_PATCHES", 2)
    kept = Patches(Never())
    for number in (1, 2, 1, 3, 1, 2):
        await kept.get(key(number))
    assert made == [key(1), key(2), key(3), key(2)]


async def test_the_least_recently_used_goes_first_when_they_are_too_large(made, monkeypatch) -> None:
    monkeypatch.setattr(patches, "MAX_KEPT_BYTES", 100)
    kept = Patches(Never())
    kept.keep(key(1), bytes(60))
    kept.keep(key(2), bytes(40))
    kept.keep(key(2), bytes(41))
    assert await kept.get(key(2)) == bytes(41)
    assert made == []
    await kept.get(key(1))
    assert made == [key(1)]


async def test_that_a_patch_is_of_no_use_is_kept_too(made) -> None:
    kept = Patches(Never())
    kept.keep(key(1), None)
    assert await kept.get(key(1)) is None
    assert made == []


async def test_a_failure_is_told_to_all_who_wait_and_not_kept(monkeypatch) -> None:
    tries = []

    def fail(self: Patches, key: Key) -> bytes:
        tries.append(key)
        raise ZeroDivisionError

    monkeypatch.setattr(Patches, "_make_now", fail)
    kept = Patches(Never())
    for _ in range(2):
        answers = await asyncio.gather(*(kept.get(key(1)) for _ in range(3)), return_exceptions=True)
        assert {type(answer) for answer in answers} == {ZeroDivisionError}
    assert len(tries) == 2


@pytest.mark.parametrize("error", [BundleGone("gone"), StoreFailed("damaged")])
async def test_where_a_bundle_cannot_be_read_the_whole_one_has_to_do(error) -> None:
    class Failing:
        def open_bundle(self, *_: str) -> None:
            raise error

    assert await Patches(Failing()).get(key(1)) is None


def test_a_patch_to_a_bundle_of_which_it_is_not_known_who_reads_what_touches_all_python_files() -> None:
    files = {"reads.py": b"open('orders.sql')\n", "other.py": b"", "user.py": b"import reads\n", "orders.sql": b"1"}
    old, new = Stored(files), Stored({**files, "orders.sql": b"2" * 1000})
    assert Patch.parse(patch_between(old.bundle, new.bundle) or b"").touch == ["reads.py", "user.py"]
    new.bundle.reads = None  # as in an index that was written before
    assert Patch.parse(patch_between(old.bundle, new.bundle) or b"").touch == ["other.py", "reads.py", "user.py"]
