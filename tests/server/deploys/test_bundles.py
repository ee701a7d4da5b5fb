"""Bundles as they lie in the store."""

import errno
import io
import itertools
import os
import random

import pytest
import zstandard

import goldens
from dagferry_core.archive.check import ArchiveRules, check_archive
from dagferry_core.bundle.frames import FRAME_BYTES, Frame
from dagferry_core.bundle.manifest import EMPTY
from dagferry_core.bundle.reader import BundleFile, Index
from dagferry_core.source.scan import ANYTHING
from dagferry_server.deploys import bundles
from dagferry_server.deploys.bundles import ids_by_path, known_sources, open_bundle, put_bundle, tree_of
from dagferry_server.deploys.contents import Head, UploadedContent
from dagferry_server.errors import BundleGone, StoreAway, StoreDamaged
from dagferry_server.store.local import LocalStore
from harness import pack

FILES = {"a.py": b"import b\n", "b.py": b"x = 1\n", "c.txt": b"import no\n", "empty.py": b""}


@pytest.fixture
def store(tmp_path) -> LocalStore:
    store = LocalStore(str(tmp_path))
    store.prepare("prod")
    return store


HEAD = Head("prod", None, is_newest=True, highest=0, sha256="")


def put(store: LocalStore, tmp_path, files: dict[str, bytes], current: BundleFile | None = None) -> str:
    with open(tmp_path / "spool", "w+b") as spool:
        checked = check_archive(io.BytesIO(pack(files)), spool, ArchiveRules())
        with UploadedContent(checked, spool).tree(HEAD) as tree:
            put_bundle(store, "prod", tree, current)
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
        assert set(known_sources([bundle], bundle.manifest).values()) == {(("b",), (), ()), ((), (), ())}
        assert known_sources([bundle], EMPTY) == {}
    assert known_sources([], EMPTY) == {}


def test_and_hints_to_what_it_reads(store, tmp_path) -> None:
    digest = put(store, tmp_path, {"a.py": b"open('sql/a.sql')\n", "b.py": b"os.walk(x)\n"})
    with open_bundle(store, "prod", digest) as bundle:
        assert bundle.reads == {"a.py": ("sql/a.sql",), "b.py": ("./",)}
        bundle.reads = None  # as of a bundle that was stored before hints were looked for
        assert known_sources([bundle], bundle.manifest) == {}


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

    def never(source: bytes) -> None:
        raise AssertionError(source)

    monkeypatch.setattr(bundles, "imported_names", never)
    with open_bundle(store, "prod", digest) as bundle:
        again = put(store, tmp_path, {"renamed.py": FILES["a.py"], "also.py": FILES["b.py"]}, bundle)
    with open_bundle(store, "prod", again) as bundle:
        assert bundle.imports == {"renamed.py": ("b",), "also.py": ()}
        assert bundle.reads == {"renamed.py": (), "also.py": ()}


@pytest.mark.parametrize(
    "content", [b"", b"x" * 600, b"manifest.txt".ljust(124, b"\0") + b"00000000007\0" + b"x" * 900]
)
def test_a_bundle_of_another_content_is_an_error_of_the_store(store, tmp_path, content) -> None:
    digest = put(store, tmp_path, FILES)
    frame = zstandard.compress(content)
    store.put_bundle(
        "prod", digest, lambda out: Index([Frame(0, 0), Frame(out.write(frame), FRAME_BYTES)], {}).encode()
    )
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


# --- frames of the bundle before -------------------------------------------------------------------------------------

NOISE = random.Random(26)
MANY = {f"team/{number:03}.txt": NOISE.randbytes(30_000) for number in range(100)}
CHANGED = {**MANY, "team/050.txt": b"changed\n"}


def frames_of(store: LocalStore, digest: str) -> list[bytes]:
    with store.open_bundle("prod", digest) as source:
        starts = Index.decode(source.encoded_index).frames
        return [source.read(start.offset, end.offset - start.offset) for start, end in itertools.pairwise(starts)]


def put_after(store: LocalStore, tmp_path, current: str, files: dict[str, bytes]) -> str:
    with open_bundle(store, "prod", current) as bundle:
        return put(store, tmp_path, files, current=bundle)


def test_frames_that_the_current_bundle_has_too_are_copied_from_it(store, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("dagferry_core.bundle.writer.LEVEL", 19)  # which shows what was copied
    first = put(store, tmp_path, MANY)
    monkeypatch.undo()
    second = put_after(store, tmp_path, first, CHANGED)
    common = set(frames_of(store, first)) & set(frames_of(store, second))
    assert len(frames_of(store, second)) - 3 <= len(common) < len(frames_of(store, second))
    with open_bundle(store, "prod", second) as bundle:
        bundle.verify()
        assert {path: bundle.read(path) for path in bundle.manifest.files} == CHANGED


@pytest.mark.parametrize("damage", ["bits", "cut", "index"])
def test_damage_of_the_current_bundle_does_not_spread(store, tmp_path, damage) -> None:
    first = put(store, tmp_path, MANY)
    bundle, index = store._bundle("prod", first)
    with open_bundle(store, "prod", first) as current:
        with open(index if damage == "index" else bundle, "r+b") as file:
            data = bytearray(file.read())
            if damage == "cut":
                file.truncate(len(data) // 2)
            for place in range(5, len(data) if damage == "bits" else 0, 1000):
                data[place] ^= 4
            file.seek(0)
            file.write(data if damage == "bits" else b"")
        if damage == "index":
            starts = current._frames._offsets
            starts[:] = [starts[0], *reversed(starts[1:])]
        second = put(store, tmp_path, CHANGED, current=current)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    other = LocalStore(str(fresh))
    other.prepare("prod")
    assert put(other, tmp_path, CHANGED) == second
    assert frames_of(store, second) == frames_of(other, second)


def test_a_spool_that_is_not_what_was_checked_makes_no_bundle(store, tmp_path) -> None:
    with open(tmp_path / "spool", "w+b") as spool:
        checked = check_archive(io.BytesIO(pack(FILES)), spool, ArchiveRules())
        spool.seek(0)
        spool.write(b"!")
        with (
            UploadedContent(checked, spool).tree(HEAD) as tree,
            pytest.raises(StoreDamaged, match="The unpacked upload is damaged"),
        ):
            put_bundle(store, "prod", tree)
    assert store.bundles("prod") == {}


def test_a_current_bundle_that_cannot_be_read_now_hinders_nothing(store, tmp_path) -> None:
    first = put(store, tmp_path, MANY)
    with store.open_bundle("prod", first) as source:
        bundle = bundles.StoredBundleFile(source, "first", None, lambda: None)

        def away(offset: int, size: int) -> bytes:
            raise StoreAway("The disk is on fire.")

        bundle._frames._read = away
        second = put(store, tmp_path, CHANGED, current=bundle)
    with open_bundle(store, "prod", second) as stored:
        stored.verify()


def test_a_bundle_of_an_older_server_is_followed_by_one_of_ours(store, tmp_path) -> None:
    older = goldens.GOLDEN / "format2"
    digest = goldens.of_deploys(older, "current")[0].body["digest"]
    path = older / "data" / "prod" / "bundles" / digest.removeprefix("sha256:")
    bundle, index = (path.with_suffix(suffix).read_bytes() for suffix in (".tar.zst", ".index"))
    store.put_bundle("prod", digest, lambda out: index if out.write(bundle) else b"")
    with open_bundle(store, "prod", digest) as current:
        files = {path: current.read(path) for path in current.manifest.files}
        digest = put(store, tmp_path, {**files, "more.py": b"x = 1\n"}, current=current)
    with open_bundle(store, "prod", digest) as stored:
        stored.verify()
        assert stored.read("data/many.csv") == files["data/many.csv"]


def test_the_index_has_the_dag_ids_of_the_files_that_have_some(store, tmp_path, monkeypatch) -> None:
    files = {"a.py": b"DAG('x')\n", "b.py": b"", "c.txt": b"DAG('y')\n"}
    digest = put(store, tmp_path, files)
    with open_bundle(store, "prod", digest) as bundle:
        assert bundle.dags == {"a.py": ("x",)}
        monkeypatch.setattr(bundles, "dag_ids", lambda source: pytest.fail(f"read again: {source}"))
        again = put(store, tmp_path, {"renamed.py": files["a.py"], "b.py": b""}, bundle)
    with open_bundle(store, "prod", again) as bundle:
        assert bundle.dags == {"renamed.py": ("x",)}
        bundle.dags = None  # as of a bundle that was stored before ids were looked for
        assert known_sources([bundle], bundle.manifest) == {}


def test_dag_ids_of_a_tree_are_found_also_where_none_were_looked_for(store, tmp_path, monkeypatch) -> None:
    files = {"a.py": b"DAG('x')\n", "b.py": b"", "c.txt": b"DAG('y')\n", "large.py": b"DAG('large')\n" * 3}
    digest = put(store, tmp_path, files)
    monkeypatch.setattr(bundles, "MAX_SOURCE_BYTES", 20)
    with open_bundle(store, "prod", digest) as bundle:
        for known in ([bundle], []):
            assert ids_by_path(tree_of(bundle, "It"), known) == {"a.py": ("x",)}
