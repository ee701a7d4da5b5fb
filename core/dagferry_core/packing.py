"""Writes a bundle in its canonical form, which ``dagferry_core.bundle`` describes and reads.

A module of its own, because only who stores bundles needs it: a sidecar starts without importing thread pools.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

import zstandard

from dagferry_core.bundle import END, FRAME_BYTES, MANIFEST_NAME, entry_header, member_header, padding
from dagferry_core.manifest import Entry, Manifest

LEVEL = 3
COMPRESSORS = 2
"""Threads that compress one bundle."""


def write_bundle(
    manifest: Manifest, read_content: Callable[[Entry], Iterable[bytes | memoryview]], out: BinaryIO
) -> list[int]:
    """Write the bundle of ``manifest`` to ``out`` and return its frames, for the ``Index``.

    ``read_content`` gives the bytes of a file in pieces; it is called for each file once, in order. The frames are
    the offsets in ``out`` at which each frame starts, and last the offset at which the bundle ends.
    """
    frames = [0]

    def write(frame: Future[bytes]) -> None:
        frames.append(frames[-1] + out.write(frame.result()))

    # Frames do not depend on each other, and compressing holds no lock of the interpreter.
    with ThreadPoolExecutor(COMPRESSORS, "compress") as pool:
        pending: deque[Future[bytes]] = deque()
        for content in _frames(_tar(manifest, read_content)):
            if len(pending) > COMPRESSORS:
                write(pending.popleft())
            pending.append(pool.submit(_compressed, content))
        for frame in pending:
            write(frame)
    return frames


def _tar(
    manifest: Manifest, read_content: Callable[[Entry], Iterable[bytes | memoryview]]
) -> Iterator[bytes | memoryview]:
    yield member_header(MANIFEST_NAME, len(manifest.text), 0o644)
    yield manifest.text
    yield bytes(padding(len(manifest.text)))
    for entry in manifest.files.values():
        yield entry_header(entry)
        yield from read_content(entry)
        yield bytes(padding(entry.size))
    yield END


def _frames(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """Cut what ``pieces`` come to into frames."""
    parts: list[bytes | memoryview] = []
    missing = FRAME_BYTES
    for piece in pieces:
        rest = piece
        while len(rest) >= missing:
            yield b"".join([*parts, rest[:missing]])
            rest = memoryview(rest)[missing:]
            parts, missing = [], FRAME_BYTES
        parts.append(rest)
        missing -= len(rest)
    if missing < FRAME_BYTES:
        yield b"".join(parts)


def _compressed(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(content)
