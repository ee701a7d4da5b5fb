"""The body of an upload: a form with one file, or the file alone.

Content-Length is only used to reject early; the bytes that arrive decide. Nothing a client says about its file is
trusted: neither the field's name nor the file's name.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, BinaryIO

from aiohttp import BodyPartReader, MultipartReader, StreamReader, web
from aiohttp.helpers import parse_mimetype

from dagferry_core.archive.errors import ArchiveCorrupt
from dagferry_core.archive.paths import quoted
from dagferry_core.deploylog import MAX_DESCRIPTION_CHARACTERS
from dagferry_core.limits import PIECE_BYTES, UploadLimit
from dagferry_core.protocol import DESCRIPTION, GIT, MAX_GIT_BYTES, REMOVED
from dagferry_server.deploys.receive import Received, receive, too_large
from dagferry_server.errors import MultipartInvalid, UploadEmptyBody, UploadIncomplete, UploadTooSlow

UPLOAD_IDLE_SECONDS = 60
"""An upload of which no byte arrives for this long is aborted."""
MIN_UPLOAD_BYTES_PER_SECOND = 1024
UPLOAD_GRACE_SECONDS = 60
"""After the grace, an upload that is slower than this on average is aborted: a line of 9600 baud deploys."""
MAX_FORM_BYTES = 64 * 1024
MAX_FORM_LINES = 1000
"""What a form may have beside its file: fields, headers, boundaries, preamble and epilogue."""
MAX_DESCRIPTION_BYTES = 4 * (MAX_DESCRIPTION_CHARACTERS + 1)
"""One character more than is kept, so that a description that is too long is recognized by its length."""
_CURLS_TYPE = "application/x-www-form-urlencoded"
"""What curl calls the body of -d and of --data-binary alike."""


def check_length(request: web.BaseRequest, limit: UploadLimit) -> None:
    """Raise ``UploadTooLarge`` if the request itself says that its body is over the limit."""
    length = request.content_length or 0
    if length > limit.bytes + (MAX_FORM_BYTES if _is_form(request) else 0):
        raise too_large(limit, f"{length:,} bytes")


class UploadBody:
    """The body of one request.

    ``description``, ``git`` and ``removed``, a field of the form, are known once the file was received: a form may have
    them last.
    """

    def __init__(self, request: web.BaseRequest) -> None:
        self.description = request.query.get(DESCRIPTION, "")
        self.git = request.query.get(GIT)
        self.removed: bytes | None = None
        self._request = request
        self._deadline = _Deadline()
        self._is_form = _is_form(request)
        self._file_name = ""

    async def receive(self, file: BinaryIO, limit: UploadLimit, count: Callable[[int], object]) -> Received:
        """Receive the body's file into the empty ``file``; ``count`` as in ``deploys.receive``.

        Raises what that raises, ``UploadIncomplete`` (the connection broke), ``UploadTooSlow``, ``MultipartInvalid``,
        ``UploadEmptyBody`` if the file has no bytes, and ``ArchiveCorrupt`` if curl sent it as text.
        """
        async with aclosing(self._pieces()) as pieces:
            received = await receive(pieces, file, limit, count)
        if not received.size:
            raise self._empty()
        if self._request.content_type == _CURLS_TYPE and received.is_text:
            raise ArchiveCorrupt(
                "The body was sent as text: it contains no NUL byte and no line break, unlike any archive.",
                "curl -d removes these bytes. Send the file unchanged: curl --data-binary @dags.tar.gz URL",
            )
        return received

    def _pieces(self) -> AsyncGenerator[bytes, None]:
        return self._pieces_of_form() if self._is_form else self._pieces_of_body()

    async def _pieces_of_body(self) -> AsyncGenerator[bytes, None]:
        while piece := await self._deadline.within(self._request.content.read(PIECE_BYTES)):
            yield piece

    async def _pieces_of_form(self) -> AsyncGenerator[bytes, None]:
        """Yield the file of the form; note the other fields, which may come before or after it."""
        request, within = self._request, self._deadline.within
        body = _FormBody(request.content, _boundary(request))
        try:
            reader = MultipartReader(request.headers, body)  # type: ignore[arg-type] # it has what the reader uses
        except (ValueError, AssertionError) as error:
            raise MultipartInvalid("The form data has no boundary.") from error
        fields: dict[str | None, bytearray] = {}
        files = 0
        while part := await within(reader.next()):
            if not isinstance(part, BodyPartReader):
                raise MultipartInvalid("The form contains another form.")
            is_file = part.filename is not None
            files += is_file
            if files > 1:
                raise MultipartInvalid("The form contains more than one file.")
            if is_file:
                self._file_name = part.filename or ""
                _check_encoding(part)
            field = fields.setdefault(part.name, bytearray())
            while not part.at_eof():
                piece = await within(part.read_chunk(PIECE_BYTES))
                if is_file:
                    yield piece
                    continue
                body.count(piece)
                field += piece
        while piece := await within(request.content.read(PIECE_BYTES)):
            body.count(piece)
        if not files:
            raise MultipartInvalid("The form contains no file; with curl -F, put an @ before its name.")
        self.description = _text(fields, DESCRIPTION, MAX_DESCRIPTION_BYTES) or self.description
        self.git = _text(fields, GIT, MAX_GIT_BYTES + 1) or self.git
        self.removed = bytes(fields[REMOVED]) if REMOVED in fields else None

    def _empty(self) -> UploadEmptyBody:
        if not self._is_form:
            return UploadEmptyBody("The body is empty.")
        return UploadEmptyBody(
            f"The file in the form, {quoted(self._file_name)}, is empty; curl -F also sends an empty file for "
            "a folder.",
            "If it is the dags folder, pack it first: tar -czf dags.tar.gz dags. Otherwise send the file again: this "
            "request contained none of it.",
        )


def _text(fields: Mapping[str | None, bytearray], name: str, max_bytes: int) -> str:
    return fields.get(name, bytearray())[:max_bytes].decode(errors="replace")


class _Deadline:
    """Waits for what a client sends, with limits for silent and for slow clients."""

    def __init__(self) -> None:
        self._deadline = time.monotonic() + UPLOAD_GRACE_SECONDS
        self._silent = True

    async def within(self, read: Awaitable[Any]) -> Any:
        """Return the result of ``read``; turn its errors into ours."""
        left = self._deadline - time.monotonic()
        try:
            result = await asyncio.wait_for(read, min(left, UPLOAD_IDLE_SECONDS))
        except (TimeoutError, asyncio.TimeoutError) as error:
            # Before the first byte, the grace ends a little earlier than the idle time: it began earlier.
            if self._silent or left > UPLOAD_IDLE_SECONDS:
                raise UploadTooSlow(f"No byte of the file arrived for {UPLOAD_IDLE_SECONDS} s.") from error
            raise UploadTooSlow(
                f"The upload arrives at less than {MIN_UPLOAD_BYTES_PER_SECOND} bytes a second."
            ) from error
        except (ConnectionError, web.RequestPayloadError) as error:
            raise UploadIncomplete("The connection broke before the upload was complete.") from error
        except MultipartInvalid:
            raise
        except Exception as error:  # aiohttp's form reader raises many kinds
            raise MultipartInvalid(f"The form data is malformed: {str(error)[:200]}.") from error
        if isinstance(result, bytes | bytearray):
            self._deadline += len(result) / MIN_UPLOAD_BYTES_PER_SECOND
            self._silent = self._silent and not result
        return result


class _FormBody:
    """The body of a request as aiohttp reads a form from it; counts everything but the file.

    aiohttp reads everything but the contents of parts line by line, without yielding to the event loop while lines are
    buffered: so their number is limited.
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
                "Create the form with a tool, for example: curl -F dags.tar.gz=@dags.tar.gz URL",
            )
        return line

    def count(self, piece: bytes) -> None:
        self._bytes += len(piece)
        if self._bytes > MAX_FORM_BYTES:
            raise MultipartInvalid(f"The form has more than {MAX_FORM_BYTES} bytes beside its file.")


def _check_encoding(part: BodyPartReader) -> None:
    """Raise ``MultipartInvalid`` if a file is sent in an encoding."""
    encoding = part.headers.get("Content-Transfer-Encoding", "").strip().lower()
    if encoding not in {"", "binary", "8bit", "7bit"}:
        raise MultipartInvalid(
            f"The file in the form is encoded as {encoding[:40]!r} (Content-Transfer-Encoding).",
            "Send it unencoded, for example with: curl -F dags.tar.gz=@dags.tar.gz URL. Ansible's module uri does so "
            "with src: dags.tar.gz, or with multipart_encoding: 7or8bit.",
        )


def _boundary(request: web.BaseRequest) -> str:
    return parse_mimetype(request.headers["Content-Type"]).parameters.get("boundary", "")


def _is_form(request: web.BaseRequest) -> bool:
    return request.content_type.startswith("multipart/")
