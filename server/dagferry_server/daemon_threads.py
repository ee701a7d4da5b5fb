"""Threads for blocking calls that may hang: they take no shared thread, and do not hold up the end of the process."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

Value = TypeVar("Value")
_Call = tuple["Future[Any]", Callable[[], Any]]


class DaemonThreads:
    """At most ``most`` daemon threads, which start when they are needed. Used on the event loop."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._started = 0
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)

    async def run(self, work: Callable[[], Value], seconds: float) -> Value:
        """Return what ``work`` returns, or raise what it raises; ``TimeoutError`` if that takes ``seconds``.

        A call that has not started by then never does. One that has keeps its thread until it ends.
        """
        future: Future[Value] = Future()
        self._calls.put((future, work))
        if not self._idle.acquire(blocking=False) and self._started < self._most:
            self._started += 1
            name = f"{self._name}_{self._started}"
            threading.Thread(target=_work, args=(self._calls, self._idle), name=name, daemon=True).start()
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), seconds)
        except asyncio.TimeoutError as error:  # on Python 3.10 it is another class
            raise TimeoutError from error

    def close(self) -> None:
        """Let each thread end after its call."""
        for _ in range(self._started):
            self._calls.put(None)


def _work(calls: "SimpleQueue[_Call | None]", idle: threading.Semaphore) -> None:
    while call := calls.get():
        future, work = call
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
                future.set_exception(error)
        del call, future, work  # an idle thread holds no results
        idle.release()
