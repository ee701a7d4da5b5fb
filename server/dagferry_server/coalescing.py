"""Coalesces requests for the same work: those that arrive during a run share the next one."""

import asyncio
from collections.abc import Awaitable, Callable


class Coalescer:
    """Runs work, one run at a time; callers that arrive during a run share the next one. Used on the event loop."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._asked = self._done = 0
        self._error: Exception | None = None

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Return after the end of a run that began later than now, or raise its error, as all do who share it.

        A run whose caller is cancelled is shared by nobody: the next caller starts another one.
        """
        self._asked += 1
        mine = self._asked
        async with self._lock:  # first come, first served: who shares a run is here before the next one begins
            if self._done >= mine:
                if self._error:
                    raise self._error
                return
            covered, self._error = self._asked, None
            try:
                await work()
            except Exception as error:
                self._done, self._error = covered, error
                raise
            self._done = covered
