"""A root has one sidecar and a data folder one server; what another user left behind is no obstacle."""

import json
import os
import re
import tempfile
from pathlib import Path

import pytest

from faults import most_attempts
from harness import PATIENCE_SECONDS, eventually
from invariants import check_log, check_root, check_server
from volumes import only_root

A = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n", "sql/load.sql": b"select 1\n"}
B = {**A, "shop.py": b"rate = 2\n"}
C = {**A, "shop.py": b"rate = 3\n"}
BEFORE, AFTER = 20_001, 20_002
"""Two users nobody has."""


def test_a_second_sidecar_on_a_root_ends_and_says_so_and_the_first_goes_on(fork_server, fork_sidecar, tmp_path) -> None:
    server = fork_server(tmp_path / "data").ready()
    first = fork_sidecar(server.url, tmp_path / "root")
    first.runs(server.deploy(A)["version"])
    for flags in ((), ("--once",)):
        log = tmp_path / f"second{len(flags)}.log"
        second = fork_sidecar(server.url, tmp_path / "root", *flags, log=log)
        assert second.process.wait(PATIENCE_SECONDS) == 6
        assert log.read_text().splitlines()[-1].startswith("dagferry-sidecar: Another sidecar owns ")
    newest = server.deploy(B)["version"]
    first.runs(newest)
    assert check_root(first.root, {newest: B}) == newest
    first.kill()
    third = fork_sidecar(server.url, tmp_path / "root")
    third.runs(server.deploy(C)["version"])
    check_log(first.log)


def test_a_second_server_on_a_data_folder_ends_and_says_so_and_takes_nothing_from_the_first(
    fork_server, tmp_path
) -> None:
    first = fork_server(tmp_path / "data").ready()
    first.deploy(A)
    under_way = tmp_path / "data" / ".new-0123456789abcdef"
    under_way.write_bytes(b"the first server is about to give it its name")
    (tmp_path / "data/default/incoming/.new-upload").write_bytes(b"half")
    log = tmp_path / "second.log"
    second = fork_server(tmp_path / "data", log=log)
    assert second.process.wait(PATIENCE_SECONDS) == 5
    assert re.search("^dagferry-server: Another server uses the data folder ", log.read_text(), re.MULTILINE)
    assert under_way.exists()
    assert (tmp_path / "data/default/incoming/.new-upload").exists()
    assert first.deploy(B)["sequence"] == 2
    first.kill()
    third = fork_server(tmp_path / "data").ready()
    assert third.deploy(C)["sequence"] == 3
    check_server(third)


# --- users -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def common():
    """A folder that every user can reach, and write to, as an emptyDir of Kubernetes."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        root = Path(folder, "root")
        root.mkdir()
        root.chmod(0o777)
        yield root


def synced_by_another_user(fork_server, fork_sidecar, folder, root):
    server = fork_server(folder / "data").ready()
    version = server.deploy(A)["version"]
    once = fork_sidecar(server.url, root, "--once", uid=BEFORE)
    assert once.process.wait(PATIENCE_SECONDS) == 0, once.log.read_text()
    assert (root / "current" / "etl.py").stat().st_uid == BEFORE
    return server, version


@only_root
def test_another_users_files_are_copied_where_the_system_refuses_to_link_them(
    fork_server, fork_sidecar, common, tmp_path
) -> None:
    if Path("/proc/sys/fs/protected_hardlinks").read_text().strip() != "1":
        pytest.skip("fs.protected_hardlinks is off")
    server, old = synced_by_another_user(fork_server, fork_sidecar, tmp_path, common)
    for path, mode in ((common / ".trees", 0o777), (common / ".trees/lock", 0o666)):
        path.chmod(mode)
    importer, unchanged = ((common / "current" / path).stat() for path in ("etl.py", "sql/load.sql"))
    new = server.deploy(B)["version"]
    pod = fork_sidecar(server.url, common, uid=AFTER)
    pod.runs(new)
    published = {old: A, new: B}
    assert check_root(common, published) == new
    after = (common / "current/sql/load.sql").stat()
    assert after.st_uid == AFTER
    assert (after.st_nlink, (common / "current/shop.py").stat().st_nlink) == (1, 1)
    assert after.st_mtime_ns == unchanged.st_mtime_ns
    assert (common / "current/etl.py").stat().st_mtime_ns > importer.st_mtime_ns, "it imports what changed"
    eventually("the sidecar to be ready", lambda: pod.probe("/readyz")[0] == 200)
    newer = server.deploy(C)["version"]
    pod.runs(newer)
    assert check_root(common, {newer: C}) == newer
    assert (common / "current/sql/load.sql").stat().st_nlink == 2, "its own files it can link"
    # What it may not remove stays, and keeps nobody from starting.
    pod.kill()
    assert fork_sidecar(server.url, common, "--once", uid=AFTER).process.wait(PATIENCE_SECONDS) == 0
    check_log(pod.log)


@only_root
def test_a_root_that_belongs_to_another_user_is_refused_by_name_and_not_changed(
    fork_server, fork_sidecar, common, tmp_path
) -> None:
    server, old = synced_by_another_user(fork_server, fork_sidecar, tmp_path, common)
    server.deploy(B)
    log = tmp_path / "other.log"
    assert fork_sidecar(server.url, common, "--once", uid=AFTER, log=log).process.wait(PATIENCE_SECONDS) == 6
    said = log.read_text().splitlines()[-1]
    assert f"{common}/.trees/lock cannot be used: Permission denied." in said
    assert check_root(common, {old: A}) == old


@only_root
def test_a_tree_whose_permissions_were_removed_is_built_again_without_a_hot_loop(
    fork_server, fork_sidecar, common, tmp_path
) -> None:
    server = fork_server(tmp_path / "data").ready()
    version = server.deploy(A)["version"]
    pod = fork_sidecar(server.url, common, "--poll-wait", "1", uid=AFTER)
    pod.runs(version)
    first = os.readlink(common / "current")
    (common / "current/sql").resolve().chmod(0)
    (common / "current/shop.py").resolve().chmod(0o600)
    eventually("the tree to be built again", lambda: os.readlink(common / "current") != first)
    assert check_root(common, {version: A}) == version
    eventually("all to be well", lambda: json.loads(pod.probe("/readyz")[1])["error"] is None)
    most_attempts(lambda: pod.metric('dagferry_sidecar_syncs_total{outcome="ok"}') - 1, at_least=1, first_pause=1)
    check_log(pod.log)
