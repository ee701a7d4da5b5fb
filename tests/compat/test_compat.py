"""This release and the previous one work together, and take over what the other left: docs/reference/versions.md.

Names of fields and headers that a release may change, as that page has it, are not asserted here.
"""

import json
import os
import random
import subprocess

import pytest

from harness import Sidecar, eventually
from previous import previous_python

NOISE = random.Random(1).randbytes(200_000)
A = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n", "plain.py": b"pass\n", "data/noise.bin": NOISE}
B = {**A, "shop.py": b"rate = 2\n", "sql/new.sql": b"select 1\n"}
C = {"etl.py": b"import shop\n", "shop.py": b"rate = 3\n"}

OTHER = {"this": "previous", "previous": "this"}
BOTH = pytest.mark.parametrize("release", ["this", "previous"])
"""Which release the server, or what was there first, is of; the other side is of the other one."""

# What a follower of either release reads of the current answer and of a bundle: these may be added to, never changed.
CURRENT_FIELDS = {"log_id": str, "sequence": int, "version": str, "digest": str}


def test_the_previous_release_is_another_program_than_this_one() -> None:
    command = [previous_python(), "-c", "import dagferry_core; print(dagferry_core.__file__)"]
    path = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout.strip()
    assert path.startswith(str(previous_python().parents[1]))


@BOTH
def test_a_sidecar_follows_a_server_of_the_other_release(serving, following, release) -> None:
    server = serving(release)
    pod = following(OTHER[release], server)
    assert pod.runs(server.deploy(A)["version"]).tree() == A
    assert pod.runs(server.deploy(B)["version"]).tree() == B
    assert pod.metric('dagferry_sidecar_download_bytes_total{kind="patch"}') > 0
    assert pod.metric('dagferry_sidecar_download_bytes_total{kind="bundle"}') < len(NOISE) * 2, "the second was a patch"
    assert pod.runs(server.deploy(C)["version"]).tree() == C
    assert pod.probe("/readyz")[0] == 200
    known = b'dagferry_server_known_sidecars{deployment="default"} 1.0\n'
    eventually("the server to count the sidecar", lambda: known in server.get("/metrics")[1])


@BOTH
def test_a_sidecar_of_either_release_counts_in_the_status_of_the_fleet(serving, following, release) -> None:
    server = serving("this")
    pod = following(release, server)
    for files in (A, B):
        version = server.deploy(files)["version"]

        def is_healthy(version: str = version) -> bool:
            told = json.loads(server.get("/default/dags/status")[1])
            return (told["state"], told["version"]) == ("HEALTHY", version)

        eventually("the fleet to have converged", is_healthy)
        assert pod.live == version
    pod.stop()
    assert json.loads(server.get("/default/dags/status")[1])["counts"]["known"] == 0, "it deregistered"


@BOTH
def test_both_answer_a_follower_alike(serving, release) -> None:
    server = serving(release)
    deployed = server.deploy(A)
    current = server.current()
    assert {name: type(current[name]) for name in CURRENT_FIELDS} == CURRENT_FIELDS
    assert {name: current[name] for name in ("sequence", "version", "digest")} == {
        name: deployed[name] for name in ("sequence", "version", "digest")
    }
    assert server.get("/default/dags/current", If_None_Match=f'"{current["version"]}"')[0] == 304


@BOTH
def test_a_sidecar_goes_on_when_its_server_is_replaced_by_one_of_the_other_release(serving, following, release) -> None:
    server = serving(release)
    pod = following(release, server)
    pod.runs(server.deploy(A)["version"])
    server.stop()
    replaced = serving(OTHER[release], port=server.port)
    assert pod.runs(replaced.deploy(B)["version"]).tree() == B


def test_the_data_folder_of_the_previous_release_is_read_and_continued(serving, following) -> None:
    server = serving("previous")
    versions = [server.deploy(files)["version"] for files in (A, B)]
    log_id = server.current()["log_id"]
    server.stop()
    server = serving("this")
    log = json.loads(server.get("/default/dags/deploys")[1])["deploys"]
    assert [deploy["version"] for deploy in log] == versions[::-1]
    assert all(server.get(f"/default/dags/versions/{version}")[0] == 200 for version in versions)
    assert server.current()["log_id"] == log_id
    assert following("this", server).runs(versions[-1]).tree() == B
    again = server.deploy(B)
    assert (again["unchanged"], again["version"]) == (True, versions[-1])
    assert server.deploy(C)["sequence"] == 3


@BOTH
def test_a_volume_is_taken_over_by_a_sidecar_of_the_other_release(serving, following, release, tmp_path) -> None:
    server = serving("this")
    pod = following(release, server)
    pod.runs(server.deploy(A)["version"])
    pod.stop()
    live, touched = os.readlink(pod.root / "current"), os.stat(pod.root / "current/plain.py").st_mtime_ns
    # It has what it needs: the tree that is there is published without the server.
    server.stop()
    pod = following(OTHER[release], server)
    eventually("the sidecar to be ready", lambda: _ready(pod))
    assert os.readlink(pod.root / "current") == live
    assert pod.tree() == A
    server = serving("this", port=server.port)
    assert pod.runs(server.deploy(B)["version"]).tree() == B
    assert os.stat(pod.root / "current/plain.py").st_mtime_ns == touched
    assert pod.metric('dagferry_sidecar_download_bytes_total{kind="bundle"}') == 0, "a patch of the tree that was there"
    # And the release that was there before takes it back.
    pod.stop()
    pod = following(release, server)
    assert pod.runs(server.deploy(C)["version"]).tree() == C
    assert os.path.isdir(pod.root / ".trees")


@BOTH
def test_a_log_is_followed_across_the_releases_by_pods_that_remember_its_entries_and_those_that_do_not(
    serving, following, release
) -> None:
    server = serving("this")
    pod = following(release, server)
    pod.runs(server.deploy(A)["version"])
    pod.stop()
    pod = following(OTHER[release], server)
    pod.runs(server.deploy(B)["version"])
    server.stop()
    server = serving("previous", port=server.port)
    pod.runs(server.deploy(C)["version"])
    server.stop()
    server = serving("this", port=server.port)
    assert pod.runs(server.deploy(A)["version"]).tree() == A
    assert pod.metric('dagferry_sidecar_syncs_total{outcome="log_rewritten"}') == 0
    pod.stop()


def _ready(pod: Sidecar) -> bool:
    assert pod.process.poll() is None, pod.log.read_text()
    try:
        return pod.probe("/readyz")[0] == 200
    except OSError:
        return False
