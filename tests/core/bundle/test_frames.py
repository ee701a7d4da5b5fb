"""A stored bundle's tar can be read at any place, and no damaged byte of it passes."""

from itertools import pairwise

import pytest
import zstandard

from dagferry_core.bundle.frames import FRAME_BYTES, Frame, Frames, RangeRead
from dagferry_core.errors import FormatError
from dagferry_core.limits import PIECE_BYTES
from treemaker import range_read

MAGIC = b"\x28\xb5\x2f\xfd"
CONTENT = b"".join(b"%011o" % number for number in range(200_000))
assert 2 * FRAME_BYTES < len(CONTENT) < 3 * FRAME_BYTES


def stored(*frames: bytes) -> tuple[RangeRead, list[Frame]]:
    """Return how a bundle of these frames is read, and where they start."""
    starts = [Frame(0, 0)]
    for frame in frames:
        offset, start, _ = starts[-1]
        size = zstandard.frame_content_size(frame) if frame.startswith(MAGIC) else 0
        starts.append(Frame(offset + len(frame), start + size))
    return range_read(b"".join(frames)), starts


def cut(content: bytes, *, at: tuple[int, ...] = (FRAME_BYTES, 2 * FRAME_BYTES)) -> list[bytes]:
    return [zstandard.compress(content[start:end]) for start, end in pairwise((0, *at, len(content)))]


UNEVEN = (1, 700_000, FRAME_BYTES, FRAME_BYTES + 5, 2 * FRAME_BYTES + 5)


@pytest.mark.parametrize(
    ("start", "length"),
    [(0, 0), (0, 11), (FRAME_BYTES - 1, 2), (FRAME_BYTES, FRAME_BYTES), (5, len(CONTENT) - 5), (len(CONTENT) - 1, 1)],
)
@pytest.mark.parametrize("at", [(FRAME_BYTES, 2 * FRAME_BYTES), UNEVEN])
def test_any_range_is_read(start, length, at) -> None:
    frames = Frames(*stored(*cut(CONTENT, at=at)))
    assert frames.range(start, length) == CONTENT[start : start + length]
    pieces = list(frames.pieces(start, length))
    assert b"".join(pieces) == CONTENT[start : start + length]
    assert max(map(len, pieces), default=0) <= PIECE_BYTES


def test_one_frame_is_held_and_read_once() -> None:
    read = []
    of_bundle, offsets = stored(*cut(CONTENT))
    frames = Frames(lambda *of: read.append(of) or of_bundle(*of), offsets)
    for start in range(0, 1000, 100):
        frames.range(start, 100)
    assert read == [(0, offsets[1].offset)]


def test_its_size_is_that_of_all_frames() -> None:
    read, offsets = stored(*cut(CONTENT))
    assert Frames(read, offsets).stored_bytes == offsets[-1].offset == len(b"".join(cut(CONTENT)))


def test_the_size_of_the_manifest_is_in_the_first_header() -> None:
    header = bytes(124) + b"%011o\0" % 1234 + bytes(376)
    assert Frames(*stored(zstandard.compress(header))).manifest_bytes() == 1234
    with pytest.raises(FormatError, match="has no manifest"):
        Frames(*stored(zstandard.compress(bytes(512)))).manifest_bytes()


def test_what_lies_beyond_the_end_is_damage() -> None:
    frames = Frames(*stored(*cut(CONTENT)))
    with pytest.raises(FormatError, match=f"ends early: it has no byte {len(CONTENT)}"):
        frames.range(len(CONTENT) - 1, 2)
    with pytest.raises(FormatError, match="ends early"):
        frames.range(3 * FRAME_BYTES, 1)
    with pytest.raises(FormatError, match="frame -1 is damaged"):
        Frames(range_read(b""), []).range(0, 1)


def test_all_of_it_is_verified_with_its_size() -> None:
    frames = Frames(*stored(*cut(CONTENT)))
    frames.verify(len(CONTENT))
    with pytest.raises(FormatError, match=f"it has {len(CONTENT)} bytes, and should have {len(CONTENT) + 1}"):
        frames.verify(len(CONTENT) + 1)


def test_frames_that_hold_more_or_less_than_the_index_says_are_damage_even_if_all_adds_up() -> None:
    first, second, third = cut(CONTENT)
    _, starts = stored(first, second, third)
    read, found = stored(zstandard.compress(CONTENT[: FRAME_BYTES - 5]), second, third)
    moved = [Frame(offset, start) for (offset, *_), (_, start, _) in zip(found, starts, strict=True)]
    with pytest.raises(FormatError, match=f"frame 1 starts at byte {FRAME_BYTES - 5}, and should at {FRAME_BYTES}"):
        Frames(read, moved).verify(len(CONTENT) - 5)


def test_a_frame_is_found_as_it_is_stored_by_what_it_holds() -> None:
    frames = cut(CONTENT, at=UNEVEN)
    read, starts = stored(*frames)
    hashed = [frame._replace(sha256=str(number)) for number, frame in enumerate(starts)]
    found = Frames(read, hashed)
    ends = (*UNEVEN, len(CONTENT))
    for number, (start, end) in enumerate(zip((0, *UNEVEN), ends, strict=True)):
        assert found.stored_frame(start, end - start) == (frames[number], str(number))
        assert found.stored_frame(start, end - start + 1) is None
        assert found.stored_frame(start + 2, end - start) is None
    assert found.stored_frame(len(CONTENT), 0) is None


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
    read, starts = stored(cut(CONTENT)[0], frame)
    frames = Frames(read, [*starts[:2], Frame(starts[2].offset, 2 * FRAME_BYTES)])
    assert frames.range(0, 11) == CONTENT[:11]
    with pytest.raises(FormatError, match=told):
        frames.range(FRAME_BYTES, 1)


def test_a_store_that_refuses_is_no_damage() -> None:
    def refuse(*_: int) -> bytes:
        raise ConnectionError("the store does not answer")

    with pytest.raises(ConnectionError, match="the store does not answer"):
        Frames(refuse, stored(*cut(CONTENT))[1]).range(0, 1)


def test_an_index_that_asks_for_nonsense_is_damage() -> None:
    read, offsets = stored(*cut(CONTENT))
    for nonsense in ([], offsets[:1], offsets[1:], [offsets[0]._replace(offset=9), *offsets[1:]], offsets[::-1]):
        with pytest.raises(FormatError, match=r"frame (-1|0) is damaged"):
            Frames(read, nonsense).range(0, 1)
    with pytest.raises(FormatError, match="the index does not say where it is"):
        Frames(read, [offsets[1]._replace(start=0), offsets[0]]).range(0, 1)
