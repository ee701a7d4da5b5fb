import asyncio
import contextlib
import logging
import signal
import time

import pytest

from dagferry_core.errors import SetupError
from dagferry_server.errors import StoreAway
from dagferry_server.store import probing
from dagferry_server.store.probing import probed

AWAY = StoreAway("It is away.")
REFUSED = SetupError("It is refused.")


class Scripted:
    """A store whose probes end as the test says, one after another."""

    def __init__(self, *results: Exception | None) -> None:
        self.results = list(results)
        self.probes = 0
        self.passed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def probe(self) -> None:
        self.probes += 1
        result = self.results[min(self.probes, len(self.results)) - 1]
        if result:
            raise result
        self._loop.call_soon_threadsafe(self.passed.set)


@pytest.fixture(autouse=True)
def _short(monkeypatch) -> None:
    monkeypatch.setattr(probing, "PROBE_PAUSE_SECONDS", 0.01)


async def test_the_block_starts_after_a_probe_that_passed() -> None:
    store = Scripted(None)
    async with probed(store):
        assert store.probes == 1


async def test_a_refused_store_ends_the_start() -> None:
    with pytest.raises(SetupError, match="refused"):
        async with probed(Scripted(REFUSED)):
            pytest.fail("the block started")


async def test_a_store_that_is_away_is_probed_until_it_answers(caplog) -> None:
    caplog.set_level(logging.INFO)
    store = Scripted(AWAY, AWAY, AWAY, None)
    async with probed(store):
        await asyncio.wait_for(store.passed.wait(), 30)
        await asyncio.sleep(0.1)
    assert store.probes == 4
    assert [record.message for record in caplog.records] == [
        "The store cannot be probed; the server tries again",
        "Recovered: the store answers",
    ]


async def test_a_store_that_is_refused_later_ends_the_server() -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    try:
        with pytest.raises(SetupError, match="refused"):
            async with probed(Scripted(AWAY, REFUSED)):
                await asyncio.wait_for(stopped.wait(), 30)
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)


async def test_a_store_that_hangs_does_not_delay_the_start_for_long(monkeypatch) -> None:
    monkeypatch.setattr(probing, "FIRST_PROBE_SECONDS", 0.05)
    store = Scripted(None)
    store.probe = lambda: time.sleep(1)
    async with probed(store):
        pass


async def test_the_end_of_the_block_ends_the_probes() -> None:
    store = Scripted(AWAY)
    with contextlib.suppress(ValueError):
        async with probed(store):
            raise ValueError
    probes = store.probes
    await asyncio.sleep(0.1)
    assert store.probes == probes
