"""Receives an upload: a form with one file, or the file alone. It is counted and hashed as it goes to disk.

Content-Length is good for an early refusal only; the bytes that arrive decide. Nothing is trusted of what a client
says about its file: not the field's name, not the file's name.
"""

import asyncio
import hashlib
from collections.abc import Awaitable
from typing import Any, BinaryIO, NamedTuple

from aiofiles.threadpool import wrap
from aiohttp import BodyPartReader, web

from dagferry_core.deploylog import MAX_DESCRIPTION_CHARACTERS
from dagferry_core.errors import MultipartInvalid, UploadEmptyBody, UploadIncomplete, UploadTooLarge
from dagferry_core.limits import PIECE_BYTES, UploadLimit
from dagferry_server.store.base import storage_errors

UPLOAD_IDLE_SECONDS = 60
"""An upload of which no byte arrives for as long is given up."""
MAX_FORM_BYTES = 64 * 1024
"""What a form may have beside its file: fields, headers, boundaries."""
MAX_DESCRIPTION_BYTES = 4 * MAX_DESCRIPTION_CHARACTERS


class Received(NamedTuple):
    """A received file: open, its size in bytes and sha256 in hex, and the description that came with it."""

    file: BinaryIO
    size: int
    sha256: str
    description: str


def check_length(request: web.BaseRequest, limit: UploadLimit) -> None:
    """Raise ``UploadTooLarge`` if the request itself says that its body is over the limit."""
    length = request.content_length or 0
    if length > limit.bytes + (MAX_FORM_BYTES if _is_form(request) else 0):
        raise _too_large(limit, f"{length:,} bytes")


async def receive(request: web.BaseRequest, file: BinaryIO, limit: UploadLimit) -> Received:
    """Receive the body of ``request`` into the empty ``file``.

    Raises ``UploadTooLarge``, ``UploadIncomplete`` (the body was cut, or nothing arrived for
    ``UPLOAD_IDLE_SECONDS``), ``MultipartInvalid``, and ``UploadEmptyBody`` if the file has no bytes.
    """
    sink = _Sink(file, limit)
    if _is_form(request):
        description = await _receive_form(request, sink)
    else:
        description = request.query.get("description", "")
        while piece := await _arriving(request.content.read(PIECE_BYTES)):
            await sink.write(piece)
    await sink.finish()
    if not sink.size:
        raise UploadEmptyBody("The upload has no bytes.")
    return Received(file, sink.size, sink.sha256.hexdigest(), description)


class _Sink:
    """Counts, hashes and writes what arrives, in pieces large enough to be worth a trip to a thread."""

    def __init__(self, file: BinaryIO, limit: UploadLimit) -> None:
        self.size = 0
        self.sha256 = hashlib.sha256()
        self._limit = limit
        self._pending = bytearray()
        self._file: Any = wrap(file)

    async def write(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size > self._limit.bytes:
            raise _too_large(self._limit, f"more than {self._limit.bytes:,} bytes")
        self._pending += piece
        if len(self._pending) >= PIECE_BYTES:
            await self._flush()

    async def finish(self) -> None:
        await self._flush()
        with storage_errors("Writing the upload"):
            await self._file.flush()

    async def _flush(self) -> None:
        pending, self._pending = self._pending, bytearray()
        self.sha256.update(pending)
        with storage_errors("Writing the upload"):
            await self._file.write(pending)


async def _receive_form(request: web.BaseRequest, sink: _Sink) -> str:
    """Receive a form's file into ``sink`` and return its description, which may come before or after it."""
    try:
        reader = await request.multipart()
    except (ValueError, AssertionError) as error:
        raise MultipartInvalid("The form data has no boundary.") from error
    fields: dict[str | None, bytearray] = {}
    fields_bytes = files = 0
    while part := await _arriving(reader.next()):
        if not isinstance(part, BodyPartReader):
            raise MultipartInvalid("The form has a form inside.")
        is_file = part.filename is not None
        files += is_file
        if files > 1:
            raise MultipartInvalid("The form has more than one file.")
        field = fields.setdefault(part.name, bytearray())
        while not part.at_eof():
            piece = await _arriving(part.read_chunk(PIECE_BYTES))
            if is_file:
                await sink.write(piece)
                continue
            fields_bytes += len(piece)
            if fields_bytes > MAX_FORM_BYTES:
                raise MultipartInvalid(f"The form's fields have more than {MAX_FORM_BYTES} bytes.")
            field += piece
    if not files:
        raise MultipartInvalid("The form has no file.")
    return fields.get("description", b"")[:MAX_DESCRIPTION_BYTES].decode(errors="replace")


def _is_form(request: web.BaseRequest) -> bool:
    return request.content_type.startswith("multipart/")


async def _arriving(read: Awaitable[Any]) -> Any:
    """Wait for what a client sends; turn the ways in which it can fail into our errors."""
    try:
        return await asyncio.wait_for(read, UPLOAD_IDLE_SECONDS)
    except (TimeoutError, asyncio.TimeoutError) as error:
        raise UploadIncomplete(f"No byte of the upload arrived for {UPLOAD_IDLE_SECONDS} s.") from error
    except (ConnectionError, web.RequestPayloadError) as error:
        raise UploadIncomplete("The connection broke before the upload was complete.") from error
    except Exception as error:  # the reader of forms raises whatever it stumbles over
        raise MultipartInvalid(f"The form data is malformed: {str(error)[:200]}.") from error


def _too_large(limit: UploadLimit, seen: str) -> UploadTooLarge:
    return UploadTooLarge(f"The upload has {seen}; the limit is {limit.bytes:,} bytes ({limit.rule}).", limit.hint)
