"""A manifest in the cache is the one that was put there, or it is not there."""

import os
from pathlib import Path

import pytest
import zstandard

import treemaker
from dagferry_client.local import manifest_cache
from dagferry_client.local.manifest_cache import ManifestCache

MANIFEST = treemaker.manifest_of({"a.py": b"a", "b.py": b"b"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "manifests"


def test_what_is_saved_is_loaded_under_its_digest(folder: Path) -> None:
    cache = ManifestCache(str(folder))
    assert cache.load(MANIFEST.digest) is None
    cache.save(MANIFEST)
    found = ManifestCache(str(folder)).load(MANIFEST.digest)
    assert found is not None
    assert (found.digest, found.files) == (MANIFEST.digest, MANIFEST.files)


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../../etc/passwd", "sha256:" + "A" * 64, "\0"])
def test_what_is_no_digest_is_not_there(folder: Path, digest: str) -> None:
    assert ManifestCache(str(folder)).load(digest) is None


OTHER = zstandard.compress(treemaker.manifest_of({"a.py": b"x"}).text)
GOOD = zstandard.compress(MANIFEST.text)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        GOOD[:-1],
        GOOD[:20] + bytes([GOOD[20] ^ 1]) + GOOD[21:],
        OTHER,
        zstandard.compress(b"no manifest"),
        zstandard.ZstdCompressor(write_content_size=False).compress(MANIFEST.text),
    ],
)
def test_a_damaged_or_replaced_one_is_not_there(folder: Path, data: bytes) -> None:
    cache = ManifestCache(str(folder))
    cache.save(MANIFEST)
    [path] = folder.iterdir()
    path.write_bytes(data)
    assert cache.load(MANIFEST.digest) is None


def test_one_that_claims_to_be_huge_takes_no_memory(folder: Path, monkeypatch) -> None:
    cache = ManifestCache(str(folder))
    cache.save(MANIFEST)
    monkeypatch.setattr(manifest_cache, "MAX_MANIFEST_BYTES", len(MANIFEST.text) - 1)
    assert cache.load(MANIFEST.digest) is None


def test_the_number_is_limited_and_what_was_used_last_stays(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(manifest_cache, "MAX_MANIFESTS", 3)
    cache = ManifestCache(str(folder))
    made = [treemaker.manifest_of({f"{number}.py": b""}) for number in range(4)]
    for number, manifest in enumerate(made[:3]):
        cache.save(manifest)
        for path in folder.iterdir():
            if path.name.startswith(manifest.digest.removeprefix("sha256:")):
                os.utime(path, (number, number))
    assert cache.load(made[0].digest)
    cache.save(made[3])
    assert [bool(cache.load(manifest.digest)) for manifest in made] == [True, False, True, True]


def test_a_folder_that_cannot_be_used_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = ManifestCache(str(tmp_path / "file"))
    cache.save(MANIFEST)
    assert cache.load(MANIFEST.digest) is None
