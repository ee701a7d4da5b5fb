"""A small file that is read again when it changes. What cannot be used never replaces what could.

A new content is taken only when it was seen twice in a row, so a file that is being written is not taken halfway; and
only if it parses, so a broken one leaves the last good one in force. No stamps are compared: two writes within one
tick of a file system's clock have the same, and to read a few kilobytes each second costs less than a page fault.

A look that hangs, as on a network mount that is gone, is a fault like any other, and holds up nothing else.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar

from dagferry_core.errors import DagferryError
from dagferry_runtime.logs import fields
from dagferry_server.auth.blocking import Blocking
from dagferry_server.auth.regular import read_regular

LOOK_EVERY_SECONDS = 1.0
LOOK_SECONDS = 5.0
"""What takes longer hangs."""
MAX_WATCHED_BYTES = 1024 * 1024

log = logging.getLogger(__name__)

Value = TypeVar("Value")


class Reload(NamedTuple):
    """How reading something again went that may change while the server runs.

    ``last_error`` says why the last attempt failed, ``None`` if it did not. ``succeeded_at`` is when what is in force
    was read, in seconds since the epoch; 0 if nothing was yet.
    """

    last_error: str | None
    succeeded_at: float


class WatchedFile(Generic[Value]):
    """The file at ``path``, as ``parse`` makes a value of its bytes or raises a ``DagferryError``.

    ``value`` is the last good one. ``last_error`` says why the file as it is now was not taken, ``None`` if it was.
    Made with a file that cannot be used, it raises ``SetupError``: a command starts with good files or not at all.
    With ``guarded`` it says who may do what, and must not be writable by everybody.
    """

    def __init__(self, path: str, parse: Callable[[bytes], Value], *, guarded: bool = False) -> None:
        self.path = path
        self._parse = parse
        self._guarded = guarded
        self._taken = self._seen = self._read()
        self.value = parse(self._taken)
        self.last_error: str | None = None
        self._taken_at = time.time()

    @property
    def reload(self) -> Reload:
        """How the last reload went."""
        return Reload(self.last_error, self._taken_at)

    def _read(self) -> bytes:
        return read_regular(self.path, MAX_WATCHED_BYTES, guarded=self._guarded)

    def look(self) -> None:
        """Read the file and take it if it is new, complete and good. Blocks; meant for a thread."""
        try:
            content = self._read()
            if content != self._seen:
                self._seen = content
                return
            if content != self._taken:
                self.value = self._parse(content)
                self._taken = content
                self._taken_at = time.time()
                log.info("A changed file was taken", extra=fields(path=self.path))
            self.last_error = None
        except DagferryError as error:
            self.report(error.message)

    def report(self, why: str) -> None:
        """Note why the file is not taken, and log it once."""
        if self.last_error != why:
            self.last_error = why
            log.error(
                "A changed file cannot be used; what it said before stays in force",
                extra=fields(path=self.path, error=why),
            )


@asynccontextmanager
async def running(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do ``work`` in the background until the end of the block; say it loudly if it breaks."""
    tasks = [asyncio.create_task(one) for one in work]
    for task in tasks:
        task.add_done_callback(tell_if_it_broke)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def tell_if_it_broke(task: "asyncio.Task[None]") -> None:
    """Log it if ``task``, which was to run until the end, ended by an error."""
    if not task.cancelled() and (error := task.exception()):
        log.critical("Changes of watched files are not seen any more: restart the server", exc_info=error)


async def watch(files: Sequence[WatchedFile[Any]]) -> None:
    """Look at each of ``files`` every ``LOOK_EVERY_SECONDS``, off the event loop, until cancelled."""
    await asyncio.gather(*map(_watch, files))


async def _watch(file: WatchedFile[Any]) -> NoReturn:
    looking = Blocking("look")
    while True:
        await asyncio.sleep(LOOK_EVERY_SECONDS)
        try:
            await looking.call(file.look, LOOK_SECONDS)
        except TimeoutError:
            file.report(f"{file.path} could not be read within {LOOK_SECONDS:g} s.")
        except Exception:
            log.exception("A defect: a changed file could not be looked at", extra=fields(path=file.path))
            file.report(f"{file.path} could not be looked at.")
