"""Bundles as they lie in the store."""

import errno
import io
import os

import pytest
import zstandard

from dagferry_core.archive.check import ArchiveRules, check_archive
from dagferry_core.bundle.manifest import EMPTY
from dagferry_core.bundle.reader import Index
from dagferry_core.source.scan import ANYTHING
from dagferry_server.deploys import bundles
from dagferry_server.deploys.bundles import known_sources, open_bundle, put_bundle
from dagferry_server.errors import BundleGone, StoreAway, StoreDamaged
from dagferry_server.store.local import LocalStore
from harness import pack

FILES = {"a.py": b"import b\n", "b.py": b"x = 1\n", "c.txt": b"import no\n", "empty.py": b""}


@pytest.fixture
def store(tmp_path) -> LocalStore:
    store = LocalStore(str(tmp_path))
    store.prepare("prod")
    return store


def put(store: LocalStore, tmp_path, files: dict[str, bytes], known=()) -> str:
    with open(tmp_path / "spool", "w+b") as spool:
        checked = check_archive(io.BytesIO(pack(files)), spool, ArchiveRules())
        put_bundle(store, "prod", checked, spool, dict(known))
    return checked.manifest.digest


def test_what_was_put_is_read_again(store, tmp_path) -> None:
    files = {**FILES, "big.bin": bytes(range(256)) * 3000}
    digest = put(store, tmp_path, files)
    with open_bundle(store, "prod", digest) as bundle:
        assert bundle.manifest.digest == digest
        assert {path: bundle.read(path) for path in bundle.manifest.files} == files


def test_the_index_has_what_each_source_imports(store, tmp_path) -> None:
    digest = put(store, tmp_path, FILES)
    with open_bundle(store, "prod", digest) as bundle:
        assert bundle.imports == {"a.py": ("b",), "b.py": (), "empty.py": ()}
        assert set(known_sources(bundle, bundle.manifest).values()) == {(("b",), ()), ((), ())}
    assert known_sources(None, EMPTY) == {}


def test_and_hints_to_what_it_reads(store, tmp_path) -> None:
    digest = put(store, tmp_path, {"a.py": b"open('sql/a.sql')\n", "b.py": b"os.walk(x)\n"})
    with open_bundle(store, "prod", digest) as bundle:
        assert bundle.reads == {"a.py": ("sql/a.sql",), "b.py": ("./",)}
        bundle.reads = None  # as of a bundle that was stored before hints were looked for
        assert known_sources(bundle, bundle.manifest) == {}


def test_a_source_that_is_too_large_to_look_into_counts_as_importing_everything(store, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(bundles, "MAX_SOURCE_BYTES", 8)
    digest = put(store, tmp_path, FILES)
    with open_bundle(store, "prod", digest) as bundle:
        assert bundle.imports["a.py"] == bundle.reads["a.py"] == (ANYTHING,)
        assert bundle.imports["b.py"] == bundle.reads["b.py"] == ()


def test_sources_beyond_what_all_names_may_come_to_count_as_importing_everything(store, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(bundles, "MAX_IMPORTS_BYTES", 3)
    digest = put(store, tmp_path, {"a.py": b"import long_name\n", "b.py": b"import c\n"})
    with open_bundle(store, "prod", digest) as bundle:
        assert bundle.imports == {"a.py": ("long_name",), "b.py": (ANYTHING,)}


def test_many_short_names_are_counted_as_what_they_take(store, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(bundles, "MAX_IMPORTS_BYTES", 1000)
    digest = put(store, tmp_path, {"a.py": b"import " + b",".join(b"n%d" % n for n in range(20)), "b.py": b"import c"})
    with open_bundle(store, "prod", digest) as bundle:
        assert bundle.imports["b.py"] == (ANYTHING,)


def test_what_is_known_of_a_content_is_not_looked_for_again(store, tmp_path, monkeypatch) -> None:
    digest = put(store, tmp_path, FILES)
    with open_bundle(store, "prod", digest) as bundle:
        known = known_sources(bundle, bundle.manifest)

    def never(source: bytes) -> None:
        raise AssertionError(source)

    monkeypatch.setattr(bundles, "imported_names", never)
    again = put(store, tmp_path, {"renamed.py": FILES["a.py"], "also.py": FILES["b.py"]}, known)
    with open_bundle(store, "prod", again) as bundle:
        assert bundle.imports == {"renamed.py": ("b",), "also.py": ()}
        assert bundle.reads == {"renamed.py": (), "also.py": ()}


@pytest.mark.parametrize(
    "content", [b"", b"x" * 600, b"manifest.txt".ljust(124, b"\0") + b"00000000007\0" + b"x" * 900]
)
def test_a_bundle_of_another_content_is_an_error_of_the_store(store, tmp_path, content) -> None:
    digest = put(store, tmp_path, FILES)
    frame = zstandard.compress(content)
    store.put_bundle("prod", digest, lambda out: Index([0, out.write(frame)], {}).encode())
    with pytest.raises(StoreDamaged), open_bundle(store, "prod", digest):
        pass


def test_a_disk_that_fails_while_a_bundle_is_read_is_an_error_of_the_store(store, tmp_path, monkeypatch) -> None:
    def fail(*arguments: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    digest = put(store, tmp_path, FILES)
    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(StoreAway, match="Input/output error"), open_bundle(store, "prod", digest):
        pass


def test_a_bundle_that_is_gone_or_damaged_is_an_error_of_the_store(store, tmp_path) -> None:
    digest = put(store, tmp_path, FILES)
    (path,) = (tmp_path / "prod" / "bundles").glob("*.index")
    path.write_bytes(b"not an index")
    with pytest.raises(StoreDamaged), open_bundle(store, "prod", digest):
        pass
    store.delete_bundle("prod", digest)
    with pytest.raises(BundleGone), open_bundle(store, "prod", digest):
        pass
