"""Writing a bundle: frames of exactly 1 MiB, whatever the pieces of its files, and nothing left behind by an error."""

import hashlib
import io
import itertools
import random
import threading

import pytest
import zstandard

from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.bundle.reader import FRAME_BYTES
from dagferry_core.bundle.writer import write_bundle

CONTENT = random.Random(3).randbytes(3 * FRAME_BYTES + 17)
FILES = {"a.bin": CONTENT, "b.py": b"", "c.bin": CONTENT[:FRAME_BYTES], "d.py": b"pass\n" * 1000}
MANIFEST = Manifest(Entry(path, len(data), 0o644, hashlib.sha256(data).hexdigest()) for path, data in FILES.items())


def written(piece_bytes: int) -> tuple[bytes, list[int]]:
    def pieces(entry: Entry) -> list[bytes]:
        data = FILES[entry.path]
        return [data[at : at + piece_bytes] for at in range(0, len(data), piece_bytes)]

    out = io.BytesIO()
    frames = write_bundle(MANIFEST, pieces, out)
    return out.getvalue(), frames


def test_every_frame_but_the_last_has_one_mebibyte() -> None:
    data, frames = written(100_000)
    sizes = [len(zstandard.decompress(data[start:end])) for start, end in itertools.pairwise(frames)]
    assert (frames[0], frames[-1]) == (0, len(data))
    assert set(sizes[:-1]) == {FRAME_BYTES}
    assert 0 < sizes[-1] <= FRAME_BYTES


@pytest.mark.parametrize("piece_bytes", [4099, FRAME_BYTES - 512, FRAME_BYTES, 3 * FRAME_BYTES, 1 << 30])
def test_the_pieces_of_the_files_do_not_show(piece_bytes) -> None:
    assert written(piece_bytes) == written(100_000)


def test_an_error_while_reading_or_writing_comes_out_and_ends_the_threads() -> None:
    class Full(io.BytesIO):
        def write(self, _) -> int:
            raise OSError("full")

    def unreadable(entry: Entry) -> list[bytes]:
        raise OSError("unreadable")

    threads = threading.active_count()
    with pytest.raises(OSError, match="full"):
        write_bundle(MANIFEST, lambda entry: [FILES[entry.path]], Full())
    with pytest.raises(OSError, match="unreadable"):
        write_bundle(MANIFEST, unreadable, io.BytesIO())
    assert threading.active_count() == threads
