"""What others can provoke does not fill the log."""

import asyncio

from dagferry_server import log_limit as loglimit
from dagferry_server.log_limit import OTHERS, Key, LogLimit
from running import eventually


async def test_so_many_lines_are_said_and_the_rest_is_counted() -> None:
    left: list[dict[Key, int]] = []
    limit = LogLimit(2, left.append)
    assert [limit.allows(("a",)) for _ in range(5)] == [True, True, False, False, False]
    assert limit.allows(("b",))
    limit.flush()
    assert left == [{("a",): 3}]
    assert limit.allows(("a",))
    limit.flush()


async def test_a_window_ends_by_itself(monkeypatch) -> None:
    monkeypatch.setattr(loglimit, "WINDOW_SECONDS", 0.01)
    left: list[dict[Key, int]] = []
    limit = LogLimit(1, left.append)
    for _ in range(3):
        limit.allows(("a",))
    await eventually("the window to end", lambda: left)
    await asyncio.sleep(0.05)
    assert left == [{("a",): 2}]
    assert limit.allows(("a",))
    limit.flush()


async def test_what_is_distinguished_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr(loglimit, "MAX_KEYS", 10)
    left: list[dict[Key, int]] = []
    limit = LogLimit(1, left.append)
    assert sum(limit.allows((str(number),)) for number in range(10_000)) == 11
    assert len(limit._seen) == 11
    limit.flush()
    assert left == [{OTHERS: 10_000 - 11}]
