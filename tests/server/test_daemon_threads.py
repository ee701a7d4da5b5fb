"""Blocking calls in threads of their own: bounded, with a timeout, and no thread holds up the end of the process."""

import asyncio
import subprocess
import sys
import threading

import pytest

from dagferry_server.daemon_threads import DaemonThreads
from harness import PATIENCE_SECONDS
from running import eventually


def fail() -> None:
    raise ValueError("why")


async def test_a_call_returns_its_result_or_raises_its_error() -> None:
    threads = DaemonThreads(2, "test")
    assert await threads.run(lambda: 42, PATIENCE_SECONDS) == 42
    with pytest.raises(ValueError, match="why"):
        await threads.run(fail, PATIENCE_SECONDS)
    assert await threads.run(lambda: 43, PATIENCE_SECONDS) == 43
    threads.close()


async def test_there_are_no_more_threads_than_allowed_and_a_late_call_does_not_start() -> None:
    threads = DaemonThreads(2, "busy")
    goes_on, began, late = threading.Event(), [], []

    def hang(number: int) -> int:
        began.append(number)
        goes_on.wait(PATIENCE_SECONDS)
        return number

    hanging = [asyncio.create_task(threads.run(lambda number=number: hang(number), 60)) for number in range(2)]
    await eventually("both to hang", lambda: len(began) == 2)
    with pytest.raises(TimeoutError):
        await threads.run(lambda: late.append(1), 0.05)
    queued = asyncio.create_task(threads.run(lambda: "third", PATIENCE_SECONDS))
    await asyncio.sleep(0)
    assert sum(thread.name.startswith("busy_") for thread in threading.enumerate()) == 2
    goes_on.set()
    assert await asyncio.gather(*hanging, queued) == [0, 1, "third"]
    assert not late
    threads.close()


async def test_a_thread_that_is_idle_is_used_again_and_ends_when_closed() -> None:
    threads = DaemonThreads(5, "again")
    names = [await threads.run(lambda: threading.current_thread().name, PATIENCE_SECONDS) for _ in range(3)]

    def alive() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("again_")]

    assert set(names) <= {"again_1", "again_2", "again_3"}
    threads.close()
    await eventually("the threads to end", lambda: not alive())


def test_a_call_that_hangs_does_not_hold_up_the_end_of_the_process() -> None:
    code = """
import asyncio, time
from dagferry_server.daemon_threads import DaemonThreads

async def main():
    try:
        await DaemonThreads(1, "hang").run(lambda: time.sleep(600), 0.05)
    except TimeoutError:
        print("late")

asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "late\n"
