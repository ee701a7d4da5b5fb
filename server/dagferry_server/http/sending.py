"""How bodies that may be large are sent: in pieces that the client takes, or by the kernel. Nothing is compressed.

A HEAD request gets the headers alone, and what would be made for the body is not made.

A client that takes nothing holds a file, a place and a piece in memory, so it has to keep a pace. What is read or
packed for it is so in threads of its own: uploads and checks never wait for readers.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import FileIO
from typing import Any, TypeVar

from aiohttp import hdrs, web

from dagferry_server.errors import StoreDamaged
from dagferry_server.http.models import FIXED_HEADERS
from dagferry_server.store.base import BundleSource

MIN_SEND_BYTES_PER_SECOND = 8 * 1024
SEND_IDLE_SECONDS = 60
"""A client that, after the idle seconds, takes a body slower than this is cut off. Sidecars give a bundle 15 minutes:
at this pace that is 7 MiB."""
SMALL_BYTES = 64 * 1024
"""Up to here, headers and body go out together; and so much of a large body is in memory for each client."""
KERNEL_BYTES = 256 * 1024
"""What the kernel is given to send before the pace is looked at again; it takes half of ``SEND_IDLE_SECONDS``."""
THREADS = 4
"""Which read what is sent; they wait for the disk only, never for a client."""
PACKERS = 2
"""Threads that pack bundles for people."""

_Made = TypeVar("_Made")


class TransferDeadline:
    """The pace at which one client has to take a body: when it has to have taken more."""

    def __init__(self) -> None:
        self._deadline = time.monotonic() + SEND_IDLE_SECONDS
        self._stopped_at: float | None = None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Count no time for the block: it is the client that waits."""
        self._stopped_at = time.monotonic()
        try:
            yield
        finally:
            self._deadline += time.monotonic() - self._stopped_at
            self._stopped_at = None

    def took(self, size: int) -> None:
        """Note that the client took ``size`` bytes; nobody can save up more than ``SEND_IDLE_SECONDS``."""
        latest = time.monotonic() + SEND_IDLE_SECONDS
        self._deadline = min(self._deadline + size / MIN_SEND_BYTES_PER_SECOND, latest)

    def left(self) -> float:
        """Return how many seconds are left; none if it is too slow."""
        return SEND_IDLE_SECONDS if self._stopped_at is not None else max(0.0, self._deadline - time.monotonic())


class Sender:
    """Sends large bodies; ``threads`` is how many of its own it has for reading or making them."""

    def __init__(self, name: str, threads: int = THREADS) -> None:
        self._threads = ThreadPoolExecutor(threads, name)

    def close(self) -> None:
        """Read nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def send_bytes(self, request: web.BaseRequest, body: bytes, headers: Mapping[str, str]) -> web.StreamResponse:
        """Send ``body``. Whatever the client does not take stays where it is, however many clients there are."""
        if len(body) <= SMALL_BYTES:
            return web.Response(body=body, headers={**FIXED_HEADERS, **headers})
        view = memoryview(body)
        response = _response(headers, len(body))
        await response.prepare(request)
        if request.method == hdrs.METH_HEAD:
            return response
        pace = TransferDeadline()

        async def send() -> None:
            for start in range(0, len(body), SMALL_BYTES):
                await response.write(view[start : start + SMALL_BYTES])
                pace.took(SMALL_BYTES)
            await response.write_eof()

        await _kept(request, send(), pace)
        return response

    async def send_bundle(
        self, request: web.BaseRequest, open_bundle: Callable[[], BundleSource], headers: Mapping[str, str]
    ) -> web.StreamResponse:
        """Send the bundle that ``open_bundle`` opens, in a thread. What it raises can still be answered."""
        opening = asyncio.get_running_loop().run_in_executor(self._threads, open_bundle)
        try:
            source = await asyncio.shield(opening)
            response = _response(headers, source.size)
            await response.prepare(request)
            if request.method == hdrs.METH_HEAD:
                return response
            if request.transport is None:
                raise ConnectionResetError
            # The kernel cannot encrypt; what asyncio does instead loses the body.
            encrypted = request.transport.get_extra_info("sslcontext") is not None
            pace = TransferDeadline()
            if encrypted or source.file is None:
                send = self._by_pieces(response, source, pace)
            else:
                send = _by_kernel(request.transport, source.file, source.size, pace)
            await _kept(request, send, pace)
            await response.write_eof()
        finally:
            # The client may go away at any moment, and with it this task; the bundle is closed all the same.
            opening.add_done_callback(_close)
        return response

    async def send_stream(
        self, request: web.BaseRequest, pieces: Generator[bytes, None, None], headers: Mapping[str, str]
    ) -> web.StreamResponse:
        """Send what ``pieces`` yields; each is made in a thread, when the client has taken the one before.

        An error that the first piece raises can still be answered.
        """
        # The client may go away while a piece is being made.
        lock = threading.Lock()

        def make() -> bytes:
            with lock:
                return next(pieces, b"")

        def close() -> None:
            with lock:
                pieces.close()

        async def send(response: web.StreamResponse, piece: bytes) -> None:
            while piece:
                await response.write(piece)
                pace.took(len(piece))
                with pace.stopped():
                    piece = await self._call(make)
            await response.write_eof()

        try:
            first = await self._call(make)
            response = _response(headers, None)
            await response.prepare(request)
            if request.method != hdrs.METH_HEAD:
                pace = TransferDeadline()
                await _kept(request, send(response, first), pace)
        finally:
            asyncio.get_running_loop().run_in_executor(None, close)
        return response

    async def _by_pieces(self, response: web.StreamResponse, source: BundleSource, pace: TransferDeadline) -> None:
        # Nothing is waited for behind the last piece: a client that has it all may hang up, and has not broken off.
        for start in range(0, source.size, SMALL_BYTES):
            wanted = min(SMALL_BYTES, source.size - start)
            piece = await self._call(source.read, start, wanted)
            if len(piece) < wanted:  # the client is cut off: it would wait for the rest
                raise StoreDamaged(f"A stored bundle has {start + len(piece)} bytes, and not {source.size}.")
            await response.write(piece)
            pace.took(len(piece))

    def _call(self, work: Callable[..., _Made], *arguments: Any) -> Awaitable[_Made]:
        return asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


async def _by_kernel(transport: asyncio.Transport, file: FileIO, size: int, pace: TransferDeadline) -> None:
    loop = asyncio.get_running_loop()
    for start in range(0, size, KERNEL_BYTES):
        await loop.sendfile(transport, file, start, min(KERNEL_BYTES, size - start))
        pace.took(KERNEL_BYTES)


async def _kept(request: web.BaseRequest, sending: Coroutine[Any, Any, None], pace: TransferDeadline) -> None:
    """Wait for ``sending`` as long as the client keeps ``pace``; else cut the connection with what is still in it."""
    if request.transport is not None:
        # Over TLS, asyncio would keep 512 KiB for a client that takes nothing.
        request.transport.set_write_buffer_limits(SMALL_BYTES)
    task = asyncio.ensure_future(sending)
    try:
        while not task.done() and (left := pace.left()):
            await asyncio.wait({task}, timeout=left)
    finally:
        if is_late := not task.done():
            task.cancel()
            await asyncio.wait({task})
    if is_late and request.transport is not None:
        request.transport.abort()
    if task.cancelled():
        raise ConnectionResetError
    await task


def _close(opening: "asyncio.Future[BundleSource]") -> None:
    if not opening.cancelled() and not opening.exception():
        opening.get_loop().run_in_executor(None, opening.result().close)


def _response(headers: Mapping[str, str], length: int | None) -> web.StreamResponse:
    response = web.StreamResponse(headers={**FIXED_HEADERS, **headers})
    response.content_length = length
    return response
