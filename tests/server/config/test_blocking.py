"""Calls that may hang: each caller has one thread at a time, and nobody waits for it for ever."""

import threading

import pytest

from dagferry_server.config.blocking import Blocking

SHORT = 0.02
LONG = 30.0


async def test_a_call_returns_and_raises_what_the_work_does() -> None:
    blocking = Blocking("test")
    assert await blocking.call(lambda: 1, LONG) == 1
    with pytest.raises(ZeroDivisionError):
        await blocking.call(lambda: 1 // 0, LONG)
    assert await blocking.call(lambda: 2, LONG) == 2


async def test_what_hangs_is_given_up_and_nothing_begins_before_it_ends() -> None:
    blocking, going_on, ran = Blocking("hangs"), threading.Event(), list[str]()

    def hang() -> None:
        going_on.wait(LONG)
        raise ValueError("late, and no news to anybody")

    for _ in range(3):
        with pytest.raises(TimeoutError):
            await blocking.call(hang, SHORT)
    assert [thread.name for thread in threading.enumerate()].count("hangs") == 1
    going_on.set()
    await blocking.call(lambda: ran.append("next"), LONG)
    assert ran == ["next"]


async def test_its_threads_do_not_keep_the_process() -> None:
    kinds = []
    await Blocking("test").call(lambda: kinds.append(threading.current_thread().daemon), LONG)
    assert kinds == [True]
