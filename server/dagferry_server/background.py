"""Work that continues after the client that caused it has disconnected, until the server ends."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


class Background:
    """The tasks that run in the background. Used on the event loop.

    ``stopping`` is true as soon as the server shuts down: long work then stops early.
    """

    def __init__(self) -> None:
        self.stopping = False
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Start work that continues even if the caller is cancelled; ``settled`` waits for it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(log_if_failed)
        return task

    def stop(self) -> None:
        """Note that the server is shutting down."""
        self.stopping = True

    async def settled(self) -> None:
        """Wait until nothing is in progress."""
        while self._tasks:
            await asyncio.wait(self._tasks)


def log_if_failed(task: "asyncio.Task[Any]") -> None:
    """Log the error that ended ``task``, if there was one; a client's disconnect does not count."""
    if not task.cancelled() and (error := task.exception()) and not isinstance(error, ConnectionError):
        log.error("Work in the background failed", exc_info=error)
