"""Expands an upload, which is plain or compressed with gzip or zstd, and reports its end only when that is proven.

Expanded bytes come in bounded pieces, whatever the upload claims. The end of a stream is reported (``b""``) only if
exactly one compression frame was complete, its checksum was correct, and nothing followed it. Python's own readers do
not guarantee that: zstandard's ``stream_reader`` hides a truncated frame and its ``decompressobj`` has no bound on its
output, so the blocks of a zstd frame (RFC 8878 §3.1.1) are fed to it one by one.
"""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import zstandard
from zlib_ng import zlib_ng

from dagferry_core.archive.errors import (
    ArchiveCorrupt,
    ArchiveNotRecognized,
    ArchiveTrailingData,
    ArchiveTruncated,
    ArchiveUnsupported,
    WindowTooLarge,
)
from dagferry_core.archive.kinds import kind_of
from dagferry_core.limits import MAX_ZSTD_BLOCKS, MAX_ZSTD_WINDOW_BYTES, MIB, PIECE_BYTES

_HEAD_BYTES = 512
_INPUT_BYTES = 32 * 1024
_OUTPUT_BYTES = 120 * 1024
"""Output of gzip at a time: malloc reuses blocks of up to 128 KiB; larger ones come from the system."""
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"

_RLE = 1


class Stream:
    """Bytes in sequence, out of an iterator of pieces that goes on with ``b""`` once the end is proven."""

    __slots__ = ("_at", "_piece", "_pieces")

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = b""
        self._at = 0

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes; fewer only if the end is proven, and ``b""`` only there.

        After an error the pieces are at their end without having said ``b""``, so a further call fails (StopIteration)
        and cannot be mistaken for the end.
        """
        start, self._at = self._at, self._at + size
        if self._at <= len(self._piece):
            return self._piece[start : self._at]
        parts = [self._piece[start:]]
        missing = size - len(parts[0])
        self._piece = b""
        self._at = 0
        while missing > 0:
            self._piece = next(self._pieces)
            if not self._piece:
                break
            self._at = min(missing, len(self._piece))
            parts.append(self._piece[: self._at])
            missing -= self._at
        return b"".join(parts)


def expand(file: BinaryIO) -> Iterator[bytes]:
    """Return the expanded bytes of ``file`` (buffered, at its start): a tar, or one compressed with gzip or zstd.

    They come in pieces of at most ``PIECE_BYTES``, and go on with ``b""`` once the end is proven. Raises
    ``ArchiveNotRecognized`` here, and while they come: ``ArchiveTruncated``, ``ArchiveCorrupt``,
    ``ArchiveTrailingData``, ``ArchiveUnsupported``, ``WindowTooLarge``. A plain tar ends where its file does.
    """
    head = file.read(_HEAD_BYTES)
    if head.startswith(_GZIP):
        return _gzip(file, head)
    if head.startswith(_ZSTD):
        return _zstd(file, head)
    if head[257:262] == b"ustar" or head == bytes(_HEAD_BYTES):
        return _plain(file, head)
    if not head:
        raise ArchiveTruncated("The upload is empty.")
    if head[1:4] == _SKIPPABLE:
        raise ArchiveUnsupported("The upload starts with a skippable zstd frame, which parallel compressors write.")
    raise ArchiveNotRecognized(
        f"The upload is not a tar (ustar, PAX, GNU), plain or compressed with gzip or zstd, but {kind_of(head)}."
    )


def _end(file: BinaryIO, rest: bytes, frame: str) -> Iterator[bytes]:
    if rest or file.read(1):
        raise ArchiveTrailingData(f"There is data after the end of the {frame}.")
    while True:
        yield b""


def _plain(file: BinaryIO, head: bytes) -> Iterator[bytes]:
    piece = head
    while piece:
        yield piece
        piece = file.read(PIECE_BYTES)
    while True:
        yield b""


def _gzip(file: BinaryIO, head: bytes) -> Iterator[bytes]:
    inflate = zlib_ng.decompressobj(wbits=zlib_ng.MAX_WBITS | 16)
    data = head
    while not inflate.eof:
        try:
            piece = inflate.decompress(data, _OUTPUT_BYTES)
        except zlib_ng.error as error:  # type: ignore[misc]  # its stub has it as an instance
            raise ArchiveCorrupt(f"The gzip data is damaged ({error}).") from error
        if piece:
            yield piece
        if not inflate.eof:
            data = inflate.unconsumed_tail or file.read(_INPUT_BYTES)
            if not data:
                raise ArchiveTruncated("The gzip data ends before its trailer.")
    yield from _end(file, inflate.unused_data, "gzip data")


def _exact(source: Stream, size: int) -> bytes:
    data = source.read(size)
    if len(data) < size:
        raise ArchiveTruncated("The zstd frame ends before its last block and checksum.")
    return data


class _Frame(NamedTuple):
    header: bytes
    content_bytes: int | None
    checksum_bytes: int


def _frame(source: Stream) -> _Frame:
    """Read a frame's header (RFC 8878 §3.1.1.1), which decides how much memory a reader needs."""
    header = _exact(source, len(_ZSTD) + 1)
    descriptor = header[-1]
    if descriptor & 0b1000:
        raise ArchiveCorrupt("The header of the zstd frame has a reserved bit set.")
    if descriptor & 0b11:
        raise ArchiveUnsupported("The zstd frame needs a dictionary that it does not contain.")
    single_segment = descriptor >> 5 & 1
    window = _exact(source, 1 - single_segment)
    size = _exact(source, (single_segment, 2, 4, 8)[descriptor >> 6])
    content_bytes = int.from_bytes(size, "little") + (256 if len(size) == 2 else 0) if size else None  # noqa: PLR2004
    # Without a window of its own, a frame needs one as large as its content.
    window_bytes = (1 << 10 + (window[0] >> 3)) // 8 * (8 + (window[0] & 0b111)) if window else content_bytes or 0
    if window_bytes > MAX_ZSTD_WINDOW_BYTES:
        raise WindowTooLarge(
            f"The zstd frame needs a window of {window_bytes:,} bytes; "
            f"at most {MAX_ZSTD_WINDOW_BYTES // MIB} MiB are allowed."
        )
    return _Frame(header + window + size, content_bytes, 4 if descriptor & 0b100 else 0)


def _zstd(file: BinaryIO, head: bytes) -> Iterator[bytes]:
    source = Stream(_plain(file, head))
    frame = _frame(source)
    decoder = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW_BYTES).decompressobj()
    expanded = 0
    try:
        decoder.decompress(frame.header)
        for _ in range(MAX_ZSTD_BLOCKS):
            block = _exact(source, 3)
            word = int.from_bytes(block, "little")
            last, kind, size = word & 1, word >> 1 & 0b11, word >> 3
            # The decoder refuses a block of another kind, or one that expands to more than 128 KiB.
            piece = decoder.decompress(block + _exact(source, 1 if kind == _RLE else size))
            expanded += len(piece)
            if piece:
                yield piece
            if last:
                break
        else:
            raise ArchiveUnsupported(f"The zstd frame has more than {MAX_ZSTD_BLOCKS:,} blocks.")
        if frame.checksum_bytes:
            decoder.decompress(_exact(source, frame.checksum_bytes))
    except zstandard.ZstdError as error:
        raise ArchiveCorrupt(f"The zstd data is damaged ({error}).") from error
    # libzstd does not compare the sizes if the last block is empty.
    if not decoder.eof or frame.content_bytes not in {None, expanded}:
        raise ArchiveCorrupt(f"The zstd frame ends after {expanded:,} bytes, but its header says otherwise.")
    yield from _end(file, source.read(1), "zstd frame")
