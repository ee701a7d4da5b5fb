"""Writes a bundle in its canonical form, which ``dagferry_core.bundle.reader`` describes and reads.

A module of its own, because only who stores bundles needs it: a sidecar starts without importing thread pools.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

import zstandard

from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.bundle.reader import END, FRAME_BYTES, MANIFEST_NAME, entry_header, member_header, padding

LEVEL = 3
COMPRESSORS = 2
"""Threads that compress one bundle."""
BUFFERS = 4
"""Of one frame each: two are being compressed, one is filled, and one waits."""

_thread = threading.local()


def write_bundle(
    manifest: Manifest, read_content: Callable[[Entry], Iterable[bytes | memoryview]], out: BinaryIO
) -> list[int]:
    """Write the bundle of ``manifest`` to ``out`` and return its frames, for the ``Index``.

    ``read_content`` gives the bytes of a file in pieces; it is called for each file once, in order. The frames are
    the offsets in ``out`` at which each frame starts, and last the offset at which the bundle ends.
    """
    frames = [0]
    spare = [memoryview(bytearray(FRAME_BYTES)) for _ in range(BUFFERS)]
    pending: deque[tuple[memoryview, Future[bytes]]] = deque()

    def write_next() -> None:
        content, frame = pending.popleft()
        frames.append(frames[-1] + out.write(frame.result()))
        spare.append(content)

    def take_spare() -> memoryview:
        if not spare:
            write_next()
        return spare.pop()

    # Frames do not depend on each other, and compressing holds no lock of the interpreter.
    with ThreadPoolExecutor(COMPRESSORS, "compress", _prepare) as pool:
        for content, size in _frames(_tar(manifest, read_content), take_spare):
            pending.append((content, pool.submit(_compressed, content[:size])))
        while pending:
            write_next()
    return frames


def _tar(
    manifest: Manifest, read_content: Callable[[Entry], Iterable[bytes | memoryview]]
) -> Iterator[bytes | memoryview]:
    size = sum(map(len, manifest.pieces()))
    yield member_header(MANIFEST_NAME, size, 0o644)
    yield from manifest.pieces()
    yield bytes(padding(size))
    for entry in manifest.files.values():
        yield entry_header(entry)
        yield from read_content(entry)
        yield bytes(padding(entry.size))
    yield END


def _frames(
    pieces: Iterable[bytes | memoryview], take_spare: Callable[[], memoryview]
) -> Iterator[tuple[memoryview, int]]:
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


def _compressed(content: memoryview) -> bytes:
    compressed: bytes = _thread.compressor.compress(content)
    return compressed
