"""Who waits for a change is told, once and at once."""

import asyncio

from dagferry_server.fleet.waiters import Waiters
from running import eventually


async def waiting(waiters: Waiters, count: int) -> None:
    await eventually(f"{count} to wait", lambda: len(waiters) == count)


async def test_all_waiting_requests_are_notified() -> None:
    waiters = Waiters()
    tasks = [asyncio.create_task(waiters.wait(50)) for _ in range(100)]
    await waiting(waiters, 100)
    waiters.notify_all()
    await asyncio.gather(*tasks)
    assert len(waiters) == 0


async def test_a_wait_ends_by_itself() -> None:
    waiters = Waiters()
    assert await waiters.wait(0.001)
    assert len(waiters) == 0


async def test_no_more_wait_than_may() -> None:
    waiters = Waiters(most=1)
    first = asyncio.create_task(waiters.wait(50))
    await waiting(waiters, 1)
    assert not await waiters.wait(50)
    waiters.close()
    assert await first
    assert not await waiters.wait(50)


async def test_no_wait_means_zero() -> None:
    waiters = Waiters()
    assert not await waiters.wait(0)
    assert len(waiters) == 0


async def test_who_goes_away_waits_no_longer_and_disturbs_nobody() -> None:
    waiters = Waiters()
    gone, stays = (asyncio.create_task(waiters.wait(50)) for _ in range(2))
    await waiting(waiters, 2)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert len(waiters) == 1
    waiters.notify_all()
    await stays


async def test_telling_and_giving_up_at_the_same_moment_is_no_error() -> None:
    waiters = Waiters()
    task = asyncio.create_task(waiters.wait(50))
    await waiting(waiters, 1)
    task.cancel()
    waiters.notify_all()
    await asyncio.gather(task, return_exceptions=True)
    waiters.notify_all()


async def test_after_the_close_nobody_waits() -> None:
    waiters = Waiters()
    task = asyncio.create_task(waiters.wait(50))
    await waiting(waiters, 1)
    waiters.close()
    await task
    await waiters.wait(50)
