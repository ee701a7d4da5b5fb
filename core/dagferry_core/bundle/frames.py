"""The zstd frames that a stored bundle is cut into: its tar can be read at any place."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import zstandard

from dagferry_core.errors import FormatError, Truncated
from dagferry_core.limits import PIECE_BYTES

FRAME_BYTES = 1 << 20
"""The most bytes of the tar that a frame holds."""
BLOCK_BYTES = 512

RangeRead = Callable[[int, int], bytes]
"""``read(offset, size)`` returns the ``size`` bytes of a stored bundle at ``offset``, or fewer where it ends. An error
that it raises, because the store cannot be read, goes to the caller unchanged."""


class Frame(NamedTuple):
    """A frame: where it starts, at ``offset`` in the stored bundle and with byte ``start`` of the tar, and its sha256.

    The hash, in hex, is that of the frame as it is stored; it is ``""`` in bundles of older servers.
    """

    offset: int
    start: int
    sha256: str = ""


class Frames:
    """The tar in a stored bundle, at any place. Holds at most one decompressed frame.

    The last of ``frames`` says where both the bundle and the tar end. Reading raises ``FormatError`` if the bundle is
    damaged, and what ``read`` raises.
    """

    __slots__ = ("_last", "_offsets", "_read", "_sha256s", "_starts")

    def __init__(self, read: RangeRead, frames: Sequence[Frame]) -> None:
        self._read = read
        self._offsets = [frame.offset for frame in frames]
        self._starts = [frame.start for frame in frames]
        self._sha256s = [frame.sha256 for frame in frames]
        self._last: tuple[int | None, bytes] = (None, b"")

    @property
    def stored_bytes(self) -> int:
        """The size of the bundle as it is stored."""
        return self._offsets[-1]

    def manifest_bytes(self) -> int:
        """Return the size of the manifest, the first member."""
        digits = self.range(0, BLOCK_BYTES)[124:135]
        if not digits.isdigit() or b"8" in digits or b"9" in digits:
            raise FormatError(f"it has no manifest: its first header has {digits!r} as the size")
        return int(digits, 8)

    def verify(self, size: int) -> None:
        """Read all of it; raise ``FormatError`` if any byte is damaged, or if it has not ``size`` bytes."""
        found = 0
        for number in range(len(self._offsets) - 1):
            if found != self._starts[number]:  # as after a frame that, by one flipped bit, claims to hold nothing
                raise FormatError(f"its frame {number} starts at byte {found}, and should at {self._starts[number]}")
            found += len(self._frame(number))
        if found != size:
            raise FormatError(f"it has {found} bytes, and should have {size}")

    def pieces(self, start: int, length: int) -> Iterator[bytes]:
        """Yield ``length`` bytes from ``start`` in pieces."""
        while length:
            piece = self.range(start, min(length, PIECE_BYTES))
            start, length = start + len(piece), length - len(piece)
            yield piece

    def range(self, start: int, length: int) -> bytes:
        """Return ``length`` bytes from ``start``."""
        pieces = []
        while length:
            number = bisect_right(self._starts, start, 0, max(len(self._starts) - 1, 0)) - 1
            frame = self._frame(number)
            skip = start - self._starts[number]
            piece = frame[skip : skip + length]
            if not piece:
                raise Truncated(f"it ends early: it has no byte {start}")
            pieces.append(piece)
            start, length = start + len(piece), length - len(piece)
        return b"".join(pieces)

    def stored_frame(self, start: int, size: int) -> tuple[bytes, str] | None:
        """Return the frame that holds just the bytes of the tar from ``start`` on, ``size`` of them, and its sha256.

        Both are returned as stored, without a comparison; ``None`` if there is no such frame.
        """
        number = bisect_left(self._starts, start)
        if self._starts[number : number + 2] != [start, start + size]:
            return None
        return self._stored_frame(number), self._sha256s[number]

    def _frame(self, number: int) -> bytes:
        cached, content = self._last
        if cached != number:
            frame = self._stored_frame(number)
            try:
                # The size that a damaged frame claims would be allocated.
                if not 0 <= (size := zstandard.frame_content_size(frame)) <= FRAME_BYTES:
                    raise ValueError(f"it claims to hold {size} bytes")
                content = zstandard.decompress(frame)
            except (ValueError, zstandard.ZstdError) as error:
                raise FormatError(f"its frame {number} is damaged: {error}") from error
            self._last = (number, content)
        return content

    def _stored_frame(self, number: int) -> bytes:
        offsets = self._offsets
        # A damaged index may ask for bytes that no bundle has. If it asks for too many, the read returns what there is.
        if not 0 <= number < len(offsets) - 1 or not 0 <= offsets[number] <= offsets[number + 1]:
            raise FormatError(f"its frame {number} is damaged: the index does not say where it is")
        return self._read(offsets[number], offsets[number + 1] - offsets[number])
