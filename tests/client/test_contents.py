"""A download is read strictly; what is not exactly an archive of files is refused."""

import gzip
import hashlib
import io
import tarfile
import zlib

import pytest

from dagferry_client.contents import check_digest, read_download
from dagferry_client.errors import DownloadDamaged
from dagferry_core.bundle.manifest import Entry, Manifest
from harness import pack

FILES = {"a.py": b"a\n" * 200_000, "sql/b.sql": b"", "run.sh": b"#!\n"}
ARCHIVE = pack(FILES)


def pieces(data: bytes, size: int = 1000):
    for start in range(0, len(data), size):
        yield data[start : start + size]


def read(data: bytes, size: int = 1000) -> tuple[dict[str, bytes], Manifest]:
    found: dict[str, bytes] = {}
    manifest = read_download(pieces(data, size), lambda entry, content: found.update({entry.path: b"".join(content)}))
    return found, manifest


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_files_come_whole_however_the_pieces_are_cut(size) -> None:
    found, manifest = read(ARCHIVE, size)
    assert found == FILES
    assert (
        manifest.digest
        == Manifest(
            Entry(path, len(content), 0o644, hashlib.sha256(content).hexdigest()) for path, content in FILES.items()
        ).digest
    )


def test_files_are_proven_also_if_nobody_reads_them() -> None:
    assert read_download(pieces(ARCHIVE), lambda _entry, _content: None).digest == read(ARCHIVE)[1].digest


def test_an_executable_file_stays_one() -> None:
    assert read(packed(("dags/run.sh", {"mode": 0o755})))[1].files["run.sh"].mode == 0o755


def test_another_digest_is_refused() -> None:
    manifest = read(ARCHIVE)[1]
    check_digest("V", manifest, manifest.digest)
    with pytest.raises(DownloadDamaged, match="V has the digest"):
        check_digest("V", manifest, f"sha256:{'0' * 64}")


@pytest.mark.parametrize("size", [0, 1, 9, 100, len(ARCHIVE) // 2, len(ARCHIVE) - 9, len(ARCHIVE) - 1])
def test_a_part_of_a_download_is_refused(size) -> None:
    with pytest.raises(DownloadDamaged, match="ends too early"):
        read(ARCHIVE[:size])


def packed(*found: tuple[str, dict[str, object]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, fields in found:
            member = tarfile.TarInfo(name)
            for field, value in fields.items():
                setattr(member, field, value)
            archive.addfile(member, io.BytesIO(b"\0" * member.size))
    return gzip.compress(out.getvalue())


@pytest.mark.parametrize(
    "data",
    [
        b"nothing of the kind",
        ARCHIVE + b"x",
        ARCHIVE + ARCHIVE,
        gzip.compress(b"no tar"),
        gzip.compress(gzip.decompress(ARCHIVE) + b"x" * 512),
        ARCHIVE[:-8] + bytes(8),
        packed(("etc/passwd", {})),
        packed(("dags", {})),
        packed(("dags/../../x", {})),
        packed(("/dags/x", {})),
        packed(("dags/a", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"})),
        packed(("dags/a", {"type": tarfile.LNKTYPE, "linkname": "dags/b"})),
        packed(("dags/a", {"type": tarfile.DIRTYPE})),
        packed(("dags/a", {"type": tarfile.CHRTYPE})),
        packed(("dags/a", {}), ("dags/a", {})),
        zlib.compress(gzip.decompress(ARCHIVE)),
    ],
    ids=range(16),  # gzip stores the time, so the bytes differ from process to process
)
def test_what_is_not_exactly_an_archive_of_files_is_refused(data) -> None:
    with pytest.raises(DownloadDamaged):
        read(data)


def test_what_expands_without_end_is_refused(monkeypatch) -> None:
    from dagferry_client import contents

    monkeypatch.setattr(contents, "MOST_EXPANDED_BYTES", 1 << 20)
    with pytest.raises(DownloadDamaged, match="expands to more"):
        read(packed(("dags/a", {"size": 4 << 20})))
