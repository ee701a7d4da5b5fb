"""Work that is done once for all who ask for it while it is under way."""

import asyncio

import pytest

from dagferry_server.coalescing import Coalescer


class Work:
    """Work that begins, and ends when it is let go on."""

    def __init__(self) -> None:
        self.begun = self.ended = 0
        self.has_begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> None:
        self.begun += 1
        self.has_begun.set()
        await self.go_on.wait()
        self.ended += 1


async def test_all_who_ask_during_a_run_share_the_next() -> None:
    coalescer, work = Coalescer(), Work()
    asking = [asyncio.create_task(coalescer.run(work))]
    await asyncio.sleep(0)
    asking += [asyncio.create_task(coalescer.run(work)) for _ in range(5)]
    await asyncio.sleep(0)
    assert work.begun == 1
    work.go_on.set()
    await asyncio.gather(*asking)
    assert (work.begun, work.ended) == (2, 2)


async def test_who_asks_after_a_run_gets_one_of_their_own() -> None:
    coalescer, work = Coalescer(), Work()
    work.go_on.set()
    await coalescer.run(work)
    await coalescer.run(work)
    assert work.begun == 2


async def test_all_who_share_a_run_that_fails_get_its_error_and_the_next_run_is_another_one() -> None:
    coalescer, work = Coalescer(), Work()
    fails = 0

    async def fail() -> None:
        nonlocal fails
        fails += 1
        raise ZeroDivisionError(fails)

    asking = [asyncio.create_task(coalescer.run(work))]
    await asyncio.sleep(0)
    asking += [asyncio.create_task(coalescer.run(fail)) for _ in range(5)]
    await asyncio.sleep(0)
    work.go_on.set()
    _, *errors = await asyncio.gather(*asking, return_exceptions=True)
    assert [str(error) for error in errors] == ["1"] * 5
    await coalescer.run(work)
    assert (fails, work.ended) == (1, 2)


async def test_a_run_that_failed_does_not_count_for_those_who_came_during_it() -> None:
    coalescer, work = Coalescer(), Work()

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    failing = asyncio.create_task(coalescer.run(fail))
    await asyncio.sleep(0)
    other = asyncio.create_task(coalescer.run(work))
    work.go_on.set()
    with pytest.raises(ZeroDivisionError):
        await failing
    await other
    assert work.ended == 1


async def test_who_shares_a_run_does_not_share_that_its_caller_went_away() -> None:
    coalescer, begun, work = Coalescer(), Work(), Work()
    asking = [asyncio.create_task(coalescer.run(begun))]
    await asyncio.sleep(0)
    asking += [asyncio.create_task(coalescer.run(work)) for _ in range(2)]
    await asyncio.sleep(0)
    begun.go_on.set()
    await asking[0]
    await work.has_begun.wait()
    asking[1].cancel()
    work.go_on.set()
    await asking[2]
    assert (work.begun, work.ended) == (2, 1)
