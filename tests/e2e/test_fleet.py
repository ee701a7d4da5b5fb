"""The status of a fleet of real sidecars: green when all of them have the newest deploy, and never before."""

import json
import signal
import time
from pathlib import Path
from typing import Any

from credentials import issuers_file
from harness import Process, Server, Sidecar, eventually
from issuer import issuer_in_a_thread, kubernetes_claims

PODS = 4
A = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n"}
B = {**A, "shop.py": b"rate = 2\n"}
C = {**A, "shop.py": b"rate = 3\n"}
FAST = '[ {{ name = "default", converge-seconds = 1, expected = {{ worker = {workers} }} }} ]'


def status(server: Server) -> dict[str, Any]:
    code, body = server.get("/default/dags/status")
    assert code == 200, body
    return json.loads(body)


def becomes(server: Server, state: str, reason: str = "") -> dict[str, Any]:
    """The status as soon as it is that."""
    found: dict[str, Any] = {}

    def look() -> bool:
        found.update(status(server))
        return found["state"] == state and reason in found["reason"]

    try:
        eventually(f"{state}: {reason}", look)
    except AssertionError as error:
        raise AssertionError(f"{error}; it is {found}") from error
    return found


def stop(process: Process) -> None:
    process.process.send_signal(signal.SIGSTOP)


def resume(process: Process) -> None:
    process.process.send_signal(signal.SIGCONT)


def serving(serve, tmp_path: Path, workers: int = PODS, **options: Any) -> Server:
    file = tmp_path / "deployments.toml"
    file.write_text(f"deployments = {FAST.format(workers=workers)}\n")
    return serve("--deployments-file", str(file), **options)


def fleet_of(server: Server, follow, pods: int = PODS) -> list[Sidecar]:
    return [follow(server, f"worker-{number}", "--component", "worker") for number in range(pods)]


def test_a_fleet_is_seen_converging_breaking_and_recovering(serve, follow, tmp_path) -> None:
    server = serving(serve, tmp_path)
    assert status(server)["state"] == "EMPTY"
    first = server.deploy(A)["version"]
    becomes(server, "DEGRADED", "0 of 4 expected pods of worker are there.")
    pods = fleet_of(server, follow)
    told = becomes(server, "HEALTHY", f"All 4 pods have {first} live.")
    assert {pod["live"] for pod in told["sidecars"]} == {first}
    assert all(pod.live == first for pod in pods)

    # One is hung: the others converge, and it is named.
    stop(pods[1])
    second = server.deploy(B)["version"]
    becomes(server, "DEGRADED", "worker-1 has lacked the newest deploy for more than 1 s.")
    told = status(server)
    assert (told["counts"]["live"], told["counts"]["behind"]) == (3, 1)
    resume(pods[1])
    becomes(server, "HEALTHY", f"All 4 pods have {second} live.")

    # One is killed, and its container restarts: it is the same pod.
    pods[2].kill()
    third = server.deploy(C)["version"]
    becomes(server, "DEGRADED", "worker-2 has lacked the newest deploy")
    ids = {pod["id"] for pod in status(server)["sidecars"]}
    pods[2] = follow(server, "worker-2", "--component", "worker")
    told = becomes(server, "HEALTHY", f"All 4 pods have {third} live.")
    assert {pod["id"] for pod in told["sidecars"]} == ids

    # One deregisters.
    pods[3].stop()
    becomes(server, "DEGRADED", "3 of 4 expected pods of worker are there.")

    # Another one comes in its place, with an empty volume; one more has the name of another.
    follow(server, "worker-4", "--component", "worker")
    becomes(server, "HEALTHY", f"All 4 pods have {third} live.")
    follow(server, "worker-5", "--component", "worker", "--instance", "worker-0")
    told = becomes(server, "HEALTHY", f"All 5 pods have {third} live.")
    assert [pod["instance"] for pod in told["sidecars"]].count("worker-0") == 2
    metrics = server.get("/metrics")[1].decode()
    assert 'dagferry_server_fleet_state{deployment="default",state="HEALTHY"} 1.0' in metrics
    assert 'dagferry_server_sidecars{deployment="default",state="live"} 5.0' in metrics


def test_a_pod_that_cannot_publish_is_named_with_its_error(serve, follow, tmp_path) -> None:
    server = serving(serve, tmp_path, workers=2)
    first = server.deploy(A)["version"]
    pods = fleet_of(server, follow, 2)
    becomes(server, "HEALTHY")
    # Something has the name of the link: the tree cannot be swapped in.
    link = pods[0].root / "current"
    stop(pods[0])
    link.unlink()
    link.mkdir()
    (link / "file").touch()
    resume(pods[0])
    server.deploy(B)
    told = becomes(server, "DEGRADED", "worker-0 reports an error: root_unusable")
    assert {pod["instance"]: pod["state"] for pod in told["sidecars"]} == {"worker-0": "failing", "worker-1": "live"}
    assert pods[0].live != first
    (link / "file").unlink()
    link.rmdir()
    becomes(server, "HEALTHY")


def test_init_containers_count_nowhere_and_the_sidecar_after_one_is_confirmed_at_once(serve, follow, tmp_path) -> None:
    server = serve()
    version = server.deploy(A)["version"]
    once = follow(server, "pod-0", "--once")
    assert once.process.wait(30) == 0
    assert status(server)["counts"]["known"] == 0
    follow(server, "pod-0", "--poll-interval", "60").runs(version)
    becomes(server, "HEALTHY", "The only pod has")


def test_after_a_restart_nothing_is_claimed_for_a_full_wait(serve, follow, tmp_path) -> None:
    server = serving(serve, tmp_path, workers=1)
    server.deploy(A)
    pods = fleet_of(server, follow, 1)
    becomes(server, "HEALTHY")
    server.stop()
    server = serving(serve, tmp_path, workers=1, port=server.port)
    told = becomes(server, "UNKNOWN", "The server has not run for 75 s yet")
    eventually("the pod to be confirmed", lambda: status(server)["counts"]["live"] == 1)
    assert told["version"] == pods[0].live
    assert status(server)["state"] == "UNKNOWN"


def test_a_log_that_was_lost_turns_no_pod_of_the_old_one_green(serve, follow, tmp_path) -> None:
    server = serving(serve, tmp_path, workers=1)
    old = server.deploy(A)["version"]
    (pod,) = fleet_of(server, follow, 1)
    becomes(server, "HEALTHY")
    stop(pod)
    server.stop()
    server = serving(serve, tmp_path, workers=1, data="other", port=server.port)
    time.sleep(1)  # a version has the second of its deploy, and this log begins with the same number
    new = server.deploy(B)["version"]
    becomes(server, "DEGRADED", "0 of 1 expected pods")
    resume(pod)
    assert becomes(server, "HEALTHY")["sidecars"][0]["live"] == new
    assert pod.live == new != old


def test_a_pod_with_its_own_token_reports_for_no_other(serve, follow, tmp_path) -> None:
    rules = """
claims = { sub = "system:serviceaccount:airflow:*" }
scopes = ["sync", "read", "deploy"]
deployments = ["default"]
"""
    with issuer_in_a_thread() as cluster:
        issuers = issuers_file(tmp_path / "issuers.toml", cluster.url, rules, name="cluster", kind="kubernetes")
        server = serve("--issuers-file", issuers)
        server.headers = {"Authorization": f"Bearer {cluster.token(**kubernetes_claims())}"}
        version = server.deploy(A)["version"]
        tokens = {}
        for name in ("worker-0", "liar"):
            tokens[name] = tmp_path / f"token-{name}"
            tokens[name].write_text(cluster.token(**kubernetes_claims(pod=name)))
        follow(server, "worker-0", "--token-file", str(tokens["worker-0"])).runs(version)
        becomes(server, "HEALTHY", "The only pod has")
        # It claims to be worker-0, to be somewhere else, and to be gone.
        liar = {"Authorization": tokens["liar"].read_text(), "Dagferry_Instance": "worker-0"}
        current = "/default/dags/current"
        assert server.get(current, **liar, Dagferry_Live=version.replace("000001", "000009"))[0] == 200
        told = becomes(server, "DEGRADED", "liar claims to have")
        assert [pod["instance"] for pod in told["sidecars"]] == ["liar", "worker-0"]
        assert server.get(current, **liar, Dagferry_Deregister="1")[0] == 200
        told = becomes(server, "HEALTHY", "The only pod has")
        assert [pod["instance"] for pod in told["sidecars"]] == ["worker-0"]
