"""Expanding in a second thread: the same pieces and errors as in one, not far ahead, and the thread always ends."""

import itertools
import threading

import pytest

from dagferry_core.archive.ahead import AHEAD_PIECES, MIN_PIECE_BYTES, expand_ahead
from dagferry_core.archive.check import ArchiveRules, check_archive
from dagferry_core.archive.errors import ArchiveTruncated, ExpandedTooLarge, TooManyFiles
from dagferry_core.limits import MIB
from tarmaker import check, file, gz, tar, zst

LARGE = bytes(range(256)) * 256
assert len(LARGE) == MIN_PIECE_BYTES


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before  # one of an earlier test may end meanwhile


def endless(pieces):
    return itertools.chain(pieces, itertools.repeat(b""))


@pytest.mark.parametrize("pieces", [[], [b"a"], [b"a"] * 1000, [LARGE, b"b", LARGE * 2, b"c"], [LARGE] * 50])
def test_all_comes_in_order_and_the_end_stays_the_end(pieces):
    with expand_ahead(endless(pieces)) as found:
        assert b"".join(iter(lambda: next(found), b"")) == b"".join(pieces)
        assert [next(found) for _ in range(3)] == [b""] * 3


def test_small_pieces_are_joined_and_large_ones_come_as_they_are():
    with expand_ahead(endless([b"a" * 1000] * 200)) as found:
        assert MIN_PIECE_BYTES <= len(next(found)) < MIN_PIECE_BYTES + 1000
    with expand_ahead(endless([LARGE, LARGE])) as found:
        assert next(found) is LARGE


def test_an_error_comes_after_what_came_before_it_and_nothing_after_the_error():
    def source():
        yield LARGE
        yield b"rest"
        raise ArchiveTruncated("It ends.")

    with expand_ahead(source()) as found:
        assert [next(found), next(found)] == [LARGE, b"rest"]
        with pytest.raises(ArchiveTruncated, match="It ends"):
            next(found)
        with pytest.raises(StopIteration):
            next(found)


def test_it_is_ahead_by_a_few_pieces_and_no_more():
    made = []
    enough = threading.Event()

    def source():
        while True:
            made.append(None)
            if len(made) > AHEAD_PIECES:
                enough.set()
            yield LARGE

    with expand_ahead(source()) as found:
        assert enough.wait(30)
        for number in range(20):
            assert len(made) <= AHEAD_PIECES + 1 + number
            assert next(found) is LARGE


def test_a_reader_that_stops_or_fails_ends_the_thread():
    with expand_ahead(itertools.repeat(LARGE)) as found:
        next(found)
    with pytest.raises(KeyError), expand_ahead(itertools.repeat(LARGE)):
        raise KeyError


@pytest.mark.parametrize("pack", [gz, zst])
def test_the_first_thing_that_is_wrong_with_an_archive_is_reported_not_what_is_wrong_further_on(pack):
    data = pack(tar(file(b"dags/a.py"), file(b"dags/b.py"), file(b"dags/c.bin", bytes(range(256)) * 4000)))
    with pytest.raises(TooManyFiles, match=r"dags/b\.py"):
        check(data[: len(data) - 5], max_files=2)
    with pytest.raises(ArchiveTruncated):
        check(data[: len(data) - 5])


def test_a_bomb_is_expanded_to_little_more_than_the_limit(tmp_path):
    data = gz(tar(file(b"dags/a.bin", bytes(200 * MIB))))
    (tmp_path / "upload").write_bytes(data)
    with open(tmp_path / "upload", "rb") as upload, open(tmp_path / "spool", "w+b") as spool:
        with pytest.raises(ExpandedTooLarge):
            check_archive(upload, spool, ArchiveRules(max_expanded_bytes=10 * MIB))
        read = upload.tell()
    assert read < len(data) / 5
