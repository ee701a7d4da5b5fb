"""Archives that are small and would take much memory, disk or time: each is refused early, by its code."""

import io
import random
import tracemalloc
import zlib

import pytest
import zstandard

from dagferry_core.archive.check import ArchiveRules, check_archive
from dagferry_core.errors import DagferryError
from dagferry_core.limits import GIB, MAX_RATIO, MIB
from tarmaker import END, code, file, folder, gnu_name, gz, hard_link, header, pax, record, symlink, tar, zst

GOOD = file(b"dags/good.py")


class Spool(io.RawIOBase):
    """Counts what is written, in bytes, and forgets it."""

    def __init__(self):
        self.size = 0

    def tell(self):
        return 0

    def write(self, data):
        self.size += len(data)
        return len(data)


def outcome(data, *, memory=8 * MIB, disk=64 * MIB, **rules):
    """Return the code that refuses ``data``; the memory and disk it takes until then is held to these many bytes."""
    spool = Spool()
    refusal = "accepted"
    tracemalloc.start()
    try:
        check_archive(io.BytesIO(data), spool, ArchiveRules(**rules))
    except DagferryError as error:
        refusal = error.code
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < memory
    assert spool.size <= disk
    return refusal


def zeros(size, pack):
    """Return a compressed tar of one file of ``size`` zeros, without ever holding it."""
    parts = [header(b"dags/zeros", size), *[bytes(MIB)] * (size // MIB), END]
    return b"".join([*map(pack.compress, parts), pack.flush()])


def test_a_gibibyte_of_zeros_as_zstd_is_refused_by_ratio():
    data = zeros(GIB, zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj())
    assert len(data) < 34_000
    assert outcome(data) == "ratio_too_high"


def test_half_a_gibibyte_of_zeros_as_gzip_is_refused_by_ratio():
    data = zeros(GIB // 2, zlib.compressobj(6, wbits=31))
    assert outcome(data, disk=MAX_RATIO * len(data) + MIB) == "ratio_too_high"


def test_much_content_is_refused_by_bytes_before_it_fills_the_disk():
    assert outcome(gz(tar(file(b"dags/a", bytes(40 * MIB)))), max_expanded_bytes=32 * MIB) == "expanded_too_large"
    assert outcome(tar(file(b"dags/a", bytes(40 * MIB))), max_expanded_bytes=32 * MIB) == "expanded_too_large"


def test_zeros_behind_the_end_are_refused_by_bytes_too():
    assert outcome(gz(tar(GOOD) + bytes(40 * MIB)), max_expanded_bytes=32 * MIB) == "expanded_too_large"
    assert outcome(zst(tar(GOOD) + bytes(80 * MIB))) == "ratio_too_high"


def test_excluded_members_are_counted_too():
    assert outcome(gz(tar(GOOD, file(b"dags/a.pyc", bytes(MIB)))), max_expanded_bytes=MIB) == "expanded_too_large"


def test_many_copies_of_one_file_are_refused_by_bytes():
    """A hundred links to 10 MiB are 1,000 MiB on every pod, in an archive that has them once."""
    big = file(b"dags/big", bytes(10 * MIB))
    for link in (symlink, hard_link):
        links = [link(b"dags/%d" % n, b"big" if link is symlink else b"dags/big") for n in range(100)]
        assert code(tar(big, *links), max_expanded_bytes=100 * MIB) == "expanded_too_large"


def test_a_hundred_thousand_empty_files_are_refused_by_number():
    plain = b"".join(header(b"dags/%06d" % number) for number in range(100_001)) + END
    data = gz(plain)
    assert len(data) < MIB
    assert code(data) == "too_many_files"
    assert outcome(data, max_files=1000) == "too_many_files"


def test_folders_and_links_and_excluded_paths_count_as_members():
    for part in (folder, lambda name: symlink(name, b"x"), lambda name: file(name + b".pyc")):
        assert code(tar(*[part(b"dags/%d" % n) for n in range(11)]), max_files=10) == "too_many_files"


def test_folders_that_are_only_implied_count_too():
    """Each file below folders of its own: 493 KiB made 6 million folders, in every pod."""
    files = [header(b"dags/%d/" % number + b"d/" * 40 + b"a") for number in range(3000)]
    assert outcome(gz(tar(*files)), memory=32 * MIB) == "too_many_files"
    assert code(tar(*files[:20]), max_files=20 * 42) == "too_many_files"
    assert len(code(tar(*files[:20]), max_files=20 * 42 + 1)) == 20


def test_many_long_paths_are_refused_by_their_bytes():
    long = b"/".join([b"n" * 240] * 4)
    files = [pax((b"path", b"dags/%s%d" % (long, number))) + header() for number in range(20_000)]
    assert outcome(gz(tar(*files)), memory=64 * MIB) == "paths_too_large"
    links = [pax((b"linkpath", b"./" * 30_000)) + symlink(b"dags/%d" % number, b"x") for number in range(300)]
    assert outcome(gz(tar(*links)), memory=64 * MIB) == "paths_too_large"


def test_paths_that_links_make_are_counted_too():
    files = [file(b"dags/d/%03d" % number) for number in range(200)]
    links = [
        gnu_name(b"dags/%s/%s%d" % (b"x" * 250, b"y" * 240, number)) + symlink(b"", b"../d") for number in range(200)
    ]
    assert outcome(tar(*files, *links), memory=64 * MIB) == "paths_too_large"


def test_links_that_double_with_each_level_are_refused():
    levels = [symlink(b"dags/d%d/%s" % (n, side), b"../d%d" % (n - 1)) for n in range(1, 60) for side in (b"x", b"y")]
    assert outcome(gz(tar(file(b"dags/d0/a.py"), *levels)), max_files=5000) == "too_many_files"
    assert outcome(gz(tar(folder(b"dags/d0/"), *levels)), max_files=5000) == "too_many_files"


def test_a_folder_that_is_linked_deeper_and_deeper_is_refused():
    nested = [symlink(b"dags/d%d/x" % n, b"../d%d" % (n - 1)) for n in range(1, 39)]
    assert code(tar(file(b"dags/d0/" + b"y/" * 30 + b"a.py"), *nested)) == "path_refused"


def test_a_pax_header_of_400_megabytes_is_refused_by_its_size():
    """A 408 kB upload with one took any scan with ``tarfile`` to 830 MiB of memory."""
    claim = header(b"PaxHeaders/a", 400 * MIB, kind=b"x")
    body = record(b"comment", bytes(20 * MIB))
    assert outcome(gz(claim + body)) == "archive_unsupported"
    assert outcome(gz(tar(header(b"PaxHeaders/a", 400 * MIB, kind=b"g")))) == "archive_unsupported"


@pytest.mark.parametrize("kind", [b"L", b"K"])
def test_a_long_name_of_megabytes_is_refused_by_its_size(kind):
    assert outcome(gz(header(b"././@LongLink", 40 * MIB, kind=kind) + bytes(40 * MIB))) == "archive_unsupported"


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(pax((b"comment", b"x"), kind=b"g"), id="global headers"),
        pytest.param(gnu_name(b"dags/a") + gnu_name(b"dags/b", b"K"), id="long names"),
        pytest.param(pax((b"mtime", b"1")), id="PAX headers"),
    ],
)
def test_extended_headers_without_end_are_refused(one):
    assert outcome(gz(one * 5000 + tar(GOOD))) == "archive_unsupported"


def test_extended_headers_are_counted_over_the_whole_archive():
    one = pax((b"a", b"b"), kind=b"g") * 4
    assert code(tar(*[one + file(b"dags/%d" % n) for n in range(10)]), max_files=39) == "too_many_files"
    assert len(code(tar(*[one + file(b"dags/%d" % n) for n in range(10)]), max_files=40)) == 10


def test_a_window_over_8_mib_is_refused():
    data = tar(GOOD, file(b"dags/a", bytes(range(256)) * 40_000))
    parameters = zstandard.ZstdCompressionParameters(window_log=24, write_content_size=0)
    assert outcome(zstandard.ZstdCompressor(compression_params=parameters).compress(data)) == "window_too_large"
    parameters = zstandard.ZstdCompressionParameters(window_log=23, write_content_size=0)
    assert (
        outcome(zstandard.ZstdCompressor(compression_params=parameters).compress(data), memory=16 * MIB) == "accepted"
    )


def test_frames_are_not_added_up():
    part = tar(GOOD)
    assert outcome(zst(part[:512]) + zst(part[512:])) == "archive_trailing_data"
    assert outcome(zst(part) + zst(bytes(512))) == "archive_trailing_data"
    assert outcome(gz(part[:512]) + gz(part[512:])) == "archive_trailing_data"
    assert outcome(gz(part) + gz(bytes(512))) == "archive_trailing_data"
    assert outcome(gz(part) + gz(b"")) == "archive_trailing_data"


def test_skippable_frames_and_dictionaries_are_refused():
    skippable = b"\x5a\x2a\x4d\x18\x04\0\0\0skip"
    assert outcome(skippable + zst(tar(GOOD))) == "archive_unsupported"
    assert outcome(zst(tar(GOOD)) + skippable) == "archive_trailing_data"
    dictionary = zstandard.train_dictionary(2000, [b"dags/%d a = %d\n" % (n, n) * 9 for n in range(500)])
    assert dictionary.dict_id()
    packed = zstandard.ZstdCompressor(dict_data=dictionary).compress(tar(GOOD))
    assert outcome(packed) == "archive_unsupported"


def test_an_archive_in_an_archive_is_no_archive():
    inner = gz(tar(file(b"dags/a", random.Random(1).randbytes(1000))))
    assert outcome(gz(inner)) == "archive_not_recognized"
    assert outcome(zst(inner)) == "archive_not_recognized"
