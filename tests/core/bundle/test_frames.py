"""A stored bundle's tar can be read at any place, and no damaged byte of it passes."""

import errno
import itertools
import os

import pytest
import zstandard

from dagferry_core.bundle.frames import FRAME_BYTES, Frames, RangeRead
from dagferry_core.errors import FormatError
from dagferry_core.limits import PIECE_BYTES
from treemaker import range_read

CONTENT = b"".join(b"%011o" % number for number in range(200_000))
assert 2 * FRAME_BYTES < len(CONTENT) < 3 * FRAME_BYTES


def stored(*frames: bytes) -> tuple[RangeRead, list[int]]:
    """Return what reads frames as they are stored, and their offsets."""
    return range_read(b"".join(frames)), [0, *itertools.accumulate(map(len, frames))]


def cut(content: bytes) -> list[bytes]:
    return [zstandard.compress(content[at : at + FRAME_BYTES]) for at in range(0, len(content), FRAME_BYTES)]


@pytest.mark.parametrize(
    ("start", "length"),
    [(0, 0), (0, 11), (FRAME_BYTES - 1, 2), (FRAME_BYTES, FRAME_BYTES), (5, len(CONTENT) - 5), (len(CONTENT) - 1, 1)],
)
def test_any_range_is_read(start, length) -> None:
    frames = Frames(*stored(*cut(CONTENT)))
    assert frames.range(start, length) == CONTENT[start : start + length]
    pieces = list(frames.pieces(start, length))
    assert b"".join(pieces) == CONTENT[start : start + length]
    assert max(map(len, pieces), default=0) <= PIECE_BYTES


def test_one_frame_is_held_and_read_once() -> None:
    asked = []
    read, offsets = stored(*cut(CONTENT))
    frames = Frames(lambda *of: asked.append(of) or read(*of), offsets)
    for start in range(0, 1000, 100):
        frames.range(start, 100)
    assert asked == [(0, offsets[1])]


def test_its_size_is_that_of_all_frames() -> None:
    parts = cut(CONTENT)
    assert Frames(*stored(*parts)).stored_bytes == len(b"".join(parts))


def test_the_size_of_the_manifest_is_in_the_first_header() -> None:
    header = bytes(124) + b"%011o\0" % 1234 + bytes(376)
    assert Frames(*stored(zstandard.compress(header))).manifest_bytes() == 1234
    with pytest.raises(FormatError, match="has no manifest"):
        Frames(*stored(zstandard.compress(bytes(512)))).manifest_bytes()


def test_what_lies_beyond_the_end_is_damage() -> None:
    frames = Frames(*stored(*cut(CONTENT)))
    with pytest.raises(FormatError, match=f"ends early: it has no byte {len(CONTENT)}"):
        frames.range(len(CONTENT) - 1, 2)
    with pytest.raises(FormatError, match="frame 3 is damaged"):
        frames.range(3 * FRAME_BYTES, 1)


def test_all_of_it_is_verified_with_its_size() -> None:
    frames = Frames(*stored(*cut(CONTENT)))
    frames.verify(len(CONTENT))
    with pytest.raises(FormatError, match=f"it has {len(CONTENT)} bytes, and should have {len(CONTENT) + 1}"):
        frames.verify(len(CONTENT) + 1)


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (b"no frame", "frame 1 is damaged"),
        (zstandard.compress(CONTENT[:100])[:-3], "frame 1 is damaged"),
        (zstandard.compress(bytes(FRAME_BYTES + 1)), f"it claims to hold {FRAME_BYTES + 1} bytes"),
        (zstandard.ZstdCompressor(write_content_size=False).compress(b"x"), "it claims to hold -1 bytes"),
    ],
)
def test_a_damaged_frame_is_damage_before_it_is_allocated(frame, told) -> None:
    frames = Frames(*stored(cut(CONTENT)[0], frame))
    assert frames.range(0, 11) == CONTENT[:11]
    with pytest.raises(FormatError, match=told):
        frames.range(FRAME_BYTES, 1)


def test_a_disk_that_refuses_is_not_damage() -> None:
    def refuse(offset: int, size: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(OSError, match="Input/output error"):
        Frames(refuse, [0, 100]).range(0, 1)


@pytest.mark.parametrize("offsets", [[], [0], [-5, 100], [100, 5]])
def test_an_index_that_asks_for_nonsense_is_damage_and_reads_nothing(offsets) -> None:
    def refuse(offset: int, size: int) -> bytes:
        raise AssertionError((offset, size))

    with pytest.raises(FormatError, match="frame 0 is damaged: the index does not say where it is"):
        Frames(refuse, offsets).range(0, 1)
