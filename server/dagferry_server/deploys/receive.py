"""Receives the file of an upload: it is counted, compared with the limit and hashed while it is written to disk.

Where the bytes come from is not known here; see ``dagferry_server.http.upload_body``.
"""

import hashlib
import re
from collections.abc import AsyncIterable, Callable
from typing import Any, BinaryIO, NamedTuple

from aiofiles.threadpool import wrap

from dagferry_core.limits import PIECE_BYTES, UploadLimit
from dagferry_server.errors import UploadTooLarge
from dagferry_server.store.base import storage_errors

_HEAD_BYTES = 512
_ZSTD, _ZSTD_BYTES = b"\x28\xb5\x2f\xfd", 2048
_DROPPED = re.compile(rb"[\0\r\n]")


class Received(NamedTuple):
    """A received file: open, its size in bytes, its sha256 in hex.

    ``is_text`` says that it has none of the bytes that ``curl -d`` drops, which every archive has.
    """

    file: BinaryIO
    size: int
    sha256: str
    is_text: bool


async def receive(
    pieces: AsyncIterable[bytes], file: BinaryIO, limit: UploadLimit, count: Callable[[int], object]
) -> Received:
    """Write ``pieces`` to the empty ``file``; ``count`` is called with the size in bytes of each as it arrives.

    Raises ``UploadTooLarge`` at the first byte over the limit, ``StoreFull`` and ``StoreAway`` if the file cannot be
    written, and whatever ``pieces`` raises.
    """
    sink = _Sink(file, limit, count)
    async for piece in pieces:
        await sink.write(piece)
    await sink.finish()
    return Received(file, sink.size, sink.sha256.hexdigest(), sink.is_text)


class _Sink:
    """Counts, hashes and writes what arrives, in pieces large enough to be worth passing to a thread."""

    def __init__(self, file: BinaryIO, limit: UploadLimit, count: Callable[[int], object]) -> None:
        self.size = 0
        self.sha256 = hashlib.sha256()
        self._head = b""
        self._is_dropped = True
        self._limit = limit
        self._count = count
        self._pending = bytearray()
        self._file: Any = wrap(file)

    async def write(self, piece: bytes) -> None:
        self.size += len(piece)
        self._count(len(piece))
        if self.size > self._limit.bytes:
            raise too_large(self._limit, f"at least {self.size:,} bytes")
        # The first piece of an archive already has such a byte, so little is searched.
        if self._is_dropped and _DROPPED.search(piece):
            self._is_dropped = False
        if len(self._head) < _HEAD_BYTES:
            self._head += piece[:_HEAD_BYTES]
        self._pending += piece
        if len(self._pending) >= PIECE_BYTES:
            await self._flush()

    @property
    def is_text(self) -> bool:
        """Whether the file has none of the bytes that curl drops from text, but every archive has.

        Exceptions: a small zstd archive may have none of them, and a proxy's HTML page has an error of its own.
        """
        is_other = self._head.startswith(_ZSTD) and self.size <= _ZSTD_BYTES
        return self._is_dropped and not is_other and not self._head.lstrip().startswith(b"<")

    async def finish(self) -> None:
        """Write the rest."""
        await self._flush()
        with storage_errors("Writing the upload"):
            await self._file.flush()

    async def _flush(self) -> None:
        pending, self._pending = self._pending, bytearray()
        self.sha256.update(pending)
        with storage_errors("Writing the upload"):
            await self._file.write(pending)


def too_large(limit: UploadLimit, size: str) -> UploadTooLarge:
    """Return the error of an upload over ``limit``; ``size`` says in words how large it is."""
    return UploadTooLarge(f"The upload has {size}; the limit is {limit.bytes:,} bytes ({limit.rule}).", limit.hint)
