"""Blocking calls that may hang, as on a lost network mount, with a timeout.

They must not run in the shared thread pool: a few that hang would exhaust it, and the process could not exit before
they return. So each user has one daemon thread at a time, which ends with the process whatever it is doing.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

Value = TypeVar("Value")


class Blocking:
    """Runs blocking calls in a thread, one at a time. ``name`` is the name of the thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._under_way: asyncio.Future[Any] | None = None

    async def call(self, work: Callable[[], Value], seconds: float) -> Value:
        """Return what ``work`` returns, or raise what it raises; ``TimeoutError`` if that takes ``seconds``.

        The thread keeps running then, and the next call waits up to ``seconds`` for it before it starts.
        """
        if self._under_way:
            await self._ended(self._under_way, seconds)
        future: Future[Value] = Future()
        future.set_running_or_notify_cancel()  # it cannot be cancelled: only its thread completes it
        self._under_way = asyncio.wrap_future(future)
        threading.Thread(target=_run, args=(future, work), name=self._name, daemon=True).start()
        ended: asyncio.Future[Value] = self._under_way
        await self._ended(ended, seconds)
        return ended.result()

    async def _ended(self, call: "asyncio.Future[Any]", seconds: float) -> None:
        await asyncio.wait({call}, timeout=seconds)
        if not call.done():
            raise TimeoutError
        call.exception()  # mark a late error as retrieved
        self._under_way = None


def _run(future: "Future[Value]", work: Callable[[], Value]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
        future.set_exception(error)
