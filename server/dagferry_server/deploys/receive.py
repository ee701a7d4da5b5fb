"""Receives an upload: a form with one file, or the file alone. It is counted and hashed as it goes to disk.

Content-Length is good for an early refusal only; the bytes that arrive decide. Nothing is trusted of what a client
says about its file: not the field's name, not the file's name.
"""

import asyncio
import hashlib
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, BinaryIO, NamedTuple

from aiofiles.threadpool import wrap
from aiohttp import BodyPartReader, MultipartReader, StreamReader, web
from aiohttp.helpers import parse_mimetype

from dagferry_core.archive.paths import shown
from dagferry_core.deploylog import MAX_DESCRIPTION_CHARACTERS
from dagferry_core.errors import (
    ArchiveCorrupt,
    MultipartInvalid,
    UploadEmptyBody,
    UploadIncomplete,
    UploadTooLarge,
    UploadTooSlow,
)
from dagferry_core.limits import PIECE_BYTES, UploadLimit
from dagferry_server.store.base import storage_errors

UPLOAD_IDLE_SECONDS = 60
"""An upload of which no byte arrives for as long is given up."""
MIN_UPLOAD_BYTES_PER_SECOND = 1024
UPLOAD_GRACE_SECONDS = 60
"""An upload that, after the grace, has come slower than this on the whole is given up: a line of 9600 baud deploys."""
MAX_FORM_BYTES = 64 * 1024
MAX_FORM_LINES = 1000
"""What a form may have beside its file: fields, headers, boundaries, what stands before them and behind the last."""
MAX_DESCRIPTION_BYTES = 4 * (MAX_DESCRIPTION_CHARACTERS + 1)
"""One more than is kept, so that a description that is cut is known by its length."""
_CURLS_TYPE = "application/x-www-form-urlencoded"
"""What curl calls the body of -d and of --data-binary alike."""
_HEAD_BYTES = 512
_ZSTD, _ZSTD_BYTES = b"\x28\xb5\x2f\xfd", 2048
_DROPPED = re.compile(rb"[\0\r\n]")


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


async def receive(
    request: web.BaseRequest, file: BinaryIO, limit: UploadLimit, count: Callable[[int], object]
) -> Received:
    """Receive the body of ``request`` into the empty ``file``; ``count`` is told of the file's bytes as they arrive.

    Raises ``UploadTooLarge``, ``UploadIncomplete`` (the body was cut), ``UploadTooSlow``, ``MultipartInvalid``, and
    ``UploadEmptyBody`` if the file has no bytes.
    """
    sink = _Sink(file, limit, count)
    pace = _Pace()
    name = None
    description = request.query.get("description", "")
    if _is_form(request):
        field, name = await _receive_form(request, sink, pace)
        description = field or description
    else:
        while piece := await pace.arriving(request.content.read(PIECE_BYTES)):
            await sink.write(piece)
    await sink.finish()
    if not sink.size:
        raise _empty(name)
    if request.content_type == _CURLS_TYPE and sink.is_text:
        raise ArchiveCorrupt(
            "The body was sent as text: there is no NUL and no line end in it, and no archive is like that.",
            "curl -d leaves these bytes out. Send the file as it is: curl --data-binary @dags.tar.gz URL",
        )
    return Received(file, sink.size, sink.sha256.hexdigest(), description)


class _Sink:
    """Counts, hashes and writes what arrives, in pieces large enough to be worth a trip to a thread."""

    def __init__(self, file: BinaryIO, limit: UploadLimit, count: Callable[[int], object]) -> None:
        self.size = 0
        self._head = b""
        self._is_dropped = True
        self.sha256 = hashlib.sha256()
        self._limit = limit
        self._count = count
        self._pending = bytearray()
        self._file: Any = wrap(file)

    async def write(self, piece: bytes) -> None:
        self.size += len(piece)
        self._count(len(piece))
        if self.size > self._limit.bytes:
            raise _too_large(self._limit, f"at least {self.size:,} bytes")
        # The first piece of an archive settles it, so hardly anything is looked through.
        if self._is_dropped and _DROPPED.search(piece):
            self._is_dropped = False
        if len(self._head) < _HEAD_BYTES:
            self._head += piece[:_HEAD_BYTES]
        self._pending += piece
        if len(self._pending) >= PIECE_BYTES:
            await self._flush()

    @property
    def is_text(self) -> bool:
        """Whether it has none of the bytes that curl leaves out of a text, but every archive has.

        A zstd has them from some size on; a page of a proxy has its own message.
        """
        is_other = self._head.startswith(_ZSTD) and self.size <= _ZSTD_BYTES
        return self._is_dropped and not is_other and not self._head.lstrip().startswith(b"<")

    async def finish(self) -> None:
        """Write what is left."""
        await self._flush()
        with storage_errors("Writing the upload"):
            await self._file.flush()

    async def _flush(self) -> None:
        pending, self._pending = self._pending, bytearray()
        self.sha256.update(pending)
        with storage_errors("Writing the upload"):
            await self._file.write(pending)


class _Pace:
    """Waits for what a client sends, but not for ever: neither for a silent one nor for one that sends drop by drop."""

    def __init__(self) -> None:
        self._deadline = time.monotonic() + UPLOAD_GRACE_SECONDS
        self._silent = True

    async def arriving(self, read: Awaitable[Any]) -> Any:
        """Return what ``read`` comes to; turn the ways in which it can fail into our errors."""
        left = self._deadline - time.monotonic()
        try:
            came = await asyncio.wait_for(read, min(left, UPLOAD_IDLE_SECONDS))
        except (TimeoutError, asyncio.TimeoutError) as error:
            # Before the first byte the grace ends before the silence is as long, by what it took to get here.
            if self._silent or left > UPLOAD_IDLE_SECONDS:
                raise UploadTooSlow(f"No byte of the file arrived for {UPLOAD_IDLE_SECONDS} s.") from error
            raise UploadTooSlow(
                f"The upload arrives at less than {MIN_UPLOAD_BYTES_PER_SECOND} bytes a second."
            ) from error
        except (ConnectionError, web.RequestPayloadError) as error:
            raise UploadIncomplete("The connection broke before the upload was complete.") from error
        except MultipartInvalid:
            raise
        except Exception as error:  # the reader of forms raises whatever it stumbles over
            raise MultipartInvalid(f"The form data is malformed: {str(error)[:200]}.") from error
        if isinstance(came, bytes | bytearray):
            self._deadline += len(came) / MIN_UPLOAD_BYTES_PER_SECOND
            self._silent = self._silent and not came
        return came


class _FormBody:
    """A request's body as aiohttp reads a form from it, which counts what is no file.

    All but the contents of parts comes line by line, and as long as there are lines in the buffer the event loop gets
    no turn: so there may be few.
    """

    def __init__(self, content: StreamReader, boundary: str) -> None:
        self._boundary = f"--{boundary}\n".encode()
        self.read = content.read
        self.at_eof = content.at_eof
        self.unread_data = content.unread_data
        self._content = content
        self._bytes = self._lines = 0

    async def readline(self, *, max_line_length: int = MAX_FORM_BYTES) -> bytes:
        self._lines += 1
        if self._lines > MAX_FORM_LINES:
            raise MultipartInvalid(f"The form has more than {MAX_FORM_LINES} lines beside its file.")
        line = await self._content.readline(max_line_length=max_line_length)
        self.count(line)
        if line == self._boundary:
            raise MultipartInvalid(
                "The lines of the form end with LF instead of CRLF.",
                "Let a program write the form, for example: curl -F dags.tar.gz=@dags.tar.gz URL",
            )
        return line

    def count(self, piece: bytes) -> None:
        self._bytes += len(piece)
        if self._bytes > MAX_FORM_BYTES:
            raise MultipartInvalid(f"The form has more than {MAX_FORM_BYTES} bytes beside its file.")


async def _receive_form(request: web.BaseRequest, sink: _Sink, pace: _Pace) -> tuple[str, str]:
    """Receive a form's file into ``sink``; return the description, which may come before or after it, and its name."""
    body = _FormBody(request.content, parse_mimetype(request.headers["Content-Type"]).parameters.get("boundary", ""))
    try:
        reader = MultipartReader(request.headers, body)  # type: ignore[arg-type] # it has what the reader uses
    except (ValueError, AssertionError) as error:
        raise MultipartInvalid("The form data has no boundary.") from error
    fields: dict[str | None, bytearray] = {}
    name = ""
    files = 0
    while part := await pace.arriving(reader.next()):
        if not isinstance(part, BodyPartReader):
            raise MultipartInvalid("The form has a form inside.")
        is_file = part.filename is not None
        files += is_file
        if files > 1:
            raise MultipartInvalid("The form has more than one file.")
        if is_file:
            name = part.filename or ""
            _check_encoding(part)
        field = fields.setdefault(part.name, bytearray())
        while not part.at_eof():
            piece = await pace.arriving(part.read_chunk(PIECE_BYTES))
            if is_file:
                await sink.write(piece)
                continue
            body.count(piece)
            field += piece
    while piece := await pace.arriving(request.content.read(PIECE_BYTES)):
        body.count(piece)
    if not files:
        raise MultipartInvalid("The form has no file; curl -F sends one if there is an @ before its name.")
    return fields.get("description", b"")[:MAX_DESCRIPTION_BYTES].decode(errors="replace"), name


def _check_encoding(part: BodyPartReader) -> None:
    """Raise ``MultipartInvalid`` if the bytes of a file are not sent as they are."""
    encoding = part.headers.get("Content-Transfer-Encoding", "").strip().lower()
    if encoding not in {"", "binary", "8bit", "7bit"}:
        raise MultipartInvalid(
            f"The form has its file encoded as {encoding[:40]!r} (Content-Transfer-Encoding), not as it is.",
            "Send the file as it is, for example with: curl -F dags.tar.gz=@dags.tar.gz URL. Ansible's module uri does "
            "so with src: dags.tar.gz, or with multipart_encoding: 7or8bit.",
        )


def _empty(name: str | None) -> UploadEmptyBody:
    """Return the error of an upload without bytes; ``name`` is that of the file in the form, if it was a form."""
    if name is None:
        return UploadEmptyBody("The body has no bytes.")
    return UploadEmptyBody(
        f"The file in the form, {shown(name)}, has no bytes; curl -F sends a folder like that, too.",
        "If it is the dags folder, pack it first: tar -czf dags.tar.gz dags. Else send the file again: this request "
        "carried none of it.",
    )


def _is_form(request: web.BaseRequest) -> bool:
    return request.content_type.startswith("multipart/")


def _too_large(limit: UploadLimit, seen: str) -> UploadTooLarge:
    return UploadTooLarge(f"The upload has {seen}; the limit is {limit.bytes:,} bytes ({limit.rule}).", limit.hint)
