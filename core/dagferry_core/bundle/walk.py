"""Reads a stored bundle file by file, without keeping its manifest in memory, which may take 50 MB."""

from collections.abc import Iterator

from dagferry_core.bundle.frames import Frame, Frames, RangeRead
from dagferry_core.bundle.manifest import HEADER, Entry, parse_line
from dagferry_core.bundle.reader import BLOCK_BYTES, header_bytes, padding


def walk(read: RangeRead, frames: list[Frame]) -> Iterator[tuple[Entry, Iterator[bytes]]]:
    """Yield every file of a stored bundle with its content in pieces; two decompressed frames are held.

    ``frames`` are those of its index. Raises ``FormatError``, and what ``read`` raises.
    """
    contents = Frames(read, frames)
    for entry, offset in places(read, frames):
        yield entry, contents.pieces(offset, entry.size)


def places(read: RangeRead, frames: list[Frame]) -> Iterator[tuple[Entry, int]]:
    """Yield every file of a stored bundle, and at which byte of its tar the content starts; one frame is held.

    Raises what ``walk`` raises.
    """
    manifest = Frames(read, frames)
    size = manifest.manifest_bytes()
    offset = BLOCK_BYTES + size + padding(size)
    for entry in _entries(manifest, size):
        offset += header_bytes(entry)
        yield entry, offset
        offset += entry.size + padding(entry.size)


def _entries(frames: Frames, size: int) -> Iterator[Entry]:
    text = b""
    start = len(HEADER) + 1
    for piece in frames.pieces(BLOCK_BYTES, size):
        text += piece
        while (end := text.find(b"\n", start)) >= 0:
            yield parse_line(text, start)[0]
            start = end + 1
        text, start = text[start:], 0
