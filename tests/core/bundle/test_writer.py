"""Writing a bundle: frames at borders of files, those of another bundle copied, and nothing left behind by an error."""

import io
import itertools
import random
import threading

import pytest
import zstandard

from dagferry_core.bundle import writer
from dagferry_core.bundle.layout import cut, member_bytes
from dagferry_core.bundle.manifest import Entry
from dagferry_core.bundle.reader import END, FRAME_BYTES, BundleFile, Index
from dagferry_core.bundle.writer import write_bundle
from dagferry_core.errors import FormatError, Truncated
from treemaker import manifest_of, range_read

NOISE = random.Random(3)
CONTENT = NOISE.randbytes(3 * FRAME_BYTES + 17)
FILES = {"a.bin": CONTENT, "b.py": b"", "c.bin": CONTENT[:FRAME_BYTES], "d.py": b"pass\n" * 1000}
FILES |= {f"e/{'long_' * 25}{number:03}.py": NOISE.randbytes(30_000) for number in range(100)}
MANIFEST = manifest_of(FILES)
CHANGED = {**FILES, "d.py": b"pass\n" * 999 + b"fail\n", "e/new.py": b"x = 1\n"}
CHANGED.pop("b.py")


def written(files=FILES, stored_frame=lambda _: None, open_content=None):
    out = io.BytesIO()
    content = open_content or (lambda entry: range_read(files[entry.path]))
    frames = write_bundle(manifest_of(files), content, out, stored_frame)
    return out.getvalue(), frames


def bundle(data, frames) -> BundleFile:
    return BundleFile(range_read(data), Index(frames, {}))


def parts(data, frames):
    return [data[start.offset : end.offset] for start, end in itertools.pairwise(frames)]


@pytest.fixture
def compressed(monkeypatch):
    """Collect what is compressed and not copied."""
    found = []
    real = zstandard.ZstdCompressor

    class Compressor:  # no subclass: those of zstandard's C types crash
        def __init__(self, **options: object) -> None:
            self._real = real(**options)

        def compress(self, content: memoryview) -> bytes:
            found.append(bytes(content))
            return self._real.compress(content)

    monkeypatch.setattr(writer.zstandard, "ZstdCompressor", Compressor)
    return found


def test_the_frames_are_the_manifest_then_the_files_as_they_are_laid_out_then_the_end() -> None:
    data, frames = written()
    held = [zstandard.decompress(part) for part in parts(data, frames)]
    assert [frame.start for frame in frames] == [0, *itertools.accumulate(map(len, held))]
    assert (frames[0].offset, frames[-1].offset) == (0, len(data))
    expected = [sum(part.size for part in frame) for frame in cut(MANIFEST.files.values())]
    assert list(map(len, held[1:-1])) == expected
    assert held[0].startswith(b"manifest.txt\0")
    assert held[-1] == END
    assert bundle(data, frames).read("a.bin") == CONTENT


def test_a_manifest_over_one_mebibyte_has_several_frames() -> None:
    files = {f"{'n' * 190}/{number:05}.py": b"" for number in range(5000)}
    data, frames = written(files)
    held = [zstandard.decompress(part) for part in parts(data, frames)]
    assert len(held[0]) == FRAME_BYTES
    assert (len(held[0]) + len(held[1])) % 512 == 0
    bundle(data, frames).verify()
    assert bundle(data, frames).manifest.text == manifest_of(files).text


@pytest.mark.parametrize("piece_bytes", [4099, FRAME_BYTES - 512])
def test_the_pieces_in_which_files_are_read_do_not_show(piece_bytes) -> None:
    def short(entry: Entry):
        return lambda offset, size: FILES[entry.path][offset : offset + min(size, piece_bytes)]

    assert written(open_content=short) == written()


def test_each_file_is_opened_once_in_order() -> None:
    opened = []
    written(open_content=lambda entry: opened.append(entry.path) or range_read(FILES[entry.path]))
    assert opened == list(MANIFEST.files)


def test_a_file_that_ends_early_makes_no_bundle() -> None:
    with pytest.raises(Truncated, match=r"'a\.bin' ends early"):
        written(open_content=lambda entry: range_read(FILES[entry.path][:5000]))


def test_frames_of_another_bundle_are_copied(compressed) -> None:
    old = bundle(*written())
    plain = written(CHANGED)
    compressed.clear()
    assert written(CHANGED, old.stored_frame) == plain
    new = manifest_of(CHANGED)
    assert compressed[0].startswith(b"manifest.txt\0")
    assert sum(map(len, compressed)) < sum(map(member_bytes, new.files.values())) / 2
    assert any(b"fail\n" in content for content in compressed)


def test_of_a_bundle_of_the_same_files_all_frames_are_copied_but_those_of_the_manifest_and_the_end(compressed) -> None:
    data, frames = written()
    compressed.clear()
    assert written(FILES, bundle(data, frames).stored_frame) == (data, frames)
    assert [content[:12] for content in compressed] == [b"manifest.txt", bytes(12)]


def test_a_frame_that_is_not_what_was_written_is_not_copied() -> None:
    data, frames = written()
    old = bundle(data, frames)
    for damage in (lambda frame: frame[:-1], lambda frame: frame + b"x", lambda frame: b"x" + frame[1:], lambda _: b""):
        asked = []

        def damaged(parts, damage=damage, asked=asked):
            asked.append(parts)
            frame, sha256 = old.stored_frame(parts)
            return damage(frame), sha256

        assert written(FILES, damaged) == (data, frames)
        assert len(asked) == len(frames) - 3


def test_a_frame_of_an_older_server_whose_hash_is_not_known_is_not_copied(compressed) -> None:
    data, frames = written()
    compressed.clear()
    old = bundle(data, [frame._replace(sha256="") for frame in frames])
    assert written(FILES, old.stored_frame) == (data, frames)
    assert len(compressed) == len(frames) - 1


@pytest.mark.parametrize("path", ["a.bin", "c.bin", "d.py"])
def test_a_content_that_is_not_the_one_of_the_manifest_makes_no_bundle(path) -> None:
    """Else it would be copied from bundle to bundle."""
    wrong = {**FILES, path: FILES[path][:-1] + b"!"}

    def open_content(entry: Entry):
        return range_read(wrong[entry.path])

    with pytest.raises(FormatError, match=f"content of '{path}' is not the one"):
        written(open_content=open_content)


def test_a_large_file_is_proven_also_if_only_its_end_is_compressed() -> None:
    data, frames = written()
    old = bundle(data, frames)

    def all_but_the_end(parts):
        return None if parts[0].start == 3 * FRAME_BYTES else old.stored_frame(parts)

    assert written(FILES, all_but_the_end) == (data, frames)
    wrong = {**FILES, "a.bin": b"!" + CONTENT[1:]}
    with pytest.raises(FormatError, match=r"content of 'a\.bin' is not the one"):
        written(FILES, all_but_the_end, lambda entry: range_read(wrong[entry.path]))


def test_an_error_while_reading_or_writing_comes_out_and_ends_the_threads() -> None:
    class Full(io.BytesIO):
        def write(self, _) -> int:
            raise OSError("full")

    def unreadable(*_: object) -> bytes:
        raise OSError("unreadable")

    threads = threading.active_count()
    with pytest.raises(OSError, match="full"):
        write_bundle(MANIFEST, lambda entry: range_read(FILES[entry.path]), Full())
    with pytest.raises(OSError, match="unreadable"):
        written(open_content=unreadable)
    with pytest.raises(OSError, match="unreadable"):
        written(stored_frame=unreadable)
    assert threading.active_count() <= threads
