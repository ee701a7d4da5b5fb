"""The long-polls of one deployment: who waits for a change is told at once, and no wake-up is lost.

All of it runs on the event loop. A caller compares what it has seen with the current deploy and calls ``wait`` without
an ``await`` in between, so nothing can change unnoticed; ``tell`` wakes everybody who waits at that moment.
"""

import asyncio

MAX_WAITERS = 10_000
"""Of one deployment; who comes then is answered at once, and a sidecar takes to polling. Each costs about 3 KB."""


class Waiters:
    """Those who wait. Each costs one future and one timer."""

    __slots__ = ("_closed", "_futures")

    def __init__(self) -> None:
        self._futures: set[asyncio.Future[None]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._futures)

    async def wait(self, seconds: float) -> None:
        """Return when told, after ``seconds``, or at once if nobody is to wait any more or too many do."""
        if self._closed or seconds <= 0 or len(self._futures) >= MAX_WAITERS:
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _wake, future)
        self._futures.add(future)
        try:
            await future
        finally:
            timer.cancel()
            self._futures.discard(future)

    def tell(self) -> None:
        """Wake everybody."""
        for future in self._futures:
            _wake(future)
        self._futures.clear()

    def close(self) -> None:
        """Wake everybody, and let nobody wait from now on."""
        self._closed = True
        self.tell()


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
