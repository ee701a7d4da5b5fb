"""Frames are cut at borders of files, and where the same files are, in the same places."""

import itertools
import random

import pytest

from dagferry_core.bundle.frames import FRAME_BYTES
from dagferry_core.bundle.layout import MIN_FRAME_BYTES, cut, member_bytes
from dagferry_core.bundle.manifest import Entry
from dagferry_core.bundle.reader import Part

RANDOM = random.Random(26)
KIB = 1024


def entries(sizes: list[int]) -> list[Entry]:
    names = sorted(f"team_{RANDOM.randrange(30):02}/dag_{number:05}.py" for number in range(len(sizes)))
    return [
        Entry(name, size, 0o644, f"{RANDOM.getrandbits(256):064x}") for name, size in zip(names, sizes, strict=True)
    ]


DAGS = entries([RANDOM.randrange(60 * KIB) for _ in range(600)])
TREES = {
    "dags": DAGS,
    "tiny": entries([RANDOM.randrange(900) for _ in range(5000)]),
    "large": entries([RANDOM.choice([0, 10, 700 * KIB, FRAME_BYTES - 512, FRAME_BYTES, 3 << 20]) for _ in range(60)]),
}
tree = pytest.mark.parametrize("files", TREES.values(), ids=TREES)


def sizes(frames: list[list[Part]]) -> list[int]:
    return [sum(part.size for part in frame) for frame in frames]


@tree
def test_all_bytes_of_all_files_come_once_and_in_order(files) -> None:
    at = {}
    for part in (part for frame in cut(files) for part in frame):
        assert part.start == at.get(part.entry, 0)
        assert part.size > 0
        at[part.entry] = part.start + part.size
    assert list(at.items()) == [(entry, member_bytes(entry)) for entry in files]


@tree
def test_a_frame_is_as_large_as_may_be_or_ends_where_a_file_does(files) -> None:
    frames = list(cut(files))
    assert max(sizes(frames)) <= FRAME_BYTES
    for frame, size in zip(frames, sizes(frames), strict=True):
        entry, start, last = frame[-1]
        assert size == FRAME_BYTES or start + last == member_bytes(entry)


def test_a_frame_is_small_only_in_front_of_a_large_file_or_at_the_end() -> None:
    for files in TREES.values():
        frames = list(cut(files))
        for frame, behind in itertools.pairwise(frames):
            if sum(part.size for part in frame) < MIN_FRAME_BYTES:
                assert member_bytes(behind[0].entry) > MIN_FRAME_BYTES
    assert min(sizes(list(cut(DAGS)))[:-1]) >= MIN_FRAME_BYTES


def test_no_files_make_no_frames() -> None:
    assert list(cut([])) == []


def changed(files: list[Entry], place: int) -> list[Entry]:
    return [*files[:place], files[place]._replace(sha256="0" * 64), *files[place + 1 :]]


def grown(files: list[Entry], place: int) -> list[Entry]:
    return [*files[:place], files[place]._replace(size=files[place].size + 9000), *files[place + 1 :]]


def removed(files: list[Entry], place: int) -> list[Entry]:
    return [*files[:place], *files[place + 1 :]]


def added(files: list[Entry], place: int) -> list[Entry]:
    return [*files[:place], files[place]._replace(path=files[place].path[:-3]), *files[place:]]


@tree
@pytest.mark.parametrize("change", [changed, grown, removed, added])
def test_a_change_of_one_file_leaves_nearly_all_frames_as_they_were(files, change) -> None:
    before = {tuple(frame) for frame in cut(files)}
    new = [
        sum(tuple(frame) not in before for frame in cut(change(files, place)))
        for place in range(0, len(files), len(files) // 20)
    ]
    # A file of 3 MiB is in up to five frames.
    assert sum(new) / len(new) < (3.5 if files is TREES["large"] else 2)
    assert max(new) <= 8
    assert max(new) < len(before)


def test_paths_alone_decide_where_to_cut_and_not_what_is_in_the_files() -> None:
    other = [entry._replace(sha256="1" * 64, mode=0o755) for entry in DAGS]
    assert sizes(list(cut(other))) == sizes(list(cut(DAGS)))
