"""The zstd frames that a stored bundle is cut into: its tar can be read at any place."""

from collections.abc import Callable, Iterator

import zstandard

from dagferry_core.errors import FormatError, Truncated
from dagferry_core.limits import PIECE_BYTES

FRAME_BYTES = 1 << 20
BLOCK_BYTES = 512

RangeRead = Callable[[int, int], bytes]
"""``read(offset, size)`` returns the ``size`` bytes of a stored bundle at ``offset``, or fewer where it ends. An error
that it raises, because the store cannot be read, goes to the caller unchanged."""


class Frames:
    """The tar in a stored bundle, at any place. Holds at most one decompressed frame.

    Reading raises ``FormatError`` if the bundle is damaged, and what ``read`` raises.
    """

    __slots__ = ("_last", "_offsets", "_read")

    def __init__(self, read: RangeRead, offsets: list[int]) -> None:
        self._read = read
        self._offsets = offsets
        self._last: tuple[int, bytes] = (-1, b"")

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
        found = sum(len(self._frame(number)) for number in range(len(self._offsets) - 1))
        if found != size:  # as of a frame that, by one flipped bit, claims to hold nothing
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
            number, skip = divmod(start, FRAME_BYTES)
            piece = self._frame(number)[skip : skip + length]
            if not piece:
                raise Truncated(f"it ends early: it has no byte {start}")
            pieces.append(piece)
            start, length = start + len(piece), length - len(piece)
        return b"".join(pieces)

    def _frame(self, number: int) -> bytes:
        cached, content = self._last
        if cached != number:
            frame = self._stored_frame(number)
            try:
                # What a damaged one says of its own size would be allocated.
                if not 0 <= (size := zstandard.frame_content_size(frame)) <= FRAME_BYTES:
                    raise ValueError(f"it claims to hold {size} bytes")
                content = zstandard.decompress(frame)
            except (ValueError, zstandard.ZstdError) as error:
                raise FormatError(f"its frame {number} is damaged: {error}") from error
            self._last = (number, content)
        return content

    def _stored_frame(self, number: int) -> bytes:
        offsets = self._offsets
        # A damaged index asks for what no bundle has. If it asks for too much, the read returns what there is.
        if number + 1 >= len(offsets) or not 0 <= offsets[number] <= offsets[number + 1]:
            raise FormatError(f"its frame {number} is damaged: the index does not say where it is")
        return self._read(offsets[number], offsets[number + 1] - offsets[number])
