"""Bundles of many files take turns, because each takes much memory; small ones pass by."""

import asyncio
import gc

import pytest

from dagferry_core.bundle.reader import BundleFile
from dagferry_core.limits import LARGE_FILES
from dagferry_server import memory
from dagferry_server.deploys.bundles import open_bundle
from dagferry_server.deploys.patches import Key, patch_between
from dagferry_server.errors import ServerBusy
from dagferry_server.memory import Turn, TurnTaken
from harness import pack
from running import A, Running, eventually

pytestmark = pytest.mark.slow


def many(number: int, count: int = LARGE_FILES + 1) -> bytes:
    return pack({f"{'n' * 100}{file:05}.txt": b"%d" % number for file in range(count)})


def test_one_has_the_turn_and_the_next_does_not_get_it() -> None:
    first, second = Turn(), Turn()
    first.take()
    first.take()
    with pytest.raises(TurnTaken):
        second.take()
    with pytest.raises(TurnTaken):
        second.take(0.01)
    first.end()
    first.end()
    second.take()
    second.end()


async def test_a_request_that_waits_too_long_gets_503(monkeypatch) -> None:
    with Turn() as first:
        first.take()
        monkeypatch.setattr(memory, "MAX_TURN_SECONDS", 0)
        with pytest.raises(ServerBusy):
            await Turn().wait()
    with Turn() as again:
        await again.wait()


async def test_large_uploads_wait_for_their_turn_and_hold_up_no_small_one(server: Running) -> None:
    with Turn() as turn:
        turn.take()
        large = [asyncio.create_task(server.upload(many(number))) for number in range(3)]
        await eventually("all to be received", lambda: server.state.busy._count == 3)
        assert (await server.upload(pack(A))).status == 200
        assert not any(task.done() for task in large)
    assert [(await task).status for task in large] == [200] * 3
    assert not memory._one_at_a_time.locked()


def bundles_in_memory() -> set[int]:
    gc.collect()  # an error and its traceback refer to each other
    return {id(found) for found in gc.get_objects() if isinstance(found, BundleFile)}


async def test_who_waits_for_the_turn_holds_no_bundle(server: Running, monkeypatch) -> None:
    earlier = bundles_in_memory()  # of other tests
    assert (await server.upload(many(0))).status == 200
    waiting: list[Turn] = []
    wait = Turn.wait

    async def noted(turn: Turn) -> None:
        waiting.append(turn)
        await wait(turn)

    monkeypatch.setattr(Turn, "wait", noted)
    with Turn() as turn:
        turn.take()
        folders = [
            asyncio.create_task(server.upload(pack(A, prefix=""), f"/default/dags/upload?under=team-{number}"))
            for number in range(3)
        ]
        await eventually("all to wait", lambda: len(waiting) == 3)
        # The thread that raised the error may hold it, and with it the bundle, for a moment longer.
        await eventually("no bundle to be in memory", lambda: bundles_in_memory() <= earlier)
    assert [(await task).status for task in folders] == [200] * 3


async def test_a_large_upload_that_is_refused_ends_its_turn(server: Running, monkeypatch) -> None:
    monkeypatch.setattr(memory, "MAX_TURN_SECONDS", 0)
    with Turn() as turn:
        turn.take()
        assert (await server.upload(many(1))).json["code"] == "server_busy"
    assert (await server.upload(many(1) + b"x")).json["code"] == "archive_trailing_data"
    assert not memory._one_at_a_time.locked()


async def test_a_patch_between_large_bundles_waits_for_its_turn_too(server: Running, monkeypatch) -> None:
    monkeypatch.setattr("dagferry_core.bundle.reader.LARGE_MANIFEST_BYTES", 100)
    old = (await server.deploy(A))["digest"]
    new = (await server.deploy({**A, "b.py": b"b = 1\n"}))["digest"]
    key = Key("default", new, old)
    monkeypatch.setattr("dagferry_server.deploys.patches.TURN_SECONDS", 0.01)
    with Turn() as turn:
        turn.take()
        assert await server.service.patches.get(key) is None
    assert await server.service.patches.get(key)


async def test_where_very_many_files_changed_there_is_no_patch(server: Running, monkeypatch) -> None:
    old = (await server.deploy(A))["digest"]
    new = (await server.deploy({**A, "b.py": b"b = 1\n", "c.py": b"c = 1\n"}))["digest"]

    def patches() -> list[bool]:
        store = server.service.store
        with open_bundle(store, "default", old) as one, open_bundle(store, "default", new, one.manifest) as other:
            assert other.manifest.files["etl.py"] is one.manifest.files["etl.py"]
            return [patch_between(one, other) is not None, patch_between(other, one) is not None]

    monkeypatch.setattr("dagferry_core.bundle.patch.MAX_PATCH_FILES", 2)
    assert await asyncio.to_thread(patches) == [True, True]
    monkeypatch.setattr("dagferry_core.bundle.patch.MAX_PATCH_FILES", 1)
    assert await asyncio.to_thread(patches) == [False, False]
