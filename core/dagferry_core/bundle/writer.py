"""Writes a bundle in its canonical form, which ``dagferry_core.bundle.reader`` describes and reads.

A module of its own, because only who stores bundles needs it: a sidecar starts without importing thread pools.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

import zstandard

from dagferry_core.bundle.frames import FRAME_BYTES, FrameStart, RangeRead
from dagferry_core.bundle.layout import Part, cut
from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.bundle.reader import END, MANIFEST_NAME, entry_header, member_header, padding
from dagferry_core.errors import Truncated
from dagferry_core.limits import PIECE_BYTES

LEVEL = 2
COMPRESSORS = 2
"""Threads that compress one bundle."""
BUFFERS = 4
"""Of one frame each: two are being compressed, one is filled, and one waits."""

StoredFrame = Callable[[str, int], bytes | None]
"""``stored_frame(path, start)`` is that of ``BundleFile``: what may be the same frame in another bundle."""

_thread = threading.local()


def write_bundle(
    manifest: Manifest,
    open_content: Callable[[Entry], RangeRead],
    out: BinaryIO,
    stored_frame: StoredFrame | None = None,
) -> list[FrameStart]:
    """Write the bundle of ``manifest`` to ``out`` and return its frames, for the ``Index``.

    ``open_content`` is called for each file once, in order, and returns what reads it at any place. A frame that
    ``stored_frame`` gives, in any of several threads, is copied if it holds exactly what was to be compressed.
    """
    frames = [FrameStart(0, 0)]
    spare = [bytearray(FRAME_BYTES) for _ in range(BUFFERS)]
    pending: deque[tuple[bytearray, int, Future[bytes]]] = deque()

    def write_next() -> None:
        content, size, frame = pending.popleft()
        offset, start = frames[-1]
        frames.append(FrameStart(offset + out.write(frame.result()), start + size))
        spare.append(content)

    def take_spare() -> bytearray:
        if not spare:
            write_next()
        return spare.pop()

    # Frames do not depend on each other, and compressing holds no lock of the interpreter.
    with ThreadPoolExecutor(COMPRESSORS, "compress", _prepare) as pool:
        for first, pieces in _runs(manifest, open_content):
            for content, size in _frames(pieces, take_spare):
                pending.append((content, size, pool.submit(_frame, content, size, first, stored_frame)))
        while pending:
            write_next()
    return frames


def _runs(
    manifest: Manifest, open_content: Callable[[Entry], RangeRead]
) -> Iterator[tuple[Part | None, Iterator[bytes]]]:
    """Yield what makes up one frame, or several in the case of a manifest, and of a run of files the first part."""
    yield None, _manifest(manifest)
    read: RangeRead | None = None

    def pieces(parts: list[Part]) -> Iterator[bytes]:
        nonlocal read
        for part in parts:
            if not part.start or read is None:
                read = open_content(part.entry)
            yield from _part(part, read)

    for parts in cut(manifest.files.values()):
        yield parts[0], pieces(parts)
    yield None, iter((END,))


def _manifest(manifest: Manifest) -> Iterator[bytes]:
    size = sum(map(len, manifest.pieces()))
    yield member_header(MANIFEST_NAME, size, 0o644)
    yield from manifest.pieces()
    yield bytes(padding(size))


def _part(part: Part, read: RangeRead) -> Iterator[bytes]:
    entry, start, size = part
    header = entry_header(entry)
    yield header[start : start + size]
    at, end = max(start - len(header), 0), start + size - len(header)
    while at < min(end, entry.size):
        piece = read(at, min(PIECE_BYTES, end - at, entry.size - at))
        if not piece:
            raise Truncated(f"the content of {entry.path!r} ends early")
        yield piece
        at += len(piece)
    yield bytes(max(end - at, 0))


def _frames(pieces: Iterable[bytes], take_spare: Callable[[], bytearray]) -> Iterator[tuple[bytearray, int]]:
    """Cut what ``pieces`` come to into frames, in spare buffers; yield each with the bytes that are in it."""
    buffer, size = take_spare(), 0
    for piece in pieces:
        start = 0
        while start < len(piece):
            if size == FRAME_BYTES:
                yield buffer, size
                buffer, size = take_spare(), 0
            part = piece[start : start + FRAME_BYTES - size]
            buffer[size : size + len(part)] = part
            size += len(part)
            start += len(part)
    yield buffer, size


def _prepare() -> None:
    # Once in each thread, because to make a compressor costs a tenth of a frame.
    _thread.compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    _thread.decompressor = zstandard.ZstdDecompressor()


def _frame(content: bytearray, size: int, first: Part | None, stored_frame: StoredFrame | None) -> bytes:
    stored = stored_frame(first.entry.path, first.start) if first and stored_frame else None
    if stored is not None and _holds(stored, content, size):
        return stored
    compressed: bytes = _thread.compressor.compress(memoryview(content)[:size])
    return compressed


def _holds(stored: bytes, content: bytearray, size: int) -> bool:
    """Tell whether a stored frame is intact and holds the first ``size`` bytes of ``content``, and nothing else."""
    try:
        # What a damaged one says of its own size would be allocated.
        if zstandard.frame_content_size(stored) != size:
            return False
        found: bytes = _thread.decompressor.decompress(stored, allow_extra_data=False)
    except (ValueError, zstandard.ZstdError):
        return False
    return len(found) == size and content.startswith(found)
