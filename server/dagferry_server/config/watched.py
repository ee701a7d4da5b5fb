"""A small file that is reloaded when it changes. An invalid content never replaces a valid one.

It is checked every second and loaded after two identical reads, so a file being written is not loaded halfway; and only
if it parses, so the last valid content stays in effect. Modification times are not compared: two writes within one tick
of the file system's clock have the same, and reading a few kilobytes each second costs next to nothing.

A read that hangs, as on a lost network mount, is an error like any other, and does not block anything else.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar

from dagferry_core.errors import DagferryError
from dagferry_runtime.logs import fields
from dagferry_runtime.regular import read_regular
from dagferry_server.config.blocking import Blocking

LOOK_EVERY_SECONDS = 1.0
LOOK_SECONDS = 5.0
"""The timeout of one check."""
MAX_WATCHED_BYTES = 1024 * 1024

log = logging.getLogger(__name__)

Value = TypeVar("Value")


class Reload(NamedTuple):
    """The result of reloading something that may change while the server runs.

    ``last_error`` says why the last attempt failed, ``None`` if it succeeded. ``succeeded_at`` is when the state in
    effect was read, in seconds since the epoch; 0 if none has been read yet.
    """

    last_error: str | None
    succeeded_at: float


class WatchedFile(Generic[Value]):
    """The file at ``path``; ``parse`` turns its bytes into a value or raises a ``DagferryError``.

    ``value`` is the last valid one. ``last_error`` says why the current content was rejected, ``None`` if it was
    loaded. The first load raises: a command starts with valid files or not at all. A ``guarded`` file controls access,
    and must not be world-writable.
    """

    def __init__(self, path: str, parse: Callable[[bytes], Value], *, guarded: bool = False) -> None:
        self.path = path
        self._parse = parse
        self._guarded = guarded
        self._loaded = self._seen = self._read()
        self.value = parse(self._loaded)
        self.last_error: str | None = None
        self._loaded_at = time.time()

    @property
    def reload(self) -> Reload:
        """The result of the last reload."""
        return Reload(self.last_error, self._loaded_at)

    def _read(self) -> bytes:
        return read_regular(self.path, MAX_WATCHED_BYTES, guarded=self._guarded)

    def look(self) -> None:
        """Read the file and load it if it is new, complete and valid. Blocks; meant for a thread."""
        try:
            content = self._read()
            if content != self._seen:
                self._seen = content
                return
            if content != self._loaded:
                self.value = self._parse(content)
                self._loaded = content
                self._loaded_at = time.time()
                log.info("Changed file loaded", extra=fields(path=self.path))
            self.last_error = None
        except DagferryError as error:
            self.report(error.message)

    def report(self, why: str) -> None:
        """Record why the file was not loaded, and log it once."""
        if self.last_error != why:
            self.last_error = why
            log.error(
                "Changed file rejected; the previous content stays in effect",
                extra=fields(path=self.path, error=why),
            )


@asynccontextmanager
async def running(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run ``work`` in the background during the block; log it if it fails."""
    tasks = [asyncio.create_task(one) for one in work]
    for task in tasks:
        task.add_done_callback(log_if_failed)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def log_if_failed(task: "asyncio.Task[None]") -> None:
    """Log the error of ``task``, which should have run until it is cancelled."""
    if not task.cancelled() and (error := task.exception()):
        log.critical("Watching files failed; restart the server to load further changes", exc_info=error)


async def watch(files: Sequence[WatchedFile[Any]]) -> None:
    """Check each of ``files`` every ``LOOK_EVERY_SECONDS``, off the event loop, until cancelled."""
    await asyncio.gather(*map(_watch, files))


async def _watch(file: WatchedFile[Any]) -> NoReturn:
    reading = Blocking("look")
    while True:
        await asyncio.sleep(LOOK_EVERY_SECONDS)
        try:
            await reading.call(file.look, LOOK_SECONDS)
        except TimeoutError:
            file.report(f"{file.path} could not be read within {LOOK_SECONDS:g} s.")
        except Exception:
            log.exception("Internal error while reading a changed file", extra=fields(path=file.path))
            file.report(f"{file.path} could not be read because of an internal error.")
