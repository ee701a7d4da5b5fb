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
    """Have every block over ``LARGE_BYTES`` go back to the system as soon as it is freed.

    That is glibc's own start value, but it raises it with every large block that is freed, and then keeps up to 32 MiB
    in each thread's arena. Measured: 32 uploads of 20 MB at once peak at 137 MiB without this, at 96 MiB with it, and
    take the same time. Other C libraries do not need it, and have no ``mallopt``.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)


def leave_aside() -> None:
    """Let the garbage collector leave aside what is there now and stays, as the deploy logs do.

    To look through 250,000 entries takes it 80 ms, and everything else waits for so long.
    """
    gc.collect()
    gc.freeze()


MAX_TURN_SECONDS = 600
"""How long a bundle with many files may wait for others: each takes some seconds."""
TURN_PAUSE_SECONDS = 0.05

_one_at_a_time = threading.Lock()


class TurnTaken(Exception):
    """Another bundle has the turn."""


class Turn:
    """A turn at holding a bundle of many files in memory, over ``LARGE_FILES``: the server holds one at a time.

    Each takes up to 100 MiB while it is checked and stored, whatever the upload weighs. Small bundles need no turn.
    A context manager; a turn may be ended in another thread than it was taken in.
    """

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken = False

    def take(self, seconds: float = 0) -> None:
        """Take the turn, unless it is taken already; ``TurnTaken`` if another has it for ``seconds`` more."""
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
                raise ServerBusy(f"Other bundles with many files were in the way for {MAX_TURN_SECONDS} s.")
            await asyncio.sleep(TURN_PAUSE_SECONDS)

    def end(self) -> None:
        """Let another have the turn."""
        if self._taken:
            self._taken = False
            _one_at_a_time.release()

    def __enter__(self) -> "Turn":  # noqa: PYI034 - Self is not in the typing of Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
