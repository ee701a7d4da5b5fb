"""Patches are kept within limits, and made once."""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Iterator

import pytest

from dagferry_core.bundle.patch import Patch
from dagferry_server.deploys import patches
from dagferry_server.deploys.patches import Key, Patches, patch_between
from dagferry_server.errors import BundleGone, StoreAway, StoreDamaged
from running import eventually
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
    monkeypatch.setattr(patches, "MAX_KEPT_BYTES", 2 * (patches.ENTRY_BYTES + 100))
    kept = Patches(Never())
    for number in (1, 2, 1, 3, 1, 2):
        await kept.get(key(number))
    assert made == [key(1), key(2), key(3), key(2)]


async def test_the_least_recently_used_goes_first_when_they_are_too_large(made, monkeypatch) -> None:
    monkeypatch.setattr(patches, "ENTRY_BYTES", 0)
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


async def test_a_failure_is_reported_to_all_waiting_requests_and_not_cached(monkeypatch) -> None:
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


@pytest.mark.parametrize(
    ("error", "final"),
    [(BundleGone("gone"), True), (StoreDamaged("damaged"), True), (StoreAway("away"), False)],
    ids=lambda value: type(value).__name__,
)
async def test_where_a_bundle_cannot_be_read_the_whole_one_has_to_do(error, final) -> None:
    class Failing:
        asked = 0

        def read_patch(self, *_: str) -> None:
            return None

        def open_bundle(self, *_: str) -> None:
            self.asked += 1
            raise error

    store = Failing()
    kept = Patches(store)
    assert [await kept.get(key(1)) for _ in range(2)] == [None, None]
    # What may pass is tried again by the next who asks.
    assert store.asked == (1 if final else 2)


def test_a_patch_to_a_bundle_of_which_it_is_not_known_who_reads_what_touches_all_python_files() -> None:
    files = {"reads.py": b"open('orders.sql')\n", "other.py": b"", "user.py": b"import reads\n", "orders.sql": b"1"}
    old, new = Stored(files), Stored({**files, "orders.sql": b"2" * 1000})
    assert Patch.parse(patch_between(old.bundle, new.bundle) or b"").touch == ["reads.py", "user.py"]
    new.bundle.reads = None  # as in an index that was written before
    assert Patch.parse(patch_between(old.bundle, new.bundle) or b"").touch == ["other.py", "reads.py", "user.py"]


# --- no deployment takes them from another --------------------------------------------------------------------------


class Held:
    """Patches that are made when the test says so, in the order in which they are begun."""

    def __init__(self, monkeypatch) -> None:
        self.begun: list[Key] = []
        self._released: dict[str, threading.Semaphore] = defaultdict(lambda: threading.Semaphore(0))
        monkeypatch.setattr(Patches, "_make_now", self._make)

    def _make(self, key: Key) -> bytes:
        self.begun.append(key)
        assert self._released[key.deployment].acquire(timeout=20)
        return b"patch of " + key.old.encode()

    def release(self, deployment: str = "prod", count: int = 1) -> None:
        self._released[deployment].release(count)


@pytest.fixture
def held(monkeypatch) -> Iterator[Held]:
    held = Held(monkeypatch)
    yield held
    for deployment in {key.deployment for key in held.begun}:
        held.release(deployment, 100)


async def test_deployments_take_turns_and_none_has_all_threads(held) -> None:
    kept = Patches(Never())
    greedy = [asyncio.create_task(kept.get(Key("other", f"old {number}", "new"))) for number in range(20)]
    await eventually("the first to be begun", lambda: held.begun)
    assert len(held.begun) == 1
    wanted = [asyncio.create_task(kept.get(Key(name, "old", "new"))) for name in ("prod", "staging")]
    await eventually("the second to be begun", lambda: len(held.begun) == 2)
    assert held.begun[1].deployment == "prod"
    held.release("other")
    await eventually("the third to be begun", lambda: len(held.begun) == 3)
    assert held.begun[2].deployment == "staging"
    for deployment in ("prod", "staging", "other"):
        held.release(deployment, 100)
    assert await asyncio.gather(*wanted) == [b"patch of old"] * 2
    await asyncio.gather(*greedy)


async def test_a_patch_that_is_too_late_is_not_sent_and_is_there_for_the_next(held, monkeypatch) -> None:
    monkeypatch.setattr(patches, "LATE_SECONDS", 0.01)
    kept = Patches(Never())
    assert await kept.get(key(1)) is None
    monkeypatch.setattr(patches, "LATE_SECONDS", 20)
    held.release()
    assert await kept.get(key(1)) == b"patch of old 1"
    assert held.begun == [key(1)]


async def test_what_nobody_waits_for_any_more_is_not_made(held, monkeypatch) -> None:
    kept = Patches(Never())
    first = asyncio.create_task(kept.get(key(0)))
    await eventually("the first to be begun", lambda: held.begun)
    monkeypatch.setattr(patches, "LATE_SECONDS", 0.01)
    assert await asyncio.gather(*(kept.get(key(number)) for number in range(1, 10))) == [None] * 9
    held.release(count=100)
    await first
    monkeypatch.setattr(patches, "LATE_SECONDS", 20)
    assert await kept.get(key(5)) == b"patch of old 5"
    assert held.begun == [key(0), key(5)]


async def test_a_request_beyond_the_queue_limit_gets_no_patch_at_once(held, monkeypatch) -> None:
    monkeypatch.setattr(patches, "MAX_QUEUED", 3)
    kept = Patches(Never())
    waiting = [asyncio.create_task(kept.get(key(number))) for number in range(4)]
    await eventually("the first to be begun", lambda: held.begun)
    assert await kept.get(key(4)) is None
    held.release(count=100)
    assert None not in await asyncio.gather(*waiting)


async def test_what_was_asked_for_makes_room_before_what_was_announced(made, monkeypatch) -> None:
    monkeypatch.setattr(patches, "MAX_KEPT_BYTES", 5 * (patches.ENTRY_BYTES + 100))
    kept = Patches(Never())
    announced = Key("prod", "announced", "new")
    kept.keep(announced, b"announced")
    for number in range(100):
        await kept.get(key(number))
        await kept.get(Key("other", f"old {number}", "new"))
    made.clear()
    assert await kept.get(announced) == b"announced"
    assert made == []


async def test_who_has_most_makes_room_first(made, monkeypatch) -> None:
    monkeypatch.setattr(patches, "MAX_KEPT_BYTES", 10 * (patches.ENTRY_BYTES + 100))
    kept = Patches(Never())
    mine = Key("mine", "old", "new")
    await kept.get(mine)
    for number in range(100):
        await kept.get(Key("other", f"old {number}", "new"))
    made.clear()
    await kept.get(mine)
    assert made == []
