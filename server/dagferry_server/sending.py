"""How bodies that may be large are sent: in pieces that the client takes, or by the kernel. Nothing is compressed.

A HEAD request gets the headers alone, and what would be made for the body is not made.
"""

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from io import FileIO

from aiohttp import hdrs, web

from dagferry_core.limits import PIECE_BYTES
from dagferry_server.answers import FIXED_HEADERS

SEND_SECONDS = 3600
"""A client that has not taken the whole of a body by then is cut off."""
SMALL_BYTES = 64 * 1024
"""Up to here, headers and body go out together."""


async def send_bytes(request: web.BaseRequest, body: bytes, headers: Mapping[str, str]) -> web.StreamResponse:
    """Send ``body``. Whatever the client does not take stays where it is, however many clients there are."""
    if len(body) <= SMALL_BYTES:
        return web.Response(body=body, headers={**FIXED_HEADERS, **headers})
    view = memoryview(body)
    pieces = (view[start : start + SMALL_BYTES] for start in range(0, len(body), SMALL_BYTES))
    response = _response(headers, len(body))
    await response.prepare(request)
    if request.method == hdrs.METH_HEAD:
        return response

    async def send() -> None:
        for piece in pieces:
            await response.write(piece)
        await response.write_eof()

    await asyncio.wait_for(send(), SEND_SECONDS)
    return response


async def send_file(
    request: web.BaseRequest, open_file: Callable[[], FileIO], headers: Mapping[str, str]
) -> web.StreamResponse:
    """Send the file that ``open_file`` opens, in a thread, from its start. What it raises can still be answered."""
    loop = asyncio.get_running_loop()
    opening = loop.run_in_executor(None, open_file)
    try:
        file = await asyncio.shield(opening)
        size = await asyncio.to_thread(file.seek, 0, os.SEEK_END)
        response = _response(headers, size)
        await response.prepare(request)
        if request.method == hdrs.METH_HEAD:
            return response
        if request.transport is None:
            raise ConnectionResetError
        # The kernel cannot encrypt; what asyncio does instead loses the body.
        encrypted = request.transport.get_extra_info("sslcontext") is not None
        sending = _copy(file, response) if encrypted else loop.sendfile(request.transport, file, 0, size)
        await asyncio.wait_for(sending, SEND_SECONDS)
        await response.write_eof()
    finally:
        # The client may go away at any moment, and with it this task; the file is closed all the same.
        opening.add_done_callback(_close)
    return response


async def _copy(file: FileIO, response: web.StreamResponse) -> None:
    await asyncio.to_thread(file.seek, 0)
    while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
        await response.write(piece)


def _close(opening: "asyncio.Future[FileIO]") -> None:
    if not opening.exception():
        asyncio.get_running_loop().run_in_executor(None, opening.result().close)


async def send_stream(
    request: web.BaseRequest, pieces: Iterator[bytes], headers: Mapping[str, str]
) -> web.StreamResponse:
    """Send what ``pieces`` yields; each is made in a thread, when the client has taken the one before.

    An error that the first piece raises can still be answered.
    """
    first = await asyncio.to_thread(next, pieces, b"")
    response = _response(headers, None)
    await response.prepare(request)
    if request.method == hdrs.METH_HEAD:
        return response

    async def send() -> None:
        piece = first
        while piece:
            await response.write(piece)
            piece = await asyncio.to_thread(next, pieces, b"")
        await response.write_eof()

    await asyncio.wait_for(send(), SEND_SECONDS)
    return response


def _response(headers: Mapping[str, str], length: int | None) -> web.StreamResponse:
    response = web.StreamResponse(headers={**FIXED_HEADERS, **headers})
    response.content_length = length
    return response
