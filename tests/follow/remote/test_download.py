"""A download, whole or patch, becomes the tree it announces, or nothing."""

import pytest

from dagferry_core.errors import DigestMismatch, PatchMismatch
from dagferry_follow.remote.download import open_download
from dagferry_follow.remote.server import Server
from dagferry_follow.volume.staging import StagingTree
from harness import tree

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
        staging.fill(content)
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
