"""Streams: every byte comes out once, in bounded pieces, and the end is said only when it is proven."""

import contextlib
import gzip
import io
import random
import zlib
from functools import partial

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from dagferry_core.archive import compression
from dagferry_core.archive.compression import Stream, expand
from dagferry_core.archive.errors import (
    ArchiveCorrupt,
    ArchiveError,
    ArchiveNotRecognized,
    ArchiveTrailingData,
    ArchiveTruncated,
    ArchiveUnsupported,
    WindowTooLarge,
)
from dagferry_core.limits import PIECE_BYTES
from tarmaker import file, gz, tar, zst

PLAIN = tar(
    file(b"dags/a.py", b"a = 1\n" * 30_000),
    file(b"dags/noise.bin", random.Random(1).randbytes(700_000)),
    file(b"dags/zeros.bin", bytes(1_000_000)),
)


def read_all(data, size=PIECE_BYTES):
    stream = Stream(expand(io.BytesIO(data)))
    pieces = []
    while piece := stream.read(size):
        pieces.append(piece)
    assert stream.read(1) == b"", "the end stays the end"
    return b"".join(pieces)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(PLAIN, id="plain"),
        pytest.param(gz(PLAIN), id="gzip"),
        pytest.param(gzip.compress(PLAIN, 0), id="gzip, stored"),
        pytest.param(zst(PLAIN), id="zstd"),
        pytest.param(zst(PLAIN, 1), id="zstd, level 1"),
        pytest.param(zst(PLAIN, 19), id="zstd, level 19"),
        pytest.param(zstandard.ZstdCompressor().compress(PLAIN), id="zstd without a checksum"),
        pytest.param(zstandard.ZstdCompressor(write_content_size=False).compress(PLAIN), id="zstd without a size"),
        pytest.param(zst(PLAIN[-1024:]), id="zstd, a few zeros"),
    ],
)
@pytest.mark.parametrize("size", [512, 1000, PIECE_BYTES])
def test_every_byte_comes_out(data, size):
    assert read_all(data, size) == (PLAIN if len(data) > 200 else PLAIN[-1024:])


def test_gzip_with_every_optional_field_is_read():
    body = gz(PLAIN)[10:]
    start = b"\x1f\x8b\x08\x1e" + bytes(4) + b"\0\x03" + b"\x04\0ab\0\0" + b"dags.tar\0" + b"a comment\0"
    assert read_all(start + (zlib.crc32(start) & 0xFFFF).to_bytes(2, "little") + body) == PLAIN


DAMAGE = st.tuples(st.integers(0, 1 << 16), st.sampled_from(["flip", "cut", "insert"]), st.integers(0, 255))


@given(
    content=st.one_of(st.binary(max_size=3000), st.integers(0, 300_000).map(bytes), st.text("ab \n").map(str.encode)),
    level=st.sampled_from([0, 1, 6, 9]),
    strategy=st.sampled_from([zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED]),
    damage=st.lists(DAMAGE, max_size=3),
)
def test_gzip_is_read_and_refused_as_by_zlib_itself(content, level, strategy, damage):
    deflate = zlib.compressobj(level, wbits=31, strategy=strategy)
    data = bytearray(deflate.compress(tar(file(b"dags/a", content))) + deflate.flush())
    for where, kind, byte in damage:
        at = where % len(data)
        if kind == "flip":
            data[at] ^= 1 << byte % 8
        elif kind == "insert":
            data.insert(at, byte)
        else:
            del data[at + 1 :]

    def outcome():
        try:
            return read_all(bytes(data))
        except ArchiveError as error:
            return type(error)

    ours = outcome()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(compression, "zlib_ng", zlib)
        assert outcome() == ours


@given(st.lists(st.binary(min_size=1, max_size=20)), st.lists(st.integers(0, 30)))
def test_a_stream_cuts_as_asked_whatever_the_pieces(pieces, sizes):
    def endless():
        yield from pieces
        while True:
            yield b""

    whole = b"".join(pieces)
    stream = Stream(endless())
    for size in sizes:
        assert stream.read(size) == whole[:size]
        whole = whole[size:]
    assert stream.read(10_000) == whole
    assert stream.read(1) == b""


def test_after_an_error_there_is_no_end():
    stream = Stream(expand(io.BytesIO(gz(PLAIN)[:-1])))
    with pytest.raises(ArchiveTruncated):
        stream.read(2 * len(PLAIN))
    with pytest.raises(StopIteration):
        stream.read(1)


@pytest.mark.parametrize("pack", [gz, zst])
def test_pieces_are_bounded_whatever_they_expand_to(pack):
    plain = tar(file(content=bytes(5_000_000)))
    pieces = list(iter(partial(next, expand(io.BytesIO(pack(plain)))), b""))
    assert b"".join(pieces) == plain
    assert max(map(len, pieces)) <= PIECE_BYTES


@pytest.mark.parametrize("pack", [gz, zst])
def test_every_truncation_is_reported(pack):
    data = pack(tar(file(content=bytes(range(256)) * 4)))
    for length in range(len(data)):
        with pytest.raises((ArchiveTruncated, ArchiveNotRecognized)):
            read_all(data[:length])


def test_trailing_data_is_reported_wherever_the_reading_stops():
    """Also if the frame ends with the last byte that was read of the file."""
    body = gz(PLAIN[-1024:])[10:]
    for size in (512, 512 + 32 * 1024):
        name = b"n" * (size - 11 - len(body)) + b"\0"
        data = b"\x1f\x8b\x08\x08" + bytes(4) + b"\0\x03" + name + body
        assert len(data) == size
        assert read_all(data) == PLAIN[-1024:]
        with pytest.raises(ArchiveTrailingData):
            read_all(data + b"\0")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", ArchiveTruncated),
        (b"\x1f", ArchiveNotRecognized),
        (b"hello", ArchiveNotRecognized),
        (b"a" * 1000, ArchiveNotRecognized),
        (b"PK\x03\x04" + bytes(600), ArchiveNotRecognized),
        (b"BZh91AY&SY", ArchiveNotRecognized),
        (b"\xfd7zXZ\0", ArchiveNotRecognized),
        (bytes(100), ArchiveNotRecognized),
        (b"\x50\x2a\x4d\x18" + bytes(4) + zst(PLAIN), ArchiveUnsupported),
        (gz(PLAIN) + b"\0", ArchiveTrailingData),
        (gz(PLAIN) + gz(b""), ArchiveTrailingData),
        (zst(PLAIN) + b"\0", ArchiveTrailingData),
        (zst(PLAIN) + zst(b""), ArchiveTrailingData),
        (zst(PLAIN) + b"\x50\x2a\x4d\x18" + bytes(4), ArchiveTrailingData),
        (gz(PLAIN)[:-8] + bytes(8), ArchiveCorrupt),
        (zst(PLAIN)[:-4] + bytes(4), ArchiveCorrupt),
        (gz(b"")[:10] + b"\xff" * 20, ArchiveCorrupt),
    ],
)
def test_what_is_not_one_whole_frame_is_refused(data, error):
    with pytest.raises(error):
        read_all(data)


def test_the_kind_of_file_is_named():
    with pytest.raises(ArchiveNotRecognized, match="a zip file"):
        expand(io.BytesIO(b"PK\x03\x04"))


def frame(descriptor, rest, blocks=b"\x01\0\0"):
    return b"\x28\xb5\x2f\xfd" + bytes([descriptor]) + rest + blocks


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (frame(0, b"\x00"), b""),
        (frame(0, b"\x68"), b""),  # 2**(10 + 13) = 8 MiB
        (frame(0, b"\x69"), WindowTooLarge),  # 9 MiB
        (frame(0, b"\x70"), WindowTooLarge),  # 16 MiB
        (frame(0, b"\xff"), WindowTooLarge),  # 3.75 TiB
        (frame(0x20, b"\x00"), b""),
        (frame(0xA0, (8 << 20).to_bytes(4, "little")), ArchiveCorrupt),  # 8 MiB announced, none delivered
        (frame(0xA0, ((8 << 20) + 1).to_bytes(4, "little")), WindowTooLarge),
        (frame(0xE0, b"\xff" * 8), WindowTooLarge),
        (frame(0x40, b"\x00\x00\x00"), ArchiveCorrupt),
        (frame(0x08, b"\x00"), ArchiveCorrupt),
        (frame(0x01, b"\x00\x00"), ArchiveUnsupported),
        (frame(0x02, b"\x00\x01\x00"), ArchiveUnsupported),
        (frame(0x03, b"\x00\x01\x00\x00\x00"), ArchiveUnsupported),
        (frame(0, b"\x38", b"\x07\0\0"), ArchiveCorrupt),  # block of the reserved type
        (frame(0, b"\x38", (1 | 1 << 1 | 1 << 20 << 3).to_bytes(3, "little") + b"\0"), ArchiveCorrupt),
        (frame(0, b"\x38", (1 | 1 << 1 | 1 << 17 << 3).to_bytes(3, "little") + b"\0"), bytes(1 << 17)),
        (frame(0, b"\x38", (1 | 10 << 3).to_bytes(3, "little") + b"0123456789"), b"0123456789"),
        (frame(0, b"\x38", (1 | 10 << 3).to_bytes(3, "little") + b"012345678"), ArchiveTruncated),
        (frame(0, b"\x38", (1 | 2 << 1 | 10 << 3).to_bytes(3, "little") + b"\xff" * 10), ArchiveCorrupt),
    ],
)
def test_frame_headers_and_blocks_are_held_to_the_rfc(data, outcome):
    if isinstance(outcome, bytes):
        assert read_all(data) == outcome
    else:
        with pytest.raises(outcome):
            read_all(data)


def test_a_frame_of_endless_tiny_blocks_is_refused(monkeypatch):
    monkeypatch.setattr(compression, "MAX_ZSTD_BLOCKS", 100)
    block = (1 << 3).to_bytes(3, "little") + b"x"
    last = (1 | 1 << 3).to_bytes(3, "little") + b"x"
    assert read_all(frame(0, b"\x38", block * 99 + last)) == b"x" * 100
    with pytest.raises(ArchiveUnsupported, match="100 blocks"):
        read_all(frame(0, b"\x38", block * 100 + last))


@given(st.binary(max_size=2000), st.sampled_from([b"", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", gz(b"x")[:10]]))
def test_noise_is_an_error_and_never_a_crash(noise, start):
    # By accident, noise may also be a frame.
    with contextlib.suppress(ArchiveError):
        read_all(start + noise)
