"""Counts the requests in progress, so that shutdown can wait for them."""

import asyncio


class Busy:
    """A context manager for each request. Used on the event loop."""

    def __init__(self) -> None:
        self._count = 0
        self._ended = asyncio.Event()
        self._ended.set()

    def __enter__(self) -> None:
        self._count += 1
        self._ended.clear()

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if not self._count:
            self._ended.set()

    async def ended(self, seconds: float) -> bool:
        """Wait for up to ``seconds`` until no request is in progress; return whether that is so."""
        try:
            await asyncio.wait_for(self._ended.wait(), seconds)
        except (TimeoutError, asyncio.TimeoutError):
            return False
        return True
