"""When a server of a shared store is ready: not before it knows all, and then also while the store is away."""

import pytest

from dagferry_server.deploys import following
from dagferry_server.errors import ShuttingDown, StoreAway
from running import eventually
from shared_stores import SharedFolder


@pytest.fixture
async def one(start, tmp_path):
    shared = SharedFolder(tmp_path)
    yield await start("--store-poll", "0.1", store=shared.open())
    shared.close()


async def ready(server) -> bool:
    return (await server.get("/readyz")).status == 200


async def test_a_server_that_never_reached_the_store_is_not_ready(one) -> None:
    one.service.store.away = True
    assert not await ready(one)
    one.service.store.away = False
    assert await ready(one)


async def test_a_server_that_was_ready_stays_ready_unless_another_one_reaches_the_store(one) -> None:
    assert await ready(one)
    one.service.store.away = True
    await eventually("it to be noticed", lambda: not one.service.following.reaches_store)
    assert await ready(one)
    reaches = [True]
    one.service.readiness.peer_reaches_store = lambda: reaches[0]
    assert not await ready(one)
    reaches[0] = False
    assert await ready(one)
    reaches[0], one.service.store.away = True, False
    await eventually("it to be noticed", lambda: one.service.following.reaches_store)
    assert await ready(one)


async def test_a_store_that_refuses_writes_counts_as_away(one, monkeypatch) -> None:
    assert await ready(one)

    def refuse() -> None:
        raise StoreAway("403 Forbidden")

    monkeypatch.setattr(one.service.store, "check_writable", refuse)
    with pytest.raises(StoreAway):
        await one.service.following.check_writable()
    assert await one.metric("store_reachable") == 0
    assert await ready(one)
    one.service.readiness.peer_reaches_store = lambda: True
    answer = await one.get("/readyz")
    assert (answer.status, "403 Forbidden" in answer.json["message"]) == (503, True)
    monkeypatch.undo()
    await one.service.following.check_writable()
    assert await ready(one)


async def test_a_store_that_can_be_written_again_is_noticed_long_before_the_next_regular_check(
    start, tmp_path, monkeypatch
) -> None:
    """Else other servers, which asked at another moment, would reach the store, and this one would be unready."""
    monkeypatch.setattr(following, "WRITABLE_SECONDS", 3600)
    monkeypatch.setattr(following, "UNWRITABLE_SECONDS", 0.1)
    shared = SharedFolder(tmp_path)
    one = await start("--store-poll", "0.1", store=shared.open())
    assert await ready(one)
    one.service.store.away = True
    with pytest.raises(StoreAway):
        await one.service.following.check_writable()
    one.service.store.away = False
    await eventually("it to be noticed", lambda: one.service.following.reaches_store)
    shared.close()


async def test_a_ready_server_asks_the_store_nothing_for_it(one) -> None:
    assert await ready(one)
    calls = one.service.store.calls["check_writable"]
    assert await ready(one)
    assert one.service.store.calls["check_writable"] == calls


async def test_a_server_that_is_stopping_is_not_ready(one) -> None:
    assert await ready(one)
    one.service.stop()
    with pytest.raises(ShuttingDown):
        await one.service.readiness.check()
