"""Work that goes on in the background."""

import asyncio
import logging

from dagferry_server.background import Background


async def test_settling_waits_for_work_that_other_work_started() -> None:
    background, ended = Background(), []

    async def second() -> None:
        await asyncio.sleep(0)
        ended.append("second")

    async def first() -> None:
        background.spawn(second())
        ended.append("first")

    background.spawn(first())
    await background.settled()
    assert ended == ["first", "second"]


async def test_work_that_was_cancelled_is_no_error(caplog) -> None:
    background = Background()
    task = background.spawn(asyncio.sleep(50))
    task.cancel()
    await background.settled()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
