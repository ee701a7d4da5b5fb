"""The contents that a commit can make current, and the trees they come to."""

import io
import os

import pytest

from dagferry_core.archive.check import ArchiveRules, check_archive
from dagferry_core.deploylog import Deploy
from dagferry_server.deploys.bundles import open_bundle, put_bundle
from dagferry_server.deploys.contents import Head, StoredContent, StoredPart, UploadedContent
from dagferry_server.deploys.deployment import Deployment, read_log
from dagferry_server.deploys.deployments_file import common_settings
from dagferry_server.deploys.tree import Tree
from dagferry_server.errors import BundleGone, StoreAway, StoreDamaged
from dagferry_server.settings import read_settings
from dagferry_server.store.local import LocalStore
from harness import pack
from treemaker import manifest_of

FILES = {"a.py": b"import b\n", "b.py": b"x = 1\n", "c.txt": b"", "big.bin": bytes(range(256)) * 9000}
HEAD = Head("prod", None, is_newest=True, highest=0, sha256="")


@pytest.fixture
def store(tmp_path) -> LocalStore:
    store = LocalStore(str(tmp_path))
    for name in ("prod", "staging"):
        store.prepare(name)
    return store


@pytest.fixture
def uploaded(tmp_path):
    with open(tmp_path / "spool", "w+b") as spool:
        yield UploadedContent(check_archive(io.BytesIO(pack(FILES)), spool, ArchiveRules()), spool)


def deployment(store: LocalStore, name: str) -> Deployment:
    settings = common_settings(read_settings(["--data-dir", "x"], {}, lambda: (None, None)))
    return Deployment(name, store, settings, read_log(store, name))


def deploy(digest: str) -> Deploy:
    return Deploy(1, "20261120T064501Z-000001", digest, "upload", "", "ann", 1, 1, 0, 0)


def contents(tree: Tree) -> dict[str, bytes]:
    found = {}
    for path, entry in tree.manifest.files.items():
        read = tree.open_content(entry)
        half = entry.size // 2
        found[path] = read(0, half) + read(half, entry.size - half)
        assert read(entry.size, 10) == b""
    return found


def test_an_upload_comes_to_its_files_whatever_it_follows(uploaded) -> None:
    with uploaded.tree(HEAD) as tree:
        assert contents(tree) == FILES
        assert (tree.bundles, tree.stored_in) == ((), "")
        assert uploaded.is_current(HEAD._replace(current=deploy(tree.manifest.digest)))
        assert not uploaded.is_current(HEAD._replace(current=deploy("sha256:" + "a" * 64)))
        assert not uploaded.is_current(HEAD)


def test_a_stored_bundle_comes_to_its_files_and_says_where_it_is(store, uploaded) -> None:
    with uploaded.tree(HEAD) as tree:
        put_bundle(store, "staging", tree)
    digest = tree.manifest.digest
    content = StoredContent(store, deployment(store, "staging"), deploy(digest), lambda: None)
    with content.tree(HEAD) as stored:
        assert contents(stored) == FILES
        assert stored.stored_in == "staging"
        put_bundle(store, "prod", stored)
    with open_bundle(store, "prod", digest) as copy, open_bundle(store, "staging", digest) as origin:
        assert (copy.imports, copy.reads) == (origin.imports, origin.reads)
        assert copy.imports == {"a.py": ("b",), "b.py": ()}
    assert content.is_current(HEAD._replace(current=deploy(digest)))
    assert not content.is_current(HEAD)


def test_a_bundle_that_is_gone_or_damaged_comes_to_no_tree(store, uploaded, tmp_path) -> None:
    with uploaded.tree(HEAD) as tree:
        put_bundle(store, "prod", tree)
    digest = tree.manifest.digest
    content = StoredContent(store, deployment(store, "prod"), deploy(digest), lambda: None)
    path = next(tmp_path.rglob("*.tar.zst"))
    with open(path, "r+b") as file:
        file.seek(-700, io.SEEK_END)
        file.write(bytes(50))
    with pytest.raises(StoreDamaged, match="000001 of prod cannot be deployed again"), content.tree(HEAD):
        raise AssertionError
    store.delete_bundle("prod", digest)
    with pytest.raises(BundleGone, match="000001 of prod was removed by retention"), content.tree(HEAD):
        raise AssertionError


def test_an_error_of_the_block_is_left_as_it_is(store, uploaded) -> None:
    with uploaded.tree(HEAD) as tree:
        put_bundle(store, "prod", tree)
    content = StoredContent(store, deployment(store, "prod"), deploy(tree.manifest.digest), lambda: None)
    with pytest.raises(StoreDamaged, match=r"^The log is full\.$"), content.tree(HEAD):
        raise StoreDamaged("The log is full.")


def test_a_part_of_a_stored_bundle_is_what_it_has_below_a_folder(store, tmp_path) -> None:
    files = {"team-a/a.py": b"1", "team-a/b/c.py": b"2", "team-ab/d.py": b"3", "e.py": b"4"}
    with open(tmp_path / "spool", "w+b") as spool:
        whole = UploadedContent(check_archive(io.BytesIO(pack(files)), spool, ArchiveRules()), spool)
        with whole.tree(HEAD) as tree:
            put_bundle(store, "prod", tree)
    part = StoredPart(store, deployment(store, "prod"), deploy(tree.manifest.digest), lambda: None, "team-a/")
    expected = {"a.py": b"1", "b/c.py": b"2"}
    assert part.digest() == manifest_of(expected).digest
    with part.tree(HEAD) as tree:
        assert contents(tree) == expected
        assert (len(tree.bundles), tree.stored_in) == (1, "")
    store.delete_bundle("prod", whole.digest())
    with pytest.raises(BundleGone, match="removed by retention"), part.tree(HEAD):
        raise AssertionError


def test_an_upload_that_cannot_be_read_any_more_is_an_error_of_the_store(uploaded, monkeypatch) -> None:
    def broken(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    with uploaded.tree(HEAD) as tree:
        monkeypatch.setattr(os, "pread", broken)
        with pytest.raises(StoreAway, match="Reading the unpacked upload failed: Input/output error"):
            contents(tree)
