"""Coalesces requests for the same work: those that arrive during a run share the next one."""

import asyncio
from collections.abc import Awaitable, Callable


class Coalescer:
    """Runs work, one run at a time; callers that arrive during a run share the next one. Used on the event loop."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._asked = self._done = 0

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Return after the end of a run that began later than now. The caller that started the run gets its error."""
        self._asked += 1
        mine = self._asked
        async with self._lock:
            if self._done >= mine:
                return
            covered = self._asked
            await work()
            self._done = covered
