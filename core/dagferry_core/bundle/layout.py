"""Cuts the tar of a bundle into frames: at borders of files, and in the same places for the same files.

So a file that changed changes the frame that it is in, and the frames around it hold the same bytes as before: they can
be copied into the new bundle. For this, no cut may depend on everything before it. Each frame ends at that border, of
those between ``MIN_FRAME_BYTES`` and ``FRAME_BYTES``, whose next path has the lowest CRC: after a file that was added,
removed or resized, the old and the new frames soon choose the same border again.

A file that would not fit starts a frame of its own, in pieces of ``FRAME_BYTES``; the last piece continues with the
files after it. The manifest, which every change changes, has frames of its own.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import pairwise
from zlib import crc32

from dagferry_core.bundle.frames import FRAME_BYTES
from dagferry_core.bundle.manifest import Entry
from dagferry_core.bundle.reader import Part, header_bytes, padding

MIN_FRAME_BYTES = FRAME_BYTES // 2


def member_bytes(entry: Entry) -> int:
    """Return the bytes that a file takes in the tar: its header, its content, and the padding of the last block."""
    return header_bytes(entry) + entry.size + padding(entry.size)


def cut(entries: Iterable[Entry]) -> Iterator[list[Part]]:
    """Yield what each frame holds of the files, which are in the order of the manifest. None is empty."""
    waiting: deque[Part] = deque()
    size = 0
    for entry in entries:
        rest = Part(entry, 0, member_bytes(entry))
        while size + rest.size > FRAME_BYTES:
            if waiting:
                frame = [waiting.popleft() for _ in range(_best(waiting, entry))]
            else:
                frame = [rest._replace(size=FRAME_BYTES)]
                rest = Part(entry, rest.start + FRAME_BYTES, rest.size - FRAME_BYTES)
            yield frame
            size = sum(part.size for part in waiting)
        waiting.append(rest)
        size += rest.size
    if waiting:
        yield list(waiting)


def _best(waiting: Iterable[Part], behind: Entry) -> int:
    """Return how many of the ``waiting`` files make a frame, if ``behind`` does not fit after them."""
    parts = list(waiting)
    best = (len(parts), 1 << 32)
    size = 0
    for count, (part, after) in enumerate(pairwise([*parts, Part(behind, 0, 0)]), 1):
        size += part.size
        if size >= MIN_FRAME_BYTES and (crc := crc32(after.entry.path.encode())) < best[1]:
            best = (count, crc)
    return best[0]
