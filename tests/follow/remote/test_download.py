"""A download, whole or patch, becomes the tree it announces, or nothing."""

import io

import pytest
import zstandard

from dagferry_core.bundle.manifest import EMPTY, Manifest
from dagferry_core.bundle.reader import decompressed, member_header
from dagferry_follow.errors import AnswerInvalid, DigestMismatch, PatchMismatch
from dagferry_follow.remote.download import open_download
from dagferry_follow.remote.server import Server
from dagferry_follow.volume.staging import StagingTree
from harness import tree
from treemaker import Stored, manifest_of

A = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n"}
B = {**A, "shop.py": b"rate = 2\n"}


@pytest.fixture
def server(serve):
    server = serve()
    connection = Server(server.url, "default", agent="test")
    connection.versions = [server.deploy(A), server.deploy(B)]
    yield connection
    connection.close()


def take(server: Server, number: int, folder, have: str = "", old=None, *, digest: str | None = None):
    deploy = server.versions[number]
    folder.mkdir()
    download = server.download(deploy["version"], have)
    told = deploy["digest"] if digest is None else digest
    with (
        open_download(download, old.manifest if old else None, told) as (manifest, content),
        StagingTree(str(folder), manifest, old) as staging,
    ):
        staging.populate(content)
        taken, _ = staging.finalize(1_800_000_000)
    return taken, download.kind


def test_a_whole_bundle_and_then_a_patch(server, tmp_path) -> None:
    first, kind = take(server, 0, tmp_path / "a")
    assert (kind, tree(tmp_path / "a")) == ("whole", A)
    _, kind = take(server, 1, tmp_path / "b", server.versions[0]["version"], first)
    assert (kind, tree(tmp_path / "b")) == ("patch", B)


def test_without_a_digest_to_expect_the_manifest_is_believed(server, tmp_path) -> None:
    take(server, 0, tmp_path / "a", digest="")
    assert tree(tmp_path / "a") == A


@pytest.mark.parametrize("have", ["", "the first"])
def test_another_digest_than_announced_is_refused(server, tmp_path, have) -> None:
    first, _ = take(server, 0, tmp_path / "a")
    with pytest.raises(DigestMismatch):
        take(server, 1, tmp_path / "b", have and server.versions[0]["version"], first, digest="sha256:" + "0" * 64)
    assert tree(tmp_path / "b") == {}


def test_a_patch_to_nothing_is_refused(server, tmp_path) -> None:
    with pytest.raises(PatchMismatch):
        take(server, 1, tmp_path / "b", server.versions[0]["version"])


# --- what is wrong with it decides which error it is -----------------------------------------------------------------


class Received:
    """A download that has come in already."""

    def __init__(self, kind: str, body: bytes) -> None:
        self.kind = kind
        self.read = io.BytesIO(body).read
        self.abort = lambda: None

    def read_patch(self, heartbeat) -> bytes:
        heartbeat()
        return self.read()


def fill_with(kind: str, body: bytes, folder, old: Manifest | None = None) -> None:
    with (
        open_download(Received(kind, body), old, "") as (manifest, content),
        StagingTree(str(folder), manifest, None) as staging,
    ):
        staging.populate(content)


def as_tar(stored: Stored) -> bytearray:
    return bytearray(decompressed(io.BytesIO(stored.body).read)(1 << 20))


def renamed(tar: bytearray) -> bytearray:
    return tar.replace(b"dags/shop.py", b"dags/shap.py")


WHOLE_ERRORS = {
    "another tar": (lambda tar: member_header("etl.py", 512, 0o644) + tar, AnswerInvalid),
    "another manifest": (lambda tar: tar.replace(b" 0644 ", b" 0666 ", 1), AnswerInvalid),
    "a huge manifest": (lambda tar: member_header("manifest.txt", 1 << 30, 0o644) + tar[512:], AnswerInvalid),
    "no header": (lambda tar: tar[:100], DigestMismatch),
    "half a manifest": (lambda tar: tar[:600], DigestMismatch),
    "half a file": (lambda tar: tar[:-1600], DigestMismatch),
    "another file": (renamed, DigestMismatch),
    "more behind the end": (lambda tar: tar + bytes(512), DigestMismatch),
    "another content": (lambda tar: tar.replace(b"import shop", b"import shap"), DigestMismatch),
}


@pytest.mark.parametrize(("change", "error"), WHOLE_ERRORS.values(), ids=WHOLE_ERRORS)
def test_an_invalid_bundle_is_reported_as_such_and_one_that_breaks_its_promise_a_mismatch(
    tmp_path, change, error
) -> None:
    tar = as_tar(Stored(A))
    changed = change(tar)
    assert changed != tar
    with pytest.raises(error) as caught:
        fill_with("whole", zstandard.compress(bytes(changed)), tmp_path)
    assert type(caught.value) is error


def test_bytes_that_zstd_does_not_know_are_a_mismatch(tmp_path) -> None:
    with pytest.raises(DigestMismatch):
        fill_with("whole", b"<html>".ljust(4096), tmp_path)


def test_an_invalid_patch_is_reported_as_such_and_one_for_another_tree_a_mismatch(tmp_path) -> None:
    patch = Stored(B).patch_from(Stored(A))
    assert patch
    with pytest.raises(AnswerInvalid):
        fill_with("patch", patch[:-1], tmp_path, manifest_of(A))
    with pytest.raises(PatchMismatch):
        fill_with("patch", patch, tmp_path, EMPTY)


def test_a_patch_that_leads_to_more_files_than_any_server_accepts_is_invalid(tmp_path, monkeypatch) -> None:
    patch = Stored(B).patch_from(Stored(A))
    assert patch
    monkeypatch.setattr("dagferry_core.bundle.manifest.MOST_FILES", 1)
    with pytest.raises(AnswerInvalid, match="no server accepts that"):
        fill_with("patch", patch, tmp_path, manifest_of(A))
