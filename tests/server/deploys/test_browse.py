"""Reading stored bundles for people, with little memory."""

import json
import random
import tracemalloc

import pytest

from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.bundle.reader import FRAME_BYTES, Index
from dagferry_core.bundle.writer import write_bundle
from dagferry_server.deploys import browse
from dagferry_server.errors import BundleGone, StoreDamaged
from dagferry_server.store.local import LocalStore
from treemaker import manifest_of, range_read

MANY = 30_000
LONG = "n" * 150


@pytest.fixture
def store(tmp_path) -> LocalStore:
    store = LocalStore(str(tmp_path))
    store.prepare("prod")
    return store


def put(store: LocalStore, files: dict[str, bytes], modes: dict[str, int] | None = None) -> Manifest:
    manifest = manifest_of(files, modes)

    def write(out) -> bytes:
        frames = write_bundle(manifest, lambda entry: range_read(files[entry.path]), out)
        names = {path: ("airflow", "datetime", path) for path in files if path.endswith(".py")}
        return Index(frames, names, names).encode()

    store.put_bundle("prod", manifest.digest, write)
    return manifest


def many(**more: bytes) -> dict[str, bytes]:
    return {f"{LONG}/{number:05}.py": b"%d\n" % number for number in range(MANY)} | more


def test_the_list_is_the_manifest(store) -> None:
    manifest = put(store, {"b": b"2", "a/\N{GRINNING FACE}": b"", "a.py": b"1"}, {"b": 0o755})
    listed = json.loads(b"".join(browse.listing(store, "prod", manifest.digest)))
    assert [Entry(**each) for each in listed] == list(manifest.files.values())
    empty = put(store, {})
    assert b"".join(browse.listing(store, "prod", empty.digest)) == b"[]"


def test_neither_the_manifest_nor_the_index_is_held(store) -> None:
    manifest = put(store, many())
    assert len(manifest.text) > 6 * FRAME_BYTES
    new = put(store, many(zzz=b"new"))

    def read_all() -> None:
        for _ in browse.listing(store, "prod", manifest.digest):
            pass
        place = browse.find(store, "prod", new.digest, "zzz")
        assert place
        assert b"".join(browse.content(store, "prod", new.digest, place)) == b"new"
        assert len(browse.differences(store, "prod", manifest.digest, new.digest).added) == 1

    tracemalloc.start()
    try:
        read_all()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 * FRAME_BYTES


def test_a_large_file_is_read_in_pieces(store) -> None:
    noise = random.Random(1).randbytes(3 * FRAME_BYTES + 7)
    manifest = put(store, {"a": b"1", "noise": noise, "z": b"2"})
    place = browse.find(store, "prod", manifest.digest, "noise")
    assert place
    pieces = list(browse.content(store, "prod", manifest.digest, place))
    assert b"".join(pieces) == noise
    assert max(map(len, pieces)) <= FRAME_BYTES


@pytest.mark.parametrize("path", ["", "a", "a/", "a/b/c", "c", "\N{GRINNING FACE}"])
def test_a_file_that_is_not_there_is_not_found(store, path) -> None:
    assert browse.find(store, "prod", put(store, {"a/b": b"", "b": b""}).digest, path) is None


def random_tree(chance: random.Random) -> tuple[dict[str, bytes], dict[str, int]]:
    paths = [path for path in ("a", "a.b", "a/b", "b", "B", "é", "z", "\uffff", "\U0001f600") if chance.random() < 0.6]
    if "a" in paths and "a/b" in paths:
        paths.remove("a")
    return {path: chance.choice([b"", b"1", b"2"]) for path in paths}, {
        path: chance.choice([420, 493]) for path in paths
    }


@pytest.mark.parametrize("seed", range(40))
def test_differences_are_those_of_the_manifests(store, seed) -> None:
    chance = random.Random(seed)
    old, new = put(store, *random_tree(chance)), put(store, *random_tree(chance))
    found = browse.differences(store, "prod", old.digest, new.digest)
    changes = new.changes_from(old)
    assert found.added == [new.files[path] for path in changes.added]
    assert found.changed == [(old.files[path], new.files[path]) for path in changes.changed]
    assert found.removed == [old.files[path] for path in changes.removed]
    assert not found.cut


def test_before_the_first_deploy_there_is_nothing(store) -> None:
    manifest = put(store, {"a": b"1"})
    assert browse.differences(store, "prod", None, manifest.digest).added == list(manifest.files.values())


def test_each_list_is_cut_at_the_limit(store, monkeypatch) -> None:
    monkeypatch.setattr(browse, "MAX_DIFF_FILES", 2)
    empty, two, three = (put(store, dict.fromkeys("abc"[:size], b"")) for size in (0, 2, 3))
    other = put(store, dict.fromkeys("abc", b"x"))
    for old, new, kind in ((empty, three, "added"), (three, empty, "removed"), (three, other, "changed")):
        found = browse.differences(store, "prod", old.digest, new.digest)
        assert (len(getattr(found, kind)), found.cut) == (2, True)
    assert not browse.differences(store, "prod", empty.digest, two.digest).cut


def test_a_bundle_that_is_gone_or_damaged_says_so(store, tmp_path) -> None:
    manifest = put(store, {"a": b"1"})
    place = browse.find(store, "prod", manifest.digest, "a")
    assert place
    reads = [
        lambda: list(browse.listing(store, "prod", manifest.digest)),
        lambda: browse.find(store, "prod", manifest.digest, "a"),
        lambda: list(browse.content(store, "prod", manifest.digest, place)),
        lambda: browse.differences(store, "prod", None, manifest.digest),
        lambda: browse.differences(store, "prod", manifest.digest, put(store, {}).digest),
    ]
    (bundle,) = (tmp_path / "prod" / "bundles").glob("*.tar.zst")
    whole = bundle.read_bytes()
    bundle.write_bytes(bytes(len(whole)))
    for read in reads:
        with pytest.raises(StoreDamaged):
            read()
    store.delete_bundle("prod", manifest.digest)
    for read in reads:
        with pytest.raises(BundleGone):
            read()
