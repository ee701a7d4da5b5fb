"""Writes a bundle in its canonical form, which ``dagferry_core.bundle.reader`` describes and reads.

A module of its own, because only the server needs it: a sidecar starts without importing thread pools.
"""

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

import zstandard

from dagferry_core.bundle.frames import FRAME_BYTES, Frame, RangeRead
from dagferry_core.bundle.layout import cut, member_bytes
from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.bundle.reader import END, MANIFEST_NAME, Part, entry_header, member_header, padding
from dagferry_core.errors import FormatError, Truncated
from dagferry_core.limits import PIECE_BYTES

LEVEL = 2
COMPRESSORS = 2
"""Threads that compress one bundle."""
BUFFERS = 4
"""Of one frame each: two are being compressed, one is filled, and one waits."""

StoredFrame = Callable[[Sequence[Part]], tuple[bytes, str] | None]
"""``stored_frame(parts)`` is that of ``BundleFile``: the frame of another bundle that holds these parts, if any, and
the sha256 that it had when it was written."""

_thread = threading.local()


def write_bundle(
    manifest: Manifest,
    open_content: Callable[[Entry], RangeRead],
    out: BinaryIO,
    stored_frame: StoredFrame = lambda _: None,
) -> list[Frame]:
    """Write the bundle of ``manifest`` to ``out`` and return its frames, for the ``Index``.

    ``open_content`` is called for each file once, in order, and returns what reads it at any place. A frame that
    ``stored_frame`` gives is copied. Raises ``FormatError`` if a content is not the one that the manifest names: what
    is compressed once is copied from bundle to bundle, so it has to be proven now.
    """
    # Frames do not depend on each other, and compressing holds no lock of the interpreter.
    with ThreadPoolExecutor(COMPRESSORS, "compress", _prepare) as pool:
        frames = _FrameWriter(out, pool)
        frames.compress(_manifest(manifest))
        contents = _Contents(open_content)
        for parts in cut(manifest.files.values()):
            contents.open(parts)
            if not frames.copy(stored_frame(parts), sum(part.size for part in parts)):
                frames.compress(contents.pieces(parts))
        frames.compress((END,))
        return frames.finish()


class _FrameWriter:
    """Writes frames one after the other; those that have to be compressed are so in the threads of ``pool``."""

    def __init__(self, out: BinaryIO, pool: ThreadPoolExecutor) -> None:
        self._out = out
        self._pool = pool
        self._offset = self._start = 0
        self._frames: list[Frame] = []
        self._spare = [bytearray(FRAME_BYTES) for _ in range(BUFFERS)]
        self._pending: deque[tuple[bytearray, int, Future[bytes]]] = deque()

    def compress(self, pieces: Iterable[bytes]) -> None:
        """Write the bytes of ``pieces`` in as few frames as possible."""
        buffer, size = self._take_spare(), 0
        for piece in pieces:
            start = 0
            while start < len(piece):
                if size == FRAME_BYTES:
                    self._submit(buffer, size)
                    buffer, size = self._take_spare(), 0
                part = piece[start : start + FRAME_BYTES - size]
                buffer[size : size + len(part)] = part
                size += len(part)
                start += len(part)
        self._submit(buffer, size)

    def copy(self, stored: tuple[bytes, str] | None, size: int) -> bool:
        """Write a frame of another bundle, which holds ``size`` bytes, unless it has changed since it was written."""
        if stored is None:
            return False
        frame, sha256 = stored
        if hashlib.sha256(frame).hexdigest() != sha256:
            return False
        self._write_pending()
        self._write(frame, sha256, size)
        return True

    def finish(self) -> list[Frame]:
        """Write what is still being compressed, and return all frames, and at the end the offset where they end."""
        self._write_pending()
        return [*self._frames, Frame(self._offset, self._start)]

    def _submit(self, buffer: bytearray, size: int) -> None:
        self._pending.append((buffer, size, self._pool.submit(_compressed, buffer, size)))

    def _take_spare(self) -> bytearray:
        if not self._spare:
            self._write_next()
        return self._spare.pop()

    def _write_pending(self) -> None:
        while self._pending:
            self._write_next()

    def _write_next(self) -> None:
        buffer, size, future = self._pending.popleft()
        frame = future.result()
        self._write(frame, hashlib.sha256(frame).hexdigest(), size)
        self._spare.append(buffer)

    def _write(self, frame: bytes, sha256: str, size: int) -> None:
        self._frames.append(Frame(self._offset, self._start, sha256))
        self._offset += self._out.write(frame)
        self._start += size


class _Contents:
    """The contents of files, which are opened once each, and read only if a frame of them is to be compressed."""

    def __init__(self, open_content: Callable[[Entry], RangeRead]) -> None:
        self._open_content = open_content
        self._opened: list[RangeRead] = []
        self._proven: Entry | None = None

    def open(self, parts: Sequence[Part]) -> None:
        """Open the files that begin in a frame."""
        self._opened = [self._opened[-1] if part.start else self._open_content(part.entry) for part in parts]

    def pieces(self, parts: Sequence[Part]) -> Iterator[bytes]:
        """Yield the bytes of the frame whose files were opened last."""
        for (entry, start, size), read in zip(parts, self._opened, strict=True):
            header = entry_header(entry)
            yield header[start : start + size]
            at, end = max(start - len(header), 0), start + size - len(header)
            content = _read(entry, read, at, min(end, entry.size))
            if (start, size) == (0, member_bytes(entry)):
                content = _proven(entry, content)
            elif self._proven is not entry:
                deque(_proven(entry, _read(entry, read, 0, entry.size)), 0)
                self._proven = entry
            yield from content
            yield bytes(max(end - entry.size, 0))


def _read(entry: Entry, read: RangeRead, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        piece = read(start, min(PIECE_BYTES, end - start))
        if not piece:
            raise Truncated(f"the content of {entry.path!r} ends early")
        yield piece
        start += len(piece)


def _proven(entry: Entry, content: Iterable[bytes]) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for piece in content:
        digest.update(piece)
        yield piece
    if digest.hexdigest() != entry.sha256:
        raise FormatError(f"the content of {entry.path!r} is not the one that the manifest names")


def _manifest(manifest: Manifest) -> Iterator[bytes]:
    size = sum(map(len, manifest.pieces()))
    yield member_header(MANIFEST_NAME, size, 0o644)
    yield from manifest.pieces()
    yield bytes(padding(size))


def _prepare() -> None:
    # Once in each thread, because creating a compressor takes a tenth of the time of a frame.
    _thread.compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)


def _compressed(content: bytearray, size: int) -> bytes:
    compressed: bytes = _thread.compressor.compress(memoryview(content)[:size])
    return compressed
