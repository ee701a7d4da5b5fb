"""The canonical form of a bundle: what is written is what is read, by us and by tar, and nothing else is accepted."""

import hashlib
import io
import itertools
import os
import subprocess
import tracemalloc

import pytest
import zstandard

from dagferry_core.bundle.frames import Frame
from dagferry_core.bundle.layout import cut
from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.bundle.reader import (
    FRAME_BYTES,
    BundleFile,
    Index,
    decompressed,
    member_header,
    read_tar,
    stored_frames,
)
from dagferry_core.bundle.writer import write_bundle
from dagferry_core.errors import FormatError, Truncated
from treemaker import range_read

FILES = {
    "empty.py": b"",
    "block.py": b"x" * 512,
    "team/etl.py": b"print('etl')\n" * 100,
    "team/" + "long_" * 30 + "ä.py": b"pass\n",
    "zz.bin": os.urandom(3 * FRAME_BYTES + 17),
}


def bundle_of(files: dict[str, bytes]) -> tuple[Manifest, bytes, list[Frame]]:
    manifest = Manifest(Entry(path, len(text), 0o644, hashlib.sha256(text).hexdigest()) for path, text in files.items())
    out = io.BytesIO()
    frames = write_bundle(manifest, lambda entry: range_read(files[entry.path]), out)
    return manifest, out.getvalue(), frames


def read_all(data: bytes) -> tuple[Manifest, dict[str, bytes]]:
    manifest, entries = read_tar(decompressed(io.BytesIO(data).read))
    return manifest, {entry.path: b"".join(pieces) for entry, pieces in entries}


def tar_of(data: bytes) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        return reader.read()


def test_what_is_written_is_read_back() -> None:
    manifest, data, _ = bundle_of(FILES)
    read_manifest, contents = read_all(data)
    assert contents == FILES
    assert read_manifest.digest == manifest.digest


def test_an_empty_bundle_is_one_too() -> None:
    assert read_all(bundle_of({})[1])[1] == {}


def test_the_same_files_give_the_same_bytes_in_any_order() -> None:
    assert bundle_of(FILES)[1] == bundle_of(dict(reversed(FILES.items())))[1]


def test_gnu_tar_sees_the_same_files(tmp_path) -> None:
    subprocess.run(["tar", "-x", "-C", tmp_path], input=tar_of(bundle_of(FILES)[1]), check=True)
    for path, content in FILES.items():
        assert (tmp_path / "dags" / path).read_bytes() == content
    assert (tmp_path / "manifest.txt").read_bytes() == bundle_of(FILES)[0].text


@pytest.mark.parametrize("length", [*range(80, 125), *range(980, 1010)])
def test_a_path_of_any_length_has_a_header_tar_understands(length: int) -> None:
    path = "/".join(["d" * 9] * (length // 10) + ["e" * (length % 10 or 1)])
    header = member_header(path, 3, 0o755) + b"abc".ljust(512, b"\0") + bytes(1024)
    seen = subprocess.run(["tar", "-t"], input=header, check=True, capture_output=True).stdout
    assert seen.decode().rstrip("\n") == path


# The last four bytes are a checksum: without them all is there. That they are missing, Content-Length tells.
@pytest.mark.parametrize("cut", [0, 1, 100, 5000, FRAME_BYTES, -5, -20, -200])
def test_a_bundle_truncated_anywhere_is_refused(cut: int) -> None:
    data = bundle_of(FILES)[1]
    with pytest.raises(Truncated):
        read_all(data[:cut])


def test_bytes_after_the_end_are_refused() -> None:
    data = bundle_of(FILES)[1]
    with pytest.raises(FormatError):
        read_all(data + zstandard.compress(b"\0" * 512))


def test_an_entry_that_the_manifest_does_not_announce_is_refused() -> None:
    tar = bytearray(tar_of(bundle_of({"a.py": b"pass\n"})[1]))
    tar[tar.index(b"dags/a.py") + 5 : tar.index(b"dags/a.py") + 6] = b"b"
    with pytest.raises(FormatError, match=r"canonical form at 'a\.py'"):
        read_all(zstandard.compress(bytes(tar)))


def test_a_manifest_that_claims_too_much_is_not_read() -> None:
    asked = []

    def endless(size: int) -> bytes:
        asked.append(size)
        return member_header("manifest.txt", 200 << 20, 0o644) if len(asked) == 1 else bytes(size)

    with pytest.raises(FormatError, match=f"claims {200 << 20} bytes"):
        read_tar(endless)
    assert len(asked) == 1


@pytest.mark.parametrize("size", [-1, -5, -512, 10**11, 8**11])
def test_a_file_of_a_size_that_no_file_has_is_refused_before_its_content_is_asked_for(size) -> None:
    text = Manifest([Entry("a.py", size, 0o644, "0" * 64)]).text
    start = member_header("manifest.txt", len(text), 0o644) + text.ljust(1024, b"\0")
    tar = io.BytesIO(start + b"x" * 4096)
    with pytest.raises(FormatError, match="an invalid line"):
        read_tar(tar.read)
    assert tar.tell() <= len(start)


@pytest.mark.parametrize("digits", [b"0000000+200", b" 0000000200", b"00000000200"[:10] + b" ", b"0000000020\xb2"])
def test_a_header_with_a_number_of_another_form_is_no_bundle(digits) -> None:
    header = bytearray(member_header("manifest.txt", 128, 0o644))
    header[124:135] = digits
    with pytest.raises(FormatError, match="does not start with a manifest"):
        read_tar(io.BytesIO(bytes(header) + bytes(4096)).read)


def test_something_else_is_no_bundle() -> None:
    with pytest.raises(FormatError, match="does not start with a manifest"):
        read_all(zstandard.compress(b"<html>".ljust(2048)))
    with pytest.raises(FormatError, match="cannot be decompressed"):
        read_all(b"<html>".ljust(2048))


def test_single_files_are_read_without_the_rest() -> None:
    manifest, data, frames = bundle_of(FILES)
    index = Index(frames, {"team/etl.py": ("os", ".x")}, {"team/etl.py": ("orders.sql",)})
    stored = BundleFile(range_read(data), Index.decode(index.encode()))
    assert {path: stored.read(path) for path in FILES} == FILES
    assert stored.manifest.digest == manifest.digest
    assert stored.imports == {"team/etl.py": ("os", ".x")}
    assert stored.reads == {"team/etl.py": ("orders.sql",)}
    assert stored.stored_bytes == len(data)


def test_an_index_from_before_data_was_looked_for_says_that_it_does_not_know() -> None:
    text = b'{"frames": [0, 9], "imports": {"a.py": ["b"]}}'
    assert Index.decode(zstandard.compress(text)).reads is None


def test_in_an_index_from_before_frames_were_cut_at_files_each_holds_a_mebibyte() -> None:
    text = b'{"frames": [0, 9, 20], "imports": {}, "reads": {}}'
    starts = [Frame(0, 0), Frame(9, FRAME_BYTES), Frame(20, 2 * FRAME_BYTES)]
    assert Index.decode(zstandard.compress(text)) == Index(starts, {}, {})
    hashed = [Frame(offset, start, "ab" * 32) for offset, start, _ in starts]
    assert Index.decode(Index(hashed, {}, {}).encode()) == Index(hashed, {}, {})


def test_the_frames_of_an_index_are_read_without_the_rest_of_it() -> None:
    names = {f"dag_{number}.py": (f"module_{number}", '], "imports": ') for number in range(30_000)}
    frames = [Frame(number, number * 500, "ab" * 32) for number in range(50)]
    encoded = Index(frames, names, names).encode()
    assert stored_frames(encoded) == frames
    tracemalloc.start()
    stored_frames(encoded)
    assert tracemalloc.get_traced_memory()[1] < FRAME_BYTES
    tracemalloc.stop()
    for text in (
        b'{"frames": [0, 9], "imports": {"a.py": ["b"]}}',
        b'{"frames": [0, 9], "imports": null}',
        b'{"frames": [0, 9]}',
    ):
        assert stored_frames(zstandard.compress(text)) == [Frame(0, 0), Frame(9, FRAME_BYTES)]
    for damaged in (b"no index", encoded[:20], zstandard.compress(b"{}"), zstandard.compress(b'{"frames": [["x"]]}')):
        with pytest.raises(FormatError):
            stored_frames(damaged)


def test_a_frame_is_found_if_it_holds_just_these_files_with_this_content() -> None:
    files = {f"{number:03}.bin": os.urandom(40_000) for number in range(60)} | {"x.bin": os.urandom(2 * FRAME_BYTES)}
    manifest, data, frames = bundle_of(files)
    stored = BundleFile(range_read(data), Index(frames, {}))
    runs = list(cut(manifest.files.values()))
    found = [stored.stored_frame(parts) for parts in runs]
    parts_of = [data[start.offset : end.offset] for start, end in itertools.pairwise(frames)]
    assert [frame for frame, _ in found] == parts_of[1:-1]
    assert [hashlib.sha256(frame).hexdigest() for frame, _ in found] == [sha256 for _, sha256 in found]
    first = runs[0]
    other = first[3]._replace(entry=first[3].entry._replace(sha256="0" * 64))
    for parts in (
        first[:-1],
        first[1:],
        [*first, runs[1][0]],
        [*first[:3], other, *first[4:]],
        [*first[:3], first[3]._replace(entry=first[3].entry._replace(mode=0o755)), *first[4:]],
        [first[0]._replace(entry=first[0].entry._replace(path="000"))],
        [first[0]._replace(entry=first[0].entry._replace(path="zzz"))],
        [runs[-2][-1]._replace(start=512)],
    ):
        assert stored.stored_frame(parts) is None


def test_a_damaged_stored_bundle_is_reported_as_such() -> None:
    _, data, frames = bundle_of(FILES)
    start = frames[2].offset
    damaged = data[:start] + b"damage" + data[start + 6 :]
    with pytest.raises(FormatError, match="frame 2 is damaged"):
        BundleFile(range_read(damaged), Index(frames, {})).read("zz.bin")
    with pytest.raises(FormatError, match="index is damaged"):
        Index.decode(b"no index")


@pytest.mark.parametrize("frames", [[], [0], [-1, 500], [500, 0], [10**6, 10**6 + 500], [2**70, 2**71], [0, 7]])
def test_an_index_that_does_not_fit_its_bundle_is_reported_as_damaged(frames) -> None:
    _, data, _ = bundle_of({"a.py": b"x = 1\n"})
    asked = []

    def read(offset: int, size: int) -> bytes:
        asked.append((offset, size))
        return data[offset : offset + size]

    with pytest.raises(FormatError, match=r"frame (0|-1) is damaged"):
        BundleFile(read, Index([Frame(offset, number * 500) for number, offset in enumerate(frames)], {}))
    assert all(offset >= 0 and size >= 0 for offset, size in asked)


def test_an_error_of_the_storage_is_not_taken_for_damage() -> None:
    _, _, frames = bundle_of(FILES)

    def read(offset: int, size: int) -> bytes:
        raise ConnectionError("the store does not answer")

    with pytest.raises(ConnectionError, match="the store does not answer"):
        BundleFile(read, Index(frames, {}))


def test_a_damaged_frame_that_claims_a_terabyte_takes_none_of_it() -> None:
    _, data, frames = bundle_of({"a.py": b"x = 1\n"})
    claim = b"\x28\xb5\x2f\xfd\xe0" + (1 << 40).to_bytes(8, "little")
    with pytest.raises(FormatError, match="claims to hold 1099511627776"):
        BundleFile(range_read(claim + data[len(claim) :]), Index(frames, {}))


def test_a_damaged_frame_that_claims_to_be_empty_is_seen() -> None:
    _, data, frames = bundle_of({"a.bin": os.urandom(2 * FRAME_BYTES)})
    start = frames[2].offset
    assert data[start + 4] == 0b10100100, "its size has four bytes, the lowest of which is 0"
    stored = BundleFile(range_read(data[: start + 4] + b"\x24" + data[start + 5 :]), Index(frames, {}))
    with pytest.raises(FormatError, match=r"frame 3 starts at byte \d+, and should at"):
        stored.verify()


def test_no_flipped_bit_in_a_stored_bundle_goes_unseen() -> None:
    files = {"etl.py": b"import shop\n", "shop.py": bytes(range(256)), "zz.bin": os.urandom(FRAME_BYTES)}
    manifest, data, frames = bundle_of(files)
    small = [*range(300), *range(300, len(data), 20_011), *range(frames[1].offset - 5, frames[1].offset + 20)]
    for place in small:
        flipped = data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]
        try:
            stored = BundleFile(range_read(flipped), Index(frames, {}))
            stored.verify()
        except FormatError:
            continue
        # A bit of the format that means nothing.
        assert {path: stored.read(path) for path in files} == files
        assert stored.manifest.digest == manifest.digest
