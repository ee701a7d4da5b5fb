"""Decompressing in a second thread: the same bytes, every error, and no thread that outlives its use."""

import os
import threading

import pytest
import zstandard

from dagferry_core.limits import PIECE_BYTES
from dagferry_follow.errors import DigestMismatch, ServerUnreachable
from dagferry_follow.remote.inflate import BUFFERS, COMPRESSED_BYTES, Inflated

CONTENT = os.urandom(PIECE_BYTES) + bytes(3 * PIECE_BYTES) + os.urandom(10)


def frames(content: bytes, size: int = 1 << 20) -> bytes:
    return b"".join(zstandard.compress(content[at : at + size]) for at in range(0, len(content), size))


def reader(body: bytes):
    left = memoryview(body)

    def read(size: int) -> bytes:
        nonlocal left
        taken, left = left[:size], left[size:]
        return taken.tobytes()

    return read


def nothing() -> None:
    """There is nothing to cut."""


def test_what_comes_out_is_what_was_compressed_in_whatever_pieces_it_is_asked_for() -> None:
    for size in (1, 511, PIECE_BYTES, 1 << 22):
        content = CONTENT[:2000] if size == 1 else CONTENT
        with Inflated(reader(frames(content)), nothing) as take:
            pieces = []
            while piece := take(size):
                assert len(piece) <= size
                pieces.append(piece)
            assert take(1) == b"", "the end stays the end"
        assert b"".join(pieces) == content


def test_it_runs_ahead_by_no_more_than_its_buffers() -> None:
    asked = 0
    body = frames(os.urandom(PIECE_BYTES)) * 200

    def read(size: int) -> bytes:
        nonlocal asked
        asked += size
        return source(size)

    source = reader(body)
    with Inflated(read, nothing) as take:
        take(1)
        total = 1
        assert asked <= (BUFFERS + 2) * (PIECE_BYTES + COMPRESSED_BYTES) < len(body) // 10
        while piece := take(PIECE_BYTES):
            total += len(piece)
    assert total == PIECE_BYTES * 200


@pytest.mark.parametrize("harm", [lambda body: body[:4] + b"\xff" * 8 + body[12:], lambda body: b"no" + body])
def test_a_damaged_stream_is_a_digest_mismatch(harm) -> None:
    def drain() -> None:
        with Inflated(reader(harm(frames(CONTENT))), nothing) as take:
            while take(PIECE_BYTES):
                pass

    with pytest.raises(DigestMismatch):
        drain()


def test_an_error_of_the_reader_comes_out_in_the_other_thread() -> None:
    def read(_size: int) -> bytes:
        raise ServerUnreachable("cut")

    with pytest.raises(ServerUnreachable, match="cut"), Inflated(read, nothing) as take:
        take(1)


def test_giving_up_ends_the_thread_though_its_reader_hangs() -> None:
    cut = threading.Event()

    def read(_size: int) -> bytes:
        cut.wait(30)
        raise ServerUnreachable("closed")

    with pytest.raises(KeyboardInterrupt), Inflated(read, cut.set):
        raise KeyboardInterrupt
    assert "inflate" not in {thread.name for thread in threading.enumerate()}


def test_giving_up_ends_the_thread_though_all_buffers_are_full() -> None:
    inflated = Inflated(reader(frames(bytes(PIECE_BYTES * 50))), nothing)
    take = inflated.__enter__()
    take(1)
    inflated.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert "inflate" not in {thread.name for thread in threading.enumerate()}
