"""Golden bundles, patches, manifests and log entries are read, and written alike: see tests/golden/README.md."""

import hashlib
import io
from pathlib import Path

import pytest

from dagferry_core.bundle.manifest import Manifest
from dagferry_core.bundle.patch import Patch
from dagferry_core.bundle.reader import BundleFile, Index, decompressed, read_tar
from dagferry_core.deploy_details import decode_details
from dagferry_core.deploylog import decode, entry_sha256
from goldens import (
    DEPLOYMENT,
    DEPLOYS,
    SHARED,
    WRITTEN,
    each_format,
    each_shared,
    exchange,
    frames_of,
    of_deploys,
    same_compressed,
    same_library,
)
from treemaker import Stored, range_read

PATCHES = [(1, 2), (2, 3), (3, 4)]


def manifest_text(golden: Path, number: int) -> bytes:
    return (golden / "manifests" / f"{number}.txt").read_bytes()


def whole(golden: Path, number: int) -> bytes:
    return exchange(golden, f"then-{number}-whole").body


def patch(golden: Path, number: int) -> bytes:
    return exchange(golden, f"then-{number}-patch").body


def content(golden: Path, number: int) -> tuple[Manifest, dict[str, bytes]]:
    manifest, files = read_tar(decompressed(io.BytesIO(whole(golden, number)).read))
    return manifest, {entry.path: b"".join(pieces) for entry, pieces in files}


def patched(body: bytes, manifest: Manifest, files: dict[str, bytes]) -> tuple[Manifest, dict[str, bytes]]:
    """Apply a patch as a follower does, to contents in memory."""
    patch = Patch.parse(body)
    new = patch.apply_to(manifest)
    by_hash = {hashlib.sha256(text).hexdigest(): text for text in files.values()}
    by_hash |= {entry.sha256: text for entry, text in patch.contents(manifest, files.__getitem__)}
    return new, {path: by_hash[entry.sha256] for path, entry in new.files.items()}


def stored(golden: Path, number: int) -> Stored:
    """Make the bundle anew with today's code."""
    manifest, files = content(golden, number)
    return Stored(files, {path: entry.mode for path, entry in manifest.files.items()})


def bundle_path(golden: Path, number: int, suffix: str) -> Path:
    digest = content(golden, number)[0].digest
    return golden / "data" / DEPLOYMENT / "bundles" / f"{digest.removeprefix('sha256:')}{suffix}"


def entries(golden: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((golden / "data" / DEPLOYMENT / "deploys").glob("*.json"))]


def details(golden: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((golden / "data" / DEPLOYMENT / "deploys").glob("*.details"))]


# --- what was written is read ----------------------------------------------------------------------------------------


@each_format
def test_a_manifest_is_read_and_has_the_announced_digest(golden) -> None:
    for number, current in zip(DEPLOYS, of_deploys(golden, "current"), strict=True):
        manifest = Manifest.parse(manifest_text(golden, number))
        assert manifest.digest == current.body["digest"]
        assert manifest.digest == "sha256:" + hashlib.sha256(manifest_text(golden, number)).hexdigest()
        assert len(manifest.files) >= 9


@each_format
def test_a_bundle_is_read_with_all_its_contents(golden) -> None:
    for number in DEPLOYS:
        manifest, files = content(golden, number)
        assert manifest.text == manifest_text(golden, number)
        assert list(files) == list(manifest.files)
        for path, entry in manifest.files.items():
            assert hashlib.sha256(files[path]).hexdigest() == entry.sha256


@each_format
def test_a_stored_bundle_is_read_by_its_index(golden) -> None:
    for number in DEPLOYS:
        index = Index.decode(bundle_path(golden, number, ".index").read_bytes())
        stored = bundle_path(golden, number, ".tar.zst").read_bytes()
        bundle = BundleFile(range_read(stored), index)
        bundle.verify()
        assert (bundle.manifest.text, bundle.stored_bytes) == (manifest_text(golden, number), len(stored))
        files = content(golden, number)[1]
        assert {path: bundle.read(path) for path in bundle.manifest.files} == files
        assert {path for path in files if path.endswith(".py")} == set(bundle.imports)
        assert "shop" in bundle.imports["etl.py"]


@each_format
@pytest.mark.parametrize(("old", "new"), PATCHES)
def test_a_patch_makes_the_new_bundle_of_the_old(golden, old, new) -> None:
    manifest, files = patched(patch(golden, new), *content(golden, old))
    assert manifest.text == manifest_text(golden, new)
    assert files == content(golden, new)[1]


@each_format
def test_the_patch_of_a_changed_module_touches_what_imports_it(golden) -> None:
    first, *_ = PATCHES
    assert "etl.py" in Patch.parse(patch(golden, first[1])).touch


@each_format
def test_entries_are_read_chained_and_name_their_details(golden) -> None:
    before = ""
    for number, data, beside, current in zip(
        DEPLOYS, entries(golden), details(golden), of_deploys(golden, "current"), strict=True
    ):
        deploy = decode(data, number)
        told = {name: value for name, value in current.body.items() if name not in {"log_id", "entry_sha256"}}
        assert {name: getattr(deploy, name) for name in told} == told
        assert current.body.get("entry_sha256", entry_sha256(data)) == entry_sha256(data)
        assert deploy.previous == before
        assert deploy.details == hashlib.sha256(beside).hexdigest()
        lists = decode_details(beside)
        assert (deploy.added, deploy.changed, deploy.removed) == tuple(
            map(len, (lists.added, lists.changed, lists.removed))
        )
        assert lists.excluded == ["dags/.git", "dags/__pycache__", "dags/team/.DS_Store"]
        before = entry_sha256(data)
    assert len(decode_details(details(golden)[-1]).warnings) == 1


@each_shared
def test_entries_with_all_that_one_can_have_are_read_and_chained(golden) -> None:
    folder = golden / "data" / SHARED / "deploys"
    log = [path.read_bytes() for path in sorted(folder.glob("*.json"))]
    deploys = [decode(data, number) for number, data in enumerate(log, 1)]
    assert [deploy.previous for deploy in deploys] == ["", *(entry_sha256(data) for data in log[:-1])]
    assert {deploy.kind for deploy in deploys} == {"upload", "rollback", "promote"}
    assert {deploy.under for deploy in deploys} == {"", "team-a/", "team-b/"}
    assert {flag for deploy in deploys for flag in deploy.flags or ()} == {
        "skip_gate",
        "allow_removals",
        "override_freeze",
    }
    assert deploys[0].git == {
        "commit": "31d7e5f0", "branch": "main", "author": "Ann <ann@example.com>", "repository": "acme/dags",
    }  # fmt: skip
    versions = {deploy.version for deploy in deploys}
    assert all(deploy.source in versions for deploy in deploys if deploy.kind == "rollback")
    promoted = {deploy.source.partition("@")[0] for deploy in deploys if deploy.kind == "promote"}
    assert promoted == {DEPLOYMENT}
    assert [deploy.encode() for deploy in deploys] == log


# --- what is written is what was written -----------------------------------------------------------------------------


@pytest.mark.parametrize("number", DEPLOYS)
def test_a_manifest_is_written_alike(number) -> None:
    entries = content(WRITTEN, number)[0].files.values()
    assert Manifest(reversed(list(entries))).text == manifest_text(WRITTEN, number)


@pytest.mark.parametrize("number", DEPLOYS)
def test_a_bundle_and_its_index_are_written_alike(number) -> None:
    made, was = stored(WRITTEN, number), whole(WRITTEN, number)
    assert same_compressed(WRITTEN, was, made.body)
    assert [len(frame) for frame in frames_of(made.body)] == [len(frame) for frame in frames_of(was)]
    data = bundle_path(WRITTEN, number, ".index").read_bytes()
    index = Index.decode(data)
    bundle = made.bundle
    assert (bundle.imports, bundle.reads, bundle.dags) == (index.imports, index.reads, index.dags)
    assert same_compressed(WRITTEN, data, Index(index.frames, bundle.imports, bundle.reads, bundle.dags).encode())


@pytest.mark.parametrize(("old", "new"), PATCHES)
def test_a_patch_is_written_alike(old, new) -> None:
    made = stored(WRITTEN, new).patch_from(stored(WRITTEN, old))
    assert made is not None
    was = patch(WRITTEN, new)
    assert Patch.parse(made)._replace(parts=[]) == Patch.parse(was)._replace(parts=[])
    assert patched(made, *content(WRITTEN, old))[1] == content(WRITTEN, new)[1]
    if same_library(WRITTEN):
        assert made == was


def test_entries_and_their_details_are_written_alike() -> None:
    for number, data, beside in zip(DEPLOYS, entries(WRITTEN), details(WRITTEN), strict=True):
        assert decode(data, number).encode() == data
        assert decode_details(beside).encode() == beside
