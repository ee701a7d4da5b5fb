"""Servers that are cut off: from each other, from the store, and all of them from the store for a while."""

import json
import time
from pathlib import Path

import pytest

from harness import Server, Sidecar, eventually, pack
from server_processes import LONG, Servers, attempt, hears, sequence, status, unique

pytestmark = pytest.mark.slow

AWAY_SECONDS = 60 if LONG else 4
"""For how long the store is away."""


def state(server: Server) -> str:
    found: str = status(server)["state"]
    return found


def is_ready(server: Server) -> bool:
    return server.get("/readyz")[0] == 200


@pytest.fixture
def follow(tmp_path: Path, cleanup):
    """Start a sidecar that ends with the test."""

    def follow(server: Server, name: str) -> Sidecar:
        sidecar = Sidecar(server.url, tmp_path / name)
        cleanup.insert(0, sidecar.kill)
        return sidecar

    return follow


def test_servers_that_do_not_reach_each_other_go_on_by_the_store_and_say_that_they_miss_some(several, follow) -> None:
    cluster: Servers = several(3)
    one, other, third = cluster.start_all()
    pods = [follow(one, "pod-one"), follow(other, "pod-other")]
    version = one.deploy(unique(1))["version"]
    for pod in pods:
        pod.runs(version)
    for server in (one, other, third):
        eventually("it to know both pods", lambda server=server: state(server) == "HEALTHY")

    for wire in (*cluster.between(0, 1), *cluster.between(0, 2)):
        wire.cut()
    for server in (one, other, third):
        eventually("it to miss somebody", lambda server=server: hears(server)[1] < hears(server)[0])
        eventually("it to be unsure", lambda server=server: state(server) != "HEALTHY")
        assert is_ready(server)
    # Both sides take deploys, in one log, and their pods get those of the other side.
    for number, server in enumerate((one, other, one, third), 2):
        told = server.deploy(unique(number))
        assert told["sequence"] == number
        for pod in pods:
            pod.runs(told["version"])
    for wire in cluster.wires.values():
        wire.mend()
    for server in (one, other, third):
        eventually("all to be well", lambda server=server: state(server) == "HEALTHY" and hears(server) == (3, 3))
    cluster.verified(entries=5)


def test_a_server_cut_off_from_the_store_leaves_requests_to_the_others_until_it_is_back(several, follow) -> None:
    cluster: Servers = several(2)
    cut, other = cluster.start_all()
    pods = [follow(cut, "pod-cut"), follow(other, "pod-other")]
    first = cut.deploy(unique(1))["version"]
    for pod in pods:
        pod.runs(first)
    cluster.proxies[0].go_away()
    eventually("it not to be ready, as the other one is", lambda: not is_ready(cut))
    assert is_ready(other)
    assert attempt(cut, unique(2))[0] == 503
    second = other.deploy(unique(2))["version"]
    pods[1].runs(second)
    # It knows from its peer that there is something newer, and cannot read it: its pod keeps what it has.
    assert pods[0].live == first
    assert pods[0].process.poll() is None
    new = follow(other, "pod-new").runs(second)
    assert new.tree() == unique(2)
    cluster.proxies[0].away = False
    pods[0].runs(second)
    eventually("it to be ready again", lambda: is_ready(cut))
    assert cut.deploy(unique(3))["sequence"] == 3
    cluster.verified(entries=3)


def test_while_the_store_is_away_pods_keep_what_they_have_and_new_ones_start_and_all_goes_on_by_itself(
    several, follow
) -> None:
    cluster: Servers = several(2)
    servers = cluster.start_all()
    pods = [follow(server, f"pod-{number}") for number, server in enumerate(servers)]
    version = servers[0].deploy(unique(1))["version"]
    for pod in pods:
        pod.runs(version)
    eventually("all to be well", lambda: state(servers[0]) == "HEALTHY")
    processes = [process.process.pid for process in (*servers, *pods)]
    for proxy in cluster.proxies:
        proxy.go_away()
    began = time.monotonic()
    for number, server in enumerate(servers):
        eventually("it to be noticed", lambda server=server: b"store_reachable 0.0" in server.get("/metrics")[1])
        code, body = server.request("/default/dags/upload", pack(unique(2)))
        assert (code, json.loads(body)["code"]) == (503, "store_unavailable")
        # A pod that starts now gets the current deploy: the server has it in its cache.
        new = follow(server, f"new-{number}").runs(version)
        assert new.tree() == unique(1)
    while time.monotonic() - began < AWAY_SECONDS:
        _check_all_is_served(servers, pods, version)
        time.sleep(0.5)
    for proxy in cluster.proxies:
        proxy.away = False
    for number, server in enumerate(servers, 2):
        told = eventually("an upload", lambda server=server, number=number: _deployed(server, number))
        assert told["sequence"] == number
        for pod in pods:
            pod.runs(told["version"])
    for server in servers:
        eventually("the other one's deploy", lambda server=server: sequence(server) == 3)
        eventually("all to be well", lambda server=server: state(server) == "HEALTHY")
    assert processes == [process.process.pid for process in (*servers, *pods)]
    assert all(process.process.poll() is None for process in (*servers, *pods))
    cluster.verified(entries=3)


def _check_all_is_served(servers: list[Server], pods: list[Sidecar], version: str) -> None:
    for server in servers:
        assert is_ready(server)
        assert server.current()["version"] == version
        assert attempt(server, unique(2))[0] == 503
    for pod in pods:
        assert (pod.live, pod.probe("/readyz")[0]) == (version, 200)


def _deployed(server: Server, number: int) -> dict | None:
    code, told = attempt(server, unique(number))
    assert code in (200, 503), told
    return told if code == 200 else None
