"""Calls that may hang, as on a network mount that is gone, without anybody having to wait for them.

They are not for the threads that all work shares: a few that hang would leave none, and the process could not end
before them. So each caller has one thread at a time, which ends with the process whatever it is doing.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

Value = TypeVar("Value")


class Blocking:
    """Runs the blocking calls of one caller in a thread, one at a time. ``name`` is the thread's."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._under_way: asyncio.Future[Any] | None = None

    async def call(self, work: Callable[[], Value], seconds: float) -> Value:
        """Return what ``work`` returns, or raise what it raises; ``TimeoutError`` if that takes ``seconds``.

        The thread goes on then, and the next call waits as long for it before it begins.
        """
        if self._under_way:
            await self._ended(self._under_way, seconds)
        future: Future[Value] = Future()
        future.set_running_or_notify_cancel()  # so that its thread alone ends it
        self._under_way = asyncio.wrap_future(future)
        threading.Thread(target=_run, args=(future, work), name=self._name, daemon=True).start()
        ended: asyncio.Future[Value] = self._under_way
        await self._ended(ended, seconds)
        return ended.result()

    async def _ended(self, call: "asyncio.Future[Any]", seconds: float) -> None:
        await asyncio.wait({call}, timeout=seconds)
        if not call.done():
            raise TimeoutError
        call.exception()  # of a late one nobody wants to know
        self._under_way = None


def _run(future: "Future[Value]", work: Callable[[], Value]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - it is raised where it was asked for
        future.set_exception(error)
