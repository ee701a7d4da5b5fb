"""A comparison counts all files that differ, and returns those that are asked for, with where to read them."""

import asyncio

import pytest

from dagferry_server.deploys.compare import compare, read_all
from dagferry_server.errors import BundleGone

OLD = {"a.py": b"1", "b.py": b"1", "c/d.py": b"1", "c/e.py": b"same", "gone.py": b"1"}
NEW = {"a.py": b"2", "b.py": b"1", "c/d.py": b"2", "c/e.py": b"same", "new.py": b"1"}


@pytest.fixture
async def stored(server):
    old, new = [await server.deploy(files) for files in (OLD, NEW)]
    return server.service.store, old["digest"], new["digest"]


def named(found) -> dict[str, tuple[bool, bool]]:
    return {change.path: (change.old is not None, change.new is not None) for change in found.files}


async def test_it_counts_and_lists_what_differs_by_path(stored) -> None:
    store, old, new = stored
    found = await asyncio.to_thread(compare, store, "default", old, new, first=0, most=10)
    assert (found.added, found.changed, found.removed, found.total) == (1, 2, 1, 4)
    assert named(found) == {
        "a.py": (True, True), "c/d.py": (True, True), "gone.py": (True, False), "new.py": (False, True)
    }  # fmt: skip


@pytest.mark.parametrize(("first", "most", "paths"), [(0, 1, ["a.py"]), (1, 2, ["c/d.py", "gone.py"]), (4, 5, [])])
async def test_a_page_has_some_of_them_and_the_counts_of_all(stored, first, most, paths) -> None:
    store, old, new = stored
    found = await asyncio.to_thread(compare, store, "default", old, new, first=first, most=most)
    assert ([change.path for change in found.files], found.total) == (paths, 4)


async def test_only_a_folder_or_one_file_counts_if_that_is_asked_for(stored) -> None:
    store, old, new = stored
    assert named(await asyncio.to_thread(compare, store, "default", old, new, first=0, most=9, under="c/")) == {
        "c/d.py": (True, True)
    }
    found = await asyncio.to_thread(compare, store, "default", old, new, first=0, most=9, path="new.py")
    assert (named(found), found.total) == ({"new.py": (False, True)}, 1)


async def test_without_an_old_bundle_every_file_is_added(stored) -> None:
    store, old, _ = stored
    found = await asyncio.to_thread(compare, store, "default", None, old, first=0, most=9)
    assert (found.added, len(found.files)) == (5, 5)


async def test_the_same_bundle_is_not_read(stored) -> None:
    store, old, _ = stored
    assert (await asyncio.to_thread(compare, store, "default", old, old, first=0, most=9)).total == 0


async def test_each_file_can_be_read_where_it_is(stored) -> None:
    store, old, new = stored
    for change in (await asyncio.to_thread(compare, store, "default", old, new, first=0, most=9)).files:
        if change.old:
            assert await asyncio.to_thread(read_all, store, "default", old, change.old) == OLD[change.path]
        if change.new:
            assert await asyncio.to_thread(read_all, store, "default", new, change.new) == NEW[change.path]


async def test_a_bundle_that_is_gone_is_an_error(stored) -> None:
    store, old, _ = stored
    with pytest.raises(BundleGone):
        await asyncio.to_thread(compare, store, "default", old, "sha256:" + "0" * 64, first=0, most=9)
