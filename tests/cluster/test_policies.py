"""The chart's NetworkPolicy, enforced in a real cluster: who reaches which port of the server, and what it reaches."""

import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cluster.installed import LOOK_SECONDS, SERVER_POD, TIMEOUT, Installed
from cluster.namespaces import restricted_namespace
from cluster.outside import Cluster
from cluster.workloads import python_pod
from harness import eventually

pytestmark = pytest.mark.slow

PUBLIC, ADMIN = 8000, 8001
APPLIED_SECONDS = 120
"""How long it may take until a changed policy is enforced."""
REACHED = """
import socket, sys
from concurrent.futures import ThreadPoolExecutor
def reached(port):
    try:
        socket.create_connection((sys.argv[1], port), timeout=4).close()
        return True
    except OSError:
        return False
ports = [int(port) for port in sys.argv[2:]]
with ThreadPoolExecutor() as threads:
    print(*[port for port, found in zip(ports, threads.map(reached, ports)) if found])
"""
"""Prints which ports of a host can be connected to."""
LISTENED = (443, 6443, 8443)
LISTEN = f"""
import socket, time
kept = [socket.create_server(("", port)) for port in {LISTENED}]
time.sleep(100000)
"""
SLEEP = "import time; time.sleep(100000)"
PEERS = {
    "deployer": {"dagferry-deployer": "true"},
    "airflow": {"tier": "airflow"},
    "other": {"app": "other"},
}
"""The pods of the server's namespace, with their labels."""
ELSEWHERE = {"dagferry-deployer": "true", "tier": "airflow", "app": "other"}
"""The labels of the pods of other namespaces: all of them."""
CI = {"namespaceSelector": {"matchLabels": {"peers": "ci"}}}
OTHER = {"podSelector": {"matchLabels": {"app": "other"}}}
NOBODY: dict[str, set[int]] = {name: set() for name in (*PEERS, "monitoring", "ci")}
ADMITTED = {
    "default": ({}, {"deployer": {PUBLIC}, "airflow": {PUBLIC}, "monitoring": {ADMIN}}),
    "uploadFrom": ({"uploadFrom": [CI]}, {"ci": {PUBLIC}, "airflow": {PUBLIC}, "monitoring": {ADMIN}}),
    "syncFrom": ({"syncFrom": [OTHER]}, {"deployer": {PUBLIC}, "other": {PUBLIC}, "monitoring": {ADMIN}}),
    "metricsFrom": ({"metricsFrom": [OTHER]}, {"deployer": {PUBLIC}, "airflow": {PUBLIC}, "other": {ADMIN}}),
    "off": ({"enabled": False}, {name: {PUBLIC, ADMIN} for name in NOBODY}),
}
"""Values under ``networkPolicy``, and who reaches which port; nobody else reaches any."""
EGRESS = {
    "default": ({}, {443, 6443}),
    "egressPorts": ({"egressPorts": [8443]}, {8443}),
    "off": ({"enabled": False}, set(LISTENED)),
}


class Peers:
    """Pods that try to reach the server, and one that the server tries to reach."""

    def __init__(self, cluster: Cluster) -> None:
        self.installed = installed = Installed(cluster)
        installed.install()
        ci = restricted_namespace(cluster)
        monitoring = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "monitoring"}}
        installed.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(monitoring))
        cluster.kubectl("label", "namespace", ci, "peers=ci")
        self._where = {name: (installed.namespace, name) for name in PEERS}
        self._where |= {"monitoring": ("monitoring", installed.namespace), "ci": (ci, "ci")}
        pods = [python_pod("listener", LISTEN)]
        pods += [python_pod(name, SLEEP, labels) for name, labels in PEERS.items()]
        for pod in pods:
            self._run(installed.namespace, pod)
        for name in ("monitoring", "ci"):
            namespace, pod_name = self._where[name]
            self._run(namespace, python_pod(pod_name, SLEEP, ELSEWHERE))
        installed.kubectl("wait", "--for=condition=Ready", "pods", "--all", TIMEOUT)
        for name in ("monitoring", "ci"):
            namespace, pod_name = self._where[name]
            cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", f"pod/{pod_name}", TIMEOUT)
        self.server, self.listener = (
            installed.get(f"pod/{name}")["status"]["podIP"] for name in (SERVER_POD, "listener")
        )

    def _run(self, namespace: str, pod: Mapping[str, Any]) -> None:
        self.installed.cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(pod))

    def close(self) -> None:
        namespace, pod = self._where["monitoring"]
        self.installed.cluster.kubectl("-n", namespace, "delete", "pod", pod, "--wait=false")

    def reach(self) -> dict[str, set[int]]:
        """Which ports of the server each peer connects to."""
        with ThreadPoolExecutor() as threads:
            found = threads.map(lambda name: self._reached(*self._where[name]), self._where)
            return dict(zip(self._where, found, strict=True))

    def _reached(self, namespace: str, pod: str) -> set[int]:
        command = ("exec", pod, "--", "python3", "-c", REACHED, self.server, str(PUBLIC), str(ADMIN))
        return {int(port) for port in self.installed.cluster.kubectl("-n", namespace, *command).split()}

    def reached_by_the_server(self) -> set[int]:
        """Which ports of another pod the server connects to."""
        command = ("exec", SERVER_POD, "--", "/opt/dagferry/bin/python", "-c", REACHED, self.listener)
        return {int(port) for port in self.installed.kubectl(*command, *map(str, LISTENED)).split()}


@pytest.fixture(scope="module")
def peers(cluster: Cluster) -> Any:
    peers = Peers(cluster)
    yield peers
    peers.close()


@pytest.mark.parametrize("row", ADMITTED)
def test_who_reaches_which_port_of_the_server(peers: Peers, row: str) -> None:
    values, expected = ADMITTED[row]
    peers.installed.install({"networkPolicy": values})
    settles({**NOBODY, **expected}, peers.reach)


@pytest.mark.parametrize("row", EGRESS)
def test_which_ports_the_server_reaches(peers: Peers, row: str) -> None:
    values, expected = EGRESS[row]
    peers.installed.install({"networkPolicy": values})
    settles(expected, peers.reached_by_the_server)


def test_the_server_resolves_names_whatever_ports_it_may_reach(peers: Peers) -> None:
    peers.installed.install({"networkPolicy": {"egressPorts": [8443]}})
    settles({8443}, peers.reached_by_the_server)
    resolve = "import socket; print(socket.gethostbyname('kubernetes.default.svc.cluster.local'))"
    assert peers.installed.kubectl("exec", SERVER_POD, "--", "/opt/dagferry/bin/python", "-c", resolve) == "10.96.0.1\n"


def settles(expected: Any, look: Any) -> None:
    """Wait until what is found is this; show what it was."""
    found: list[Any] = []

    def same() -> bool:
        found.append(look())
        return bool(found[-1] == expected) or bool(time.sleep(LOOK_SECONDS))

    try:
        eventually("the policy to be enforced", same, APPLIED_SECONDS)
    except AssertionError as reason:
        raise AssertionError(f"{found[-1]}, and not {expected}") from reason
