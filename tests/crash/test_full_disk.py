"""A volume that is really full: what is live stays live, the error says so, and space alone heals it."""

import itertools
import json
import os
import random
import tempfile
import time

import pytest

from dagferry_server.store.local import LocalStore
from faults import most_attempts
from harness import PATIENCE_SECONDS, Server, eventually, pack, tree
from invariants import BESIDE_TREES, check_log, check_no_root_leftovers, check_root, check_server
from reporting import report
from volumes import fill, free_again, needs_mounts, small_volume

pytestmark = needs_mounts

PAGE_BYTES = 4096
VOLUME_BYTES = 4 << 20
A = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n", "sql/load.sql": b"select 1\n"}
LARGE = {**A, "shop.py": b"rate = 2\n", "data.bin": random.Random(1).randbytes(400_000)}


@pytest.fixture
def volume(tmp_path):
    with small_volume(tmp_path / "volume", VOLUME_BYTES) as folder:
        yield folder


def failures(pod) -> float:
    return pod.metric('dagferry_sidecar_syncs_total{outcome="volume_failed"}')


def probed(pod):
    status, body = pod.probe("/readyz")
    return status, json.loads(body)


# --- the sidecar -----------------------------------------------------------------------------------------------------


def test_a_patch_that_does_not_fit_leaves_the_old_tree_live_until_there_is_space(
    volume, fork_server, fork_sidecar, tmp_path
) -> None:
    server = fork_server(tmp_path / "data").ready()
    published = {server.deploy(A)["version"]: A}
    (old,) = published
    pod = fork_sidecar(server.url, volume / "root", log=tmp_path / "pod.log")
    pod.runs(old)
    fill(volume, leave_bytes=200_000)
    new = server.deploy(LARGE)["version"]
    published[new] = LARGE
    most_attempts(lambda: failures(pod), at_least=4, first_pause=0.05)
    assert pod.metric('dagferry_sidecar_download_bytes_total{kind="patch"}') > 400_000
    status, body = probed(pod)
    assert (status, body["version"], body["error"]["code"]) == (200, old, "volume_failed")
    assert pod.metric("dagferry_sidecar_live_sequence") == 1
    assert check_root(pod.root, published) == old
    free_again(volume)
    pod.runs(new)
    assert check_root(pod.root, published) == new
    eventually("the error to be gone", lambda: probed(pod)[1]["error"] is None)
    check_no_root_leftovers(pod.root, 1)
    check_log(pod.log)


def test_a_first_sync_that_does_not_fit_is_not_ready_until_there_is_space(
    volume, fork_server, fork_sidecar, tmp_path
) -> None:
    server = fork_server(tmp_path / "data").ready()
    new = server.deploy(LARGE)["version"]
    (volume / "root").mkdir()
    fill(volume, leave_bytes=200_000)
    pod = fork_sidecar(server.url, volume / "root", log=tmp_path / "pod.log")
    eventually("the sidecar to answer", lambda: answers(pod))
    most_attempts(lambda: failures(pod), at_least=4, first_pause=0.05)
    status, body = probed(pod)
    assert (status, body["version"], body["error"]["code"]) == (503, None, "volume_failed")
    assert pod.metric("dagferry_sidecar_published") == 0
    assert os.listdir(volume / "root") == [".trees"]
    assert set(os.listdir(volume / "root" / ".trees")) <= BESIDE_TREES
    free_again(volume)
    pod.runs(new)
    eventually("the sidecar to be ready", lambda: probed(pod)[0] == 200)
    assert check_root(pod.root, {new: LARGE}) == new
    check_log(pod.log)


def answers(pod) -> bool:
    try:
        return pod.probe("/healthz")[0] == 200
    except OSError:
        return False


@pytest.mark.parametrize("first", [True, False], ids=["whole", "patch"])
def test_with_one_page_more_each_time_a_sync_fails_whole_until_it_passes(
    volume, fork_server, fork_sidecar, tmp_path, first
) -> None:
    server = fork_server(tmp_path / "data").ready()
    root = volume / "root"
    root.mkdir()
    published = {server.deploy(A)["version"]: A}
    once = ("--once", "--once-timeout", "0")
    if not first:
        assert fork_sidecar(server.url, root, *once, log=tmp_path / "pod.log").process.wait(PATIENCE_SECONDS) == 0
        longer = {**A, "shop.py": b"rate = 2\n" * 1000}
        published[server.deploy(longer)["version"]] = longer
    before = check_root(root, published)
    for pages in itertools.count(1):
        fill(volume, leave_bytes=pages * PAGE_BYTES)
        log = tmp_path / f"{pages}.log"
        code = fork_sidecar(server.url, root, *once, log=log).process.wait(PATIENCE_SECONDS)
        free_again(volume)
        check_log(log)
        if code == 0:
            break
        assert code == 6, log.read_text()
        assert "No space left on device" in log.read_text()
        assert check_root(root, published) == before
        assert before == "" or not check_no_root_leftovers(root, 0)
    assert check_root(root, published) == list(published)[-1]
    assert 3 < pages < 30


# --- the server ------------------------------------------------------------------------------------------------------


def refused(server: Server, files) -> dict:
    status, body = server.request("/upload", pack(files))
    assert status == 507, body
    answer = json.loads(body)
    assert answer["code"] == "store_full"
    return answer


def test_an_upload_that_does_not_fit_is_refused_with_507_and_works_as_soon_as_there_is_space(
    volume, fork_server, tmp_path
) -> None:
    server = fork_server(volume / "data", log=tmp_path / "server.log").ready()
    server.deploy(A)
    before = tree(volume / "data")
    fill(volume, leave_bytes=100_000)
    assert "Writing the upload" in refused(server, LARGE)["message"]
    assert server.get("/readyz")[0] == 200
    assert len(check_server(server)) == 1
    assert tree(volume / "data") == before
    free_again(volume)
    fill(volume)
    assert server.get("/readyz")[0] == 507
    refused(server, LARGE)
    assert len(check_server(server)) == 1, "what is there can be fetched from a full volume"
    free_again(volume)
    assert server.deploy(LARGE)["sequence"] == 2
    assert len(check_server(server)) == 2
    check_log(server.log)


def test_a_volume_that_fills_up_while_a_bundle_is_stored_keeps_the_log_as_it_was(volume, fork_server, tmp_path) -> None:
    server = fork_server(volume / "data", log=tmp_path / "server.log").ready()
    server.deploy(A)
    before = tree(volume / "data")
    fill(volume, leave_bytes=1_000_000)  # for the upload and what it expands to, but not for the bundle
    assert "Storing a bundle" in refused(server, LARGE)["message"]
    assert tree(volume / "data") == before
    assert len(check_server(server)) == 1
    free_again(volume)
    assert server.deploy(LARGE)["sequence"] == 2
    check_log(server.log)


def test_with_one_page_more_each_time_an_upload_fails_whole_until_it_passes(volume, fork_server, tmp_path) -> None:
    server = fork_server(volume / "data", log=tmp_path / "server.log").ready()
    server.deploy(A)
    before = tree(volume / "data")
    new = {**A, "shop.py": b"rate = 2\n"}
    for pages in itertools.count():
        fill(volume, leave_bytes=pages * PAGE_BYTES)
        status, body = server.request("/upload", pack(new))
        assert status in {200, 507}, body
        assert len(check_server(server)) == (2 if status == 200 else 1)
        free_again(volume)
        if status == 200:
            break
        eventually("a bundle that no deploy names to be gone", lambda: tree(volume / "data") == before)
    assert 3 < pages < 30
    server.stop()
    again = fork_server(volume / "data", log=tmp_path / "again.log").ready()
    assert len(check_server(again)) == 2
    check_log(server.log)


def lease(server: Server, deploy: dict) -> None:
    log_id = json.loads(server.get("/default/dags/current")[1])["log_id"]
    body = report(log_id, component="bundle", leases={"versions": [deploy["version"]]})
    status, answer = server.request("/default/dags/reports", json.dumps(body).encode(), Content_Type="application/json")
    assert status == 200, answer


def test_a_full_volume_gets_the_space_of_a_bundle_whose_lease_has_ended(volume, fork_server, tmp_path) -> None:
    flags = ("--keep-deploys", "1", "--keep-days", "0")
    server = fork_server(volume / "data", *flags, log=tmp_path / "server.log").ready()
    first = server.deploy(LARGE)
    bundle = volume / "data/default/bundles" / (first["digest"].removeprefix("sha256:") + ".tar.zst")
    lease(server, first)
    second = server.deploy(A)
    lease(server, second)
    assert bundle.exists()
    fill(volume)
    refused(server, LARGE)  # which starts retention
    eventually("the bundle to be gone", lambda: not bundle.exists())
    free_again(volume)
    check_log(server.log)


def test_a_volume_without_space_for_another_byte_or_file_knows_what_time_it_is(tmp_path) -> None:
    with small_volume(tmp_path / "volume", 1 << 20, max_files=20) as volume:
        store = LocalStore(str(volume))
        began = time.time()
        fill(volume)
        for number in range(20 - len(list(volume.iterdir())) - 1):  # the volume's own folder is one of them
            os.utime(volume, (1, 1))
            assert began - 1 <= store.now() <= time.time() + 1
            (volume / f"{number}").touch()
        with pytest.raises(OSError, match="No space left"), tempfile.TemporaryFile(dir=volume):
            pass
        os.utime(volume, (1, 1))
        assert began - 1 <= store.now() <= time.time() + 1
