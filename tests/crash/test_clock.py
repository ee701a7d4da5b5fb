"""A clock that was a year ahead and is set right, or the other way round. What it wrote stays; order is by sequence."""

import json
import os
import time

import pytest

from dagferry_core.names import make_version
from harness import eventually
from invariants import check_no_root_leftovers, check_root, check_server

YEAR_SECONDS = 366 * 86_400
A = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n", "sql/load.sql": b"select 1\n"}
B = {**A, "shop.py": b"rate = 2\n"}
C = {**A, "shop.py": b"rate = 3\n"}


def shift_log(data, seconds: int) -> None:
    """Make the newest entry one that a server with such a clock had written."""
    path = max((data / "default/deploys").iterdir())
    deploy = json.loads(path.read_text())
    deploy["time"] += seconds
    deploy["version"] = make_version(deploy["time"], deploy["sequence"])
    path.write_text(json.dumps(deploy))


def shift_root(root, seconds: int) -> None:
    """Make every time on the volume one that a sidecar with such a clock had set."""
    for parent, _, names in os.walk(root):
        for name in names:
            status = os.lstat(f"{parent}/{name}")
            times = (status.st_atime_ns + seconds * 10**9, status.st_mtime_ns + seconds * 10**9)
            os.utime(f"{parent}/{name}", ns=times, follow_symlinks=False)


@pytest.mark.parametrize("seconds", [YEAR_SECONDS, -YEAR_SECONDS], ids=["was ahead", "was behind"])
def test_the_log_of_a_server_whose_clock_jumped_goes_on_in_order(fork_server, fork_sidecar, tmp_path, seconds) -> None:
    keep_one = ("--keep-deploys", "1", "--keep-days", "30")
    server = fork_server(tmp_path / "data", *keep_one).ready()
    for files in (A, B):
        server.deploy(files)
    server.stop()
    shift_log(server.data, seconds)
    server = fork_server(server.data, *keep_one, port=server.port).ready()
    pod = fork_sidecar(server.url, tmp_path / "pod")
    shifted = server.current()
    assert pod.runs(shifted["version"]).tree() == B
    told = server.deploy(C)
    assert told["sequence"] == 3
    assert pod.runs(told["version"]).tree() == C
    log = check_server(server)
    times = [deploy["time"] for deploy in reversed(log)]
    assert times[2] >= times[1], "within a log the time never runs backwards"
    assert times[2] == (times[1] if seconds > 0 else pytest.approx(time.time(), abs=60))
    assert server.get(f"/default/dags/versions/{told['version']}")[0] == 200


@pytest.mark.parametrize("seconds", [YEAR_SECONDS, -YEAR_SECONDS], ids=["was ahead", "was behind"])
def test_a_swap_after_a_jump_of_the_clock_is_seen_by_airflow_and_keeps_no_tree_for_a_year(
    fork_server, fork_sidecar, tmp_path, seconds
) -> None:
    server = fork_server(tmp_path / "data").ready()
    flags = ("--keep-trees", "1", "--keep-hours", "0.0001", "--poll-wait", "1")
    pod = fork_sidecar(server.url, tmp_path / "pod", *flags)
    published = {}
    for files in (A, B):
        told = server.deploy(files)
        published[told["version"]] = files
        pod.runs(told["version"])
    pod.kill()
    shift_root(pod.root, seconds)
    before = {path: (pod.root / "current" / path).stat().st_mtime_ns for path in A}
    pod = fork_sidecar(server.url, pod.root, *flags)
    told = server.deploy(C)
    pod.runs(told["version"])
    assert check_root(pod.root, {told["version"]: C}) == told["version"]
    after = {path: (pod.root / "current" / path).stat().st_mtime_ns for path in A}
    for path in ("shop.py", "etl.py"):
        assert after[path] // 10**9 > before[path] // 10**9, f"{path} changed, or imports what did"
    assert after["sql/load.sql"] == before["sql/load.sql"]

    def swept() -> bool:
        try:
            check_no_root_leftovers(pod.root, 1)
        except AssertionError:
            return False
        return True

    eventually("only one old tree to stay", swept)
