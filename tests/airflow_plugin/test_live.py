"""The live tree of a DAG bundle keeps a sidecar's rules, with a real server."""

import errno
import os
import time

import pytest

from dagferry_airflow.arguments import Keep
from dagferry_airflow.live import LiveTree, build, live_version, locked
from dagferry_follow.errors import (
    AwaitingFirstDeploy,
    RootInUse,
    SequenceRegressed,
    ServerRefused,
    ServerUnreachable,
    TreeDamaged,
)
from dagferry_follow.remote.server import Server as Connection
from harness import tree

A = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n", "plain.py": b"pass\n", "sql/load.sql": b"select 1\n"}
B = {**A, "shop.py": b"rate = 2\n"}
C = {**A, "plain.py": b"pass  # c\n"}
LONG_AGO = 1_600_000_000


@pytest.fixture
def server(serve):
    return serve()


@pytest.fixture
def connection(server):
    connection = Connection(server.url, "default", agent="test")
    yield connection
    connection.close()


@pytest.fixture
def root(tmp_path) -> str:
    return str(tmp_path / "live")


def apply(root: str, connection: Connection) -> list[str]:
    """Apply the newest deploy, and return what that made fresh."""
    began = time.time()
    with LiveTree(root) as live:
        error = live.apply(connection.current("", 0, None), connection).error
        if error:
            raise error
        return sorted(path for path, age in live.ages(began).items() if age <= time.time() - began)


def test_what_is_deployed_becomes_live_and_touches_only_what_changed(root, server, connection) -> None:
    server.deploy(A)
    apply(root, connection)
    for path in A:
        os.utime(f"{root}/current/{path}", (LONG_AGO, LONG_AGO))
    version = server.deploy(B)["version"]
    assert apply(root, connection) == ["etl.py", "shop.py"]
    assert live_version(root) == version
    assert tree(f"{root}/current") == B
    assert os.stat(f"{root}/current/plain.py").st_mtime == LONG_AGO
    assert apply(root, connection) == []


def test_as_long_as_nothing_is_deployed_nothing_is_published_and_nothing_removed(
    root, server, connection, serve
) -> None:
    with pytest.raises(AwaitingFirstDeploy):
        apply(root, connection)
    assert live_version(root) == ""
    server.deploy(A)
    apply(root, connection)
    other = serve(data="other")
    emptied = Connection(other.url, "default", agent="test")
    apply(root, emptied)
    assert tree(f"{root}/current") == A
    other.deploy(B)
    apply(root, emptied)
    emptied.close()
    assert tree(f"{root}/current") == B


def test_it_never_goes_back_within_one_log(root, server, connection) -> None:
    server.deploy(A)
    older = connection.current("", 0, None)
    server.deploy(B)
    apply(root, connection)
    with LiveTree(root) as live:
        applied = live.apply(older, connection)
    assert isinstance(applied.error, SequenceRegressed)
    assert not applied.published
    assert tree(f"{root}/current") == B


def test_it_applies_no_other_content_of_the_same_sequence(root, server, connection) -> None:
    server.deploy(A)
    apply(root, connection)
    newest = connection.current("", 0, None)
    other = newest._replace(version="20200101T000000Z-000001", digest="sha256:" + 64 * "0", entry_sha256="")
    with LiveTree(root) as live:
        assert isinstance(live.apply(other, connection).error, SequenceRegressed)
    assert tree(f"{root}/current") == A


def test_a_full_volume_costs_old_trees(root, server, connection) -> None:
    for files in (A, B, A, B):
        server.deploy(files)
        apply(root, connection)
    with LiveTree(root) as live:
        assert not live.make_room(OSError(errno.EIO, "broken"))
        assert live.make_room(OSError(errno.ENOSPC, "full"))
        assert not live.make_room(OSError(errno.ENOSPC, "full"))
    assert tree(f"{root}/current") == B


def test_a_corrupt_tree_is_built_again(root, server, connection) -> None:
    server.deploy(A)
    apply(root, connection)
    with open(f"{root}/current/shop.py", "w") as file:
        file.write("by hand\n")
    with LiveTree(root) as live:
        assert live.live is None
    apply(root, connection)
    assert tree(f"{root}/current") == A


def test_an_unexpected_file_is_removed_without_the_server(root, server, connection) -> None:
    server.deploy(A)
    newest = connection.current("", 0, None)
    apply(root, connection)
    server.stop()
    with open(f"{root}/current/extra.py", "w") as file:
        file.write("by hand\n")
    with LiveTree(root) as live:
        applied = live.apply(newest, connection)
    assert (applied.live, applied.published, applied.error) == (newest, True, None)
    assert tree(f"{root}/current") == A


def test_damage_is_an_error_as_long_as_its_repair_is_paused(root, server, connection) -> None:
    server.deploy(A)
    newest = connection.current("", 0, None)
    for harm in ("extra.py", "shop.py"):
        apply(root, connection)
        with open(f"{root}/current/{harm}", "w") as file:
            file.write("by hand\n")
        with LiveTree(root) as live:
            applied = live.apply(newest, connection, paused=newest)
        assert not applied.published
        assert isinstance(applied.error, TreeDamaged)


@pytest.mark.parametrize(("keep", "trees"), [(Keep(0, 0.0), 2), (Keep(2, 0.0), 3), (Keep(4, 0.0, 1), 2), (Keep(), 5)])
def test_old_trees_stay_as_the_arguments_say(root, server, connection, keep, trees) -> None:
    for number in range(5):
        server.deploy({**A, "plain.py": b"n = %d\n" % number})
        with LiveTree(root, keep) as live:
            live.apply(connection.current("", 0, None), connection)
    assert len(os.listdir(f"{root}/.trees")) - 1 == trees, "and the lock"


def test_old_trees_also_go_when_nothing_is_new(root, server, connection) -> None:
    for files in (A, B, C):
        server.deploy(files)
        apply(root, connection)
    with LiveTree(root, Keep(0, 0.0)) as live:
        applied = live.apply(connection.current("", 0, None), connection)
    assert not applied.published
    assert len(os.listdir(f"{root}/.trees")) - 1 == 2


def test_a_file_is_touched_again(root, server, connection) -> None:
    server.deploy(A)
    apply(root, connection)
    before = os.stat(f"{root}/current/shop.py").st_mtime_ns
    with LiveTree(root) as live:
        live.touch(("shop.py", "not there"))
    assert os.stat(f"{root}/current/shop.py").st_mtime_ns > before
    with LiveTree(root) as live:
        assert live.live


def test_one_process_works_at_a_time_and_the_others_do_not_wait_without_a_limit(root) -> None:
    with locked(root, 0), pytest.raises(RootInUse, match="Another process works on"), locked(root, 0.1):
        pass
    with locked(root, 0):
        pass


@pytest.mark.parametrize("live_at", [None, 0, 1, 2])
def test_any_version_can_be_built_whatever_is_live(root, server, connection, tmp_path, live_at) -> None:
    versions = []
    for number, files in enumerate((A, B, C)):
        versions.append(server.deploy(files)["version"])
        if number == live_at:
            apply(root, connection)
    for version, files in zip(versions, (A, B, C), strict=True):
        folder = tmp_path / version
        folder.mkdir()
        with LiveTree(root) as live:
            build(str(folder), version, live.live, connection)
        assert tree(folder) == files


def test_what_a_task_writes_into_its_version_is_not_live(root, server, connection, tmp_path) -> None:
    older, version = (server.deploy(files)["version"] for files in (A, C))
    apply(root, connection)
    for made in (older, version):
        (tmp_path / made).mkdir()
        with LiveTree(root) as live:
            build(str(tmp_path / made), made, live.live, connection)
        (tmp_path / made / "shop.py").write_bytes(b"by a task\n")
    assert tree(f"{root}/current") == C


def test_the_live_version_is_built_without_the_server_and_no_other(root, server, connection, tmp_path) -> None:
    other = server.deploy(B)["version"]
    version = server.deploy(A)["version"]
    apply(root, connection)
    with pytest.raises(ServerRefused) as caught, LiveTree(root) as live:
        build(str(tmp_path), "20261120T064501Z-000099", live.live, connection)
    assert caught.value.answered == 404
    server.stop()
    for name in ("same", "other"):
        (tmp_path / name).mkdir()
    with LiveTree(root) as live:
        build(str(tmp_path / "same"), version, live.live, connection)
        with pytest.raises(ServerUnreachable):
            build(str(tmp_path / "other"), other, live.live, connection)
    assert tree(tmp_path / "same") == A
