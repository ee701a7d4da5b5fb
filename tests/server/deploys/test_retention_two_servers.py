"""Two servers on one local store: what one has stored and not named yet, the other's retention leaves alone."""

import asyncio
import threading
from pathlib import Path

import pytest

from dagferry_server.errors import StoreAway
from dagferry_server.store import locks
from dagferry_server.store.local import LocalStore
from running import A, B, Running, eventually

DAY = 86400


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def two(start, tmp_path: Path, clock: Clock) -> tuple[Running, Running]:
    """Two servers, each with a data folder of its own for what it receives."""
    root = tmp_path / "store"
    await asyncio.to_thread(root.mkdir)
    rules = ("--keep-deploys", "1", "--keep-days", "0")
    first, second = [
        await start(*rules, "--data-dir", str(tmp_path / name), store=LocalStore(str(root)), clock=clock)
        for name in ("first", "second")
    ]
    return first, second


async def stored(server: Running) -> set[str]:
    return set(await asyncio.to_thread(server.service.store.bundles, "default"))


class Held:
    """Holds up the entries that a server is about to write."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, server: Running) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self._create = server.service.store.create_entry
        monkeypatch.setattr(server.service.store, "create_entry", self._wait)

    def _wait(self, deployment: str, sequence: int, data: bytes) -> bool:
        self.reached.set()
        assert self.go_on.wait(20)
        return self._create(deployment, sequence, data)


async def test_a_bundle_whose_entry_is_not_written_yet_stays(two, monkeypatch) -> None:
    first, second = two
    held = Held(monkeypatch, first)
    deploying = asyncio.create_task(first.deploy(A))
    await eventually("the bundle to be stored", held.reached.is_set)
    await second.service.retention.run()
    held.go_on.set()
    told = await deploying
    assert await stored(first) == {told["digest"]}
    assert (await first.get("/default/dags/download")).status == 200


async def test_an_old_bundle_that_is_about_to_be_named_anew_stays(two, clock, monkeypatch) -> None:
    first, second = two
    old = await first.deploy(A)
    await first.deploy(B)
    await second.service.deployments["default"].refresh()
    clock.now += DAY
    held = Held(monkeypatch, first)
    deploying = asyncio.create_task(first.deploy(A))
    await eventually("the bundle to be found", held.reached.is_set)
    await second.service.retention.run()
    held.go_on.set()
    told = await deploying
    assert (told["digest"], told["sequence"]) == (old["digest"], 3)
    assert (await first.get("/default/dags/download")).status == 200


async def test_what_another_server_has_deployed_since_stays(two) -> None:
    first, second = two
    told = await first.deploy(A)
    assert second.service.deployments["default"].highest == 0
    await second.service.retention.run()
    assert await stored(second) == {told["digest"]}
    assert (await first.get("/default/dags/download")).status == 200


async def test_what_a_failed_commit_has_left_goes(two, monkeypatch) -> None:
    first, second = two

    def fail(*_: object) -> bool:
        raise StoreAway("The disk is on fire.")

    with monkeypatch.context() as patched:
        patched.setattr(first.service.store, "create_entry", fail)
        with pytest.raises(AssertionError, match="on fire"):
            await first.deploy(A)
        await first.service.settled()
    await second.service.retention.run()
    assert await stored(second) == set()


def test_a_commit_waits_for_a_deletion_of_another_server_but_not_without_a_limit(tmp_path, monkeypatch) -> None:
    stores = [LocalStore(str(tmp_path)) for _ in range(2)]
    stores[0].prepare("prod")
    with stores[0].deleting("prod") as alone:
        assert alone
        monkeypatch.setattr(locks, "COMMIT_WAIT_SECONDS", 0.03)
        with pytest.raises(StoreAway, match="Another server"), stores[1].committing("prod"):
            pass
    with stores[1].committing("prod"), stores[0].committing("prod"):
        pass
