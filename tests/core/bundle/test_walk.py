"""Going through a stored bundle file by file, without its manifest in memory."""

import io
import random
import tracemalloc
from typing import NamedTuple

import pytest

from dagferry_core.bundle.frames import Frame, Frames, RangeRead
from dagferry_core.bundle.reader import FRAME_BYTES
from dagferry_core.bundle.walk import places, walk
from dagferry_core.bundle.writer import write_bundle
from dagferry_core.errors import FormatError
from treemaker import manifest_of, range_read

NOISE = random.Random(5)
FILES = {f"team/{'n' * 100}{number:05}.py": b"%d\n" % number for number in range(20_000)}
FILES |= {"a.bin": NOISE.randbytes(2 * FRAME_BYTES + 3), "empty.py": b"", "z.py": b"last\n"}


MANIFEST = manifest_of(FILES)


class StoredBundle(NamedTuple):
    read: RangeRead
    frames: list[Frame]


@pytest.fixture(scope="module")
def stored():
    out = io.BytesIO()
    frames = write_bundle(MANIFEST, lambda entry: range_read(FILES[entry.path]), out)
    return StoredBundle(range_read(out.getvalue()), frames)


def test_all_files_come_in_order_with_their_contents(stored):
    found = [(entry, b"".join(pieces)) for entry, pieces in walk(stored.read, stored.frames)]
    assert [entry for entry, _ in found] == list(MANIFEST.files.values())
    assert {entry.path: content for entry, content in found} == FILES


def test_the_manifest_is_not_held(stored):
    tracemalloc.start()
    try:
        for _, pieces in walk(stored.read, stored.frames):
            for _ in pieces:
                pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(MANIFEST.text) > 3 * FRAME_BYTES
    assert peak < 6 * FRAME_BYTES


def test_a_bundle_that_is_damaged_or_ends_early_says_so(stored):
    with pytest.raises(FormatError):
        list(walk(stored.read, stored.frames[:2]))
    with pytest.raises(FormatError):
        list(walk(stored.read, [frame._replace(offset=frame.offset + 1) for frame in stored.frames]))


def test_places_say_where_each_content_starts(stored):
    frames = Frames(stored.read, stored.frames)
    found = list(places(stored.read, stored.frames))
    assert [entry for entry, _ in found] == list(MANIFEST.files.values())
    for entry, offset in (found[0], found[1], found[-2], found[-1]):
        assert frames.range(offset, entry.size) == FILES[entry.path]
