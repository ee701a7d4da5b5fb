"""Keeps the memory of a long-running server small."""

import asyncio
import contextlib
import ctypes
import gc
import threading
import time
from types import TracebackType

from dagferry_server.errors import ServerBusy

_M_MMAP_THRESHOLD = -3
LARGE_BYTES = 128 * 1024


def return_large_blocks() -> None:
    """Return every block over ``LARGE_BYTES`` to the system as soon as it is freed.

    This is glibc's own initial threshold, but it raises that with every large block that is freed, and then keeps up
    to 32 MiB in each thread's arena. Measured: 32 uploads of 20 MB at once peak at 137 MiB without this and at 96 MiB
    with it, in the same time. Other C libraries do not need it, and have no ``mallopt``.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)


def leave_aside() -> None:
    """Exclude existing objects, such as the deploy logs, from garbage collection: they live as long as the process.

    Searching 250,000 entries takes the collector 80 ms, and everything else waits.
    """
    gc.collect()
    gc.freeze()


MAX_TURN_SECONDS = 600
"""How long a bundle with many files may wait for others; each of them takes some seconds."""
TURN_PAUSE_SECONDS = 0.05

_one_at_a_time = threading.Lock()


class TurnTaken(Exception):
    """Another bundle holds the turn."""


class Turn:
    """A lock for holding a bundle of more than ``LARGE_FILES`` files in memory: the server holds one at a time.

    Each takes up to 100 MiB while it is checked and stored, whatever the upload's size. Small bundles need no turn. A
    context manager; a turn may be ended in another thread than the one that took it.
    """

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken = False

    def take(self, seconds: float = 0) -> None:
        """Take the turn, unless this one has it already; ``TurnTaken`` if another still holds it after ``seconds``."""
        if not self._taken:
            self._taken = _one_at_a_time.acquire(timeout=seconds)
            if not self._taken:
                raise TurnTaken

    async def wait(self) -> None:
        """Wait for the turn, and take it; ``ServerBusy`` after ``MAX_TURN_SECONDS``."""
        deadline = time.monotonic() + MAX_TURN_SECONDS
        while True:
            with contextlib.suppress(TurnTaken):
                return self.take()
            if time.monotonic() > deadline:
                raise ServerBusy(f"Other bundles with many files were being processed for {MAX_TURN_SECONDS} s.")
            await asyncio.sleep(TURN_PAUSE_SECONDS)

    def end(self) -> None:
        """Release the turn, if this one has it."""
        if self._taken:
            self._taken = False
            _one_at_a_time.release()

    def __enter__(self) -> "Turn":  # noqa: PYI034 - Self is not in the typing of Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
