"""The DAG bundle is a witness of the deploy log: it follows none that was rewritten, and waits for a server behind."""

import contextlib
import shutil

import pytest

from dagferry_airflow.follower import Follower
from dagferry_airflow.live import LiveTree, live_deploy
from dagferry_airflow.origins import Origins
from dagferry_airflow.versions import Versions
from dagferry_follow.errors import LogRewritten, SequenceRegressed
from dagferry_follow.remote.server import Server
from dagferry_follow.witness import MAX_BEHIND_SECONDS, Stated
from harness import tree
from rewriting import digest_of, entry_file, rewrite

A, B, C, D = ({"etl.py": f"rate = {number}\n".encode()} for number in range(4))


@pytest.fixture
def server(serve):
    """A server with the deploys A, B, C."""
    server = serve()
    for files in (A, B, C):
        server.deploy(files)
    return server


@pytest.fixture
def root(tmp_path) -> str:
    return str(tmp_path / "bundle/live")


class Process:
    """A process of Airflow that follows ``server``; its clock is the test's."""

    def __init__(self, root: str, server) -> None:
        self.now = 1000.0
        self.url = server.url
        self.follower = Follower(root, self.connect, clock=lambda: self.now, jitter=lambda: 1.0)

    def connect(self, timeouts=None) -> Server:
        return Server(self.url, "default", agent="test", timeouts=timeouts)

    def follow(self, after: float = 1000.0):
        self.now += after
        self.follower.follow()
        return self.follower.error


@pytest.fixture
def process(root, server) -> Process:
    process = Process(root, server)
    assert process.follow() is None
    return process


def test_the_hash_of_the_live_entry_is_on_the_disk(process, root, server) -> None:
    assert live_deploy(root).entry_sha256 == server.current()["entry_sha256"]
    server.deploy(D)
    assert process.follow() is None
    assert live_deploy(root).entry_sha256 == server.current()["entry_sha256"]


@pytest.mark.parametrize("deploys", [0, 1], ids=["no news", "a newer deploy"])
def test_a_rewritten_log_is_refused_by_every_process(process, root, server, serve, deploys) -> None:
    server.stop()
    rewrite(server.data, 2, description="It was not me")
    server = serve(port=server.port)
    for _ in range(deploys):
        server.deploy(D)
    assert isinstance(process.follow(), LogRewritten)
    assert isinstance(Process(root, server).follow(), LogRewritten)
    assert tree(f"{root}/current") == C


def test_a_run_gets_no_version_of_a_rewritten_log(process, tmp_path, server, serve) -> None:
    server.stop()
    rewrite(server.data, 3, digest=digest_of(server.data, 1))
    server = serve(port=server.port)
    version = server.deploy(D)["version"]
    folder = tmp_path / "bundle"
    versions = Versions(folder, process.connect, lambda _: None, Origins(folder, "server", "default"))
    with pytest.raises(LogRewritten, match="Entry 3 of the deploy log was rewritten"):
        versions.make(version, for_task=True)
    with pytest.raises(LogRewritten):
        versions.make_newest()


def test_a_version_that_is_on_the_disk_is_used_all_the_same(process, root, tmp_path, server, serve) -> None:
    server.stop()
    rewrite(server.data, 3, description="It was not me")
    serve(port=server.port)
    folder = tmp_path / "bundle"
    versions = Versions(folder, process.connect, lambda _: None, Origins(folder, "server", "default"))
    version = live_deploy(root).version
    versions.make(version, for_task=True)
    assert tree(versions.path(version)) == C


def test_a_restored_log_with_a_new_id_is_followed(process, root, server, serve, tmp_path) -> None:
    server.stop()
    entry_file(server.data, 3).unlink()
    shutil.rmtree(server.data / "default/bundles")
    (server.data / "default/log.json").unlink()
    server = serve(port=server.port)
    server.deploy(D)
    assert process.follow() is None
    assert tree(f"{root}/current") == D


class Behind(Server):
    """A server of several on one store, which does not know the newest deploy yet."""

    older = None

    def current(self, *arguments, **named):
        newest = super().current(*arguments, **named)
        if self.older:
            self.stated = Stated(self.older.sequence, self.older.entry_sha256, shared=True)
            return self.older
        return newest


def test_a_server_that_is_behind_is_asked_again_and_an_error_only_after_the_named_time(process, root, server) -> None:
    with contextlib.closing(process.connect()) as connection:
        older = connection.current("", 0, None)
    server.deploy(D)
    assert process.follow() is None
    process.connect = lambda timeouts=None: Behind(server.url, "default", agent="test", timeouts=timeouts)
    process.follower._connect = process.connect
    Behind.older = older
    try:
        assert process.follow(MAX_BEHIND_SECONDS * 2) is None
        assert process.follow(MAX_BEHIND_SECONDS - 1) is None
        assert isinstance(process.follow(1), SequenceRegressed)
        Behind.older = None
        assert process.follow() is None
        Behind.older = older
        assert process.follow(MAX_BEHIND_SECONDS * 2) is None, "and the time begins anew"
    finally:
        Behind.older = None
    assert tree(f"{root}/current") == D


def test_nothing_is_compared_where_nothing_is_live(root, server) -> None:
    assert live_deploy(root) is None
    with LiveTree(root):
        pass
    assert live_deploy(root) is None
