"""How large bodies are sent: in pieces as fast as the client reads, or by the kernel. Nothing is compressed.

A HEAD request gets only the headers, and its body is not produced.

A client that does not read holds a file, one of the limited downloads and a piece in memory, so it must read at a
minimum rate. Data is read and packed in separate threads: uploads and checks never wait for readers.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import FileIO
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from aiohttp import hdrs, web

from dagferry_server.errors import StoreDamaged
from dagferry_server.http.models import FIXED_HEADERS
from dagferry_server.store.base import BundleSource

MIN_SEND_BYTES_PER_SECOND = 8 * 1024
SEND_IDLE_SECONDS = 60
"""A client that reads a body more slowly than this, after the idle seconds, is disconnected. Sidecars allow 15 minutes
for a bundle: at this rate that is 7 MiB."""
SMALL_BYTES = 64 * 1024
"""Up to this size, headers and body are sent together; of a larger body, this much is in memory for each client."""
KERNEL_BYTES = 256 * 1024
"""What the kernel sends before the rate is checked again; at the minimum rate, half of ``SEND_IDLE_SECONDS``."""
THREADS = 4
"""Threads that read what is sent; they wait only for the disk, never for a client."""
OPENERS = 16
"""Threads that open bundles of a shared store; they may wait for it, each for another bundle."""
PACKERS = 2
"""Threads that pack downloads."""

_Made = TypeVar("_Made")


class TransferDeadline:
    """The deadline of one client: each byte that it reads extends it."""

    def __init__(self) -> None:
        self._at = time.monotonic() + SEND_IDLE_SECONDS
        self._stopped_at: float | None = None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the clock during the block, in which the client waits for the server."""
        self._stopped_at = time.monotonic()
        try:
            yield
        finally:
            self._at += time.monotonic() - self._stopped_at
            self._stopped_at = None

    def took(self, size: int) -> None:
        """Extend the deadline because the client read ``size`` bytes; it is at most ``SEND_IDLE_SECONDS`` away."""
        latest = time.monotonic() + SEND_IDLE_SECONDS
        self._at = min(self._at + size / MIN_SEND_BYTES_PER_SECOND, latest)

    def left(self) -> float:
        """Return how many seconds are left; 0 if the client is too slow."""
        return SEND_IDLE_SECONDS if self._stopped_at is not None else max(0.0, self._at - time.monotonic())


class Sender:
    """Sends large bodies; ``threads`` is the number of its own threads that read or produce them."""

    def __init__(self, name: str, threads: int = THREADS) -> None:
        self._threads = ThreadPoolExecutor(threads, name)
        self._openers = ThreadPoolExecutor(OPENERS, f"{name}-open")
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def close(self) -> None:
        """Stop reading."""
        for threads in (self._threads, self._openers):
            threads.shutdown(wait=False, cancel_futures=True)

    async def send_bytes(self, request: web.BaseRequest, body: bytes, headers: Mapping[str, str]) -> web.StreamResponse:
        """Send ``body``, which all clients share: what a client has not read yet is not copied."""
        if len(body) <= SMALL_BYTES:
            return web.Response(body=body, headers={**FIXED_HEADERS, **headers})
        view = memoryview(body)
        response = _response(headers, len(body))
        await response.prepare(request)
        if request.method == hdrs.METH_HEAD:
            return response
        deadline = TransferDeadline()

        async def send() -> None:
            for start in range(0, len(body), SMALL_BYTES):
                await response.write(view[start : start + SMALL_BYTES])
                deadline.took(SMALL_BYTES)
            await response.write_eof()

        await _send_in_time(request, send(), deadline)
        return response

    async def send_bundle(
        self,
        request: web.BaseRequest,
        open_bundle: Callable[[], BundleSource],
        headers: Mapping[str, str],
        *,
        fetched: str = "",
    ) -> web.StreamResponse:
        """Send the bundle that ``open_bundle`` opens in a thread. Its errors are raised before anything is sent.

        ``fetched`` is the name of a bundle that may have to be fetched first: requests for it wait for one thread, and
        those for others do not wait for it.
        """
        opening: asyncio.Future[BundleSource]
        if fetched:
            opening = asyncio.ensure_future(self._open_in_turn(fetched, open_bundle))
        else:
            opening = asyncio.get_running_loop().run_in_executor(self._threads, open_bundle)
        try:
            source = await asyncio.shield(opening)
            response = _response(headers, source.size)
            await response.prepare(request)
            if request.method == hdrs.METH_HEAD:
                return response
            if request.transport is None:
                raise ConnectionResetError
            # The kernel cannot encrypt, and asyncio's fallback loses the body.
            encrypted = request.transport.get_extra_info("sslcontext") is not None
            deadline = TransferDeadline()
            if encrypted or source.file is None:
                send = self._by_pieces(response, source, deadline)
            else:
                send = _by_kernel(request.transport, source.file, source.size, deadline)
            await _send_in_time(request, send, deadline)
            await response.write_eof()
        finally:
            # The client may disconnect at any moment, which cancels this task; the bundle is closed all the same.
            opening.add_done_callback(_close)
        return response

    async def _open_in_turn(self, name: str, open_bundle: Callable[[], BundleSource]) -> BundleSource:
        turn = self._turns.setdefault(name, asyncio.Lock())
        async with turn:
            return await asyncio.get_running_loop().run_in_executor(self._openers, open_bundle)

    async def send_stream(
        self,
        request: web.BaseRequest,
        pieces: Generator[bytes, None, None],
        headers: Mapping[str, str],
        size: int | None = None,
    ) -> web.StreamResponse:
        """Send what ``pieces`` yields; each piece is made in a thread when the client has read the previous one.

        ``size`` is that of all of them together, if it is known. What the first piece raises is raised before anything
        is sent.
        """
        # The client may disconnect while a piece is being made.
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
                deadline.took(len(piece))
                with deadline.stopped():
                    piece = await self.call(make)
            await response.write_eof()

        try:
            first = await self.call(make)
            response = _response(headers, size)
            await response.prepare(request)
            if request.method != hdrs.METH_HEAD:
                deadline = TransferDeadline()
                await _send_in_time(request, send(response, first), deadline)
        finally:
            asyncio.get_running_loop().run_in_executor(None, close)
        return response

    async def _by_pieces(self, response: web.StreamResponse, source: BundleSource, deadline: TransferDeadline) -> None:
        # Do not wait after the last piece: a client that has everything may disconnect, which is not an error.
        for start in range(0, source.size, SMALL_BYTES):
            wanted = min(SMALL_BYTES, source.size - start)
            piece = await self.call(source.read, start, wanted)
            if len(piece) < wanted:  # abort the connection: the client would wait for the rest
                raise StoreDamaged(f"A stored bundle has {start + len(piece)} bytes, and not {source.size}.")
            await response.write(piece)
            deadline.took(len(piece))

    def call(self, work: Callable[..., _Made], *arguments: Any) -> Awaitable[_Made]:
        """Do ``work`` in one of the threads."""
        return asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


async def _by_kernel(transport: asyncio.Transport, file: FileIO, size: int, deadline: TransferDeadline) -> None:
    loop = asyncio.get_running_loop()
    for start in range(0, size, KERNEL_BYTES):
        await loop.sendfile(transport, file, start, min(KERNEL_BYTES, size - start))
        deadline.took(KERNEL_BYTES)


async def _send_in_time(
    request: web.BaseRequest, sending: Coroutine[Any, Any, None], deadline: TransferDeadline
) -> None:
    """Wait for ``sending`` while the client keeps its deadline; else abort the connection."""
    if request.transport is not None:
        # Over TLS, asyncio would buffer 512 KiB for a client that does not read.
        request.transport.set_write_buffer_limits(SMALL_BYTES)
    task = asyncio.ensure_future(sending)
    try:
        while not task.done() and (left := deadline.left()):
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
