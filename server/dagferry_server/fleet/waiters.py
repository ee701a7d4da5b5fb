"""The long polls of one deployment: all that wait for a change are notified at once, and no wake-up is lost.

All of this runs on the event loop. A caller compares what it has seen with the current deploy and calls ``wait``, with
no ``await`` in between, so nothing can change unnoticed; ``notify_all`` wakes everything that waits at that moment.
"""

import asyncio

MAX_WAITERS = 10_000
"""Of one deployment; further requests are answered at once, and sidecars then poll. Each waiter costs about 3 KB."""


class Waiters:
    """The requests that wait, ``most`` at once. Each costs one future and one timer."""

    __slots__ = ("_closed", "_futures", "_most")

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._futures: set[asyncio.Future[None]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._futures)

    async def wait(self, seconds: float) -> bool:
        """Return when notified, after ``seconds``, or at once if this is closed or too many wait already.

        ``False`` means at once.
        """
        if self._closed or seconds <= 0 or len(self._futures) >= (self._most or MAX_WAITERS):
            return False
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _wake, future)
        self._futures.add(future)
        try:
            await future
        finally:
            timer.cancel()
            self._futures.discard(future)
        return True

    def notify_all(self) -> None:
        """Wake everybody."""
        for future in self._futures:
            _wake(future)
        self._futures.clear()

    def close(self) -> None:
        """Wake all waiters, and let no more requests wait."""
        self._closed = True
        self.notify_all()


def _wake(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
