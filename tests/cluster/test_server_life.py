"""The chart's server is rolled, killed, and lost with its node: no deploy is lost, and nobody is silent."""

import http.client
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cluster.installed import LOOK_SECONDS, RELEASE, SERVER_POD, TIMEOUT, WAIT_SECONDS, Installed, Load, Service, files
from cluster.node import NODE
from cluster.outside import Cluster
from harness import eventually, pack

pytestmark = pytest.mark.slow

FOLLOWERS = ("scheduler", "worker", "triggerer")
VALUES = {"deployments": [{"name": "prod"}, {"name": "other"}]}
ANSWER_SECONDS = 60
REST_BYTES, BYTE_SECONDS = 20, 0.5
"""How slow an upload is whose server is to end: 10 s, of the 25 that the server waits."""
NOT_READY_SECONDS = 120
"""How long it takes the control plane to miss a node: 50 s, and what a busy machine adds."""


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Installed:
    """The server, and pods that follow it and have its first deploy."""
    installed = Installed(cluster)
    installed.install(VALUES)
    with installed.service() as service:
        for name in ("prod", "other"):
            service.deploy(files("# first"), name)
    installed.follow(*FOLLOWERS)
    return installed


@pytest.fixture
def load(installed: Installed, tmp_path: Path) -> Iterator[Load]:
    """Deploys that go on while something happens to the server."""
    with Load(installed, tmp_path).running() as load:
        load.more()
        yield load


def restarted(installed: Installed, before: tuple[str, int]) -> bool:
    """Return whether another pod or another container is ready."""
    time.sleep(LOOK_SECONDS)
    pods = [pod for pod in installed.get("pods")["items"] if pod["metadata"]["name"] == SERVER_POD]
    return any(
        status["ready"] and (pod["metadata"]["uid"], status["restartCount"]) != before
        for pod in pods
        for status in pod["status"].get("containerStatuses", [])
    )


def last(pods: list[Any], uid: str) -> Any:
    """The newest state of a pod that is watched."""
    return [pod for pod in pods if pod["metadata"]["uid"] == uid][-1]


def ready_endpoints(slices: list[Any], uid: str) -> Iterator[bool]:
    """Whether the Service sends requests to a pod, as the newest states that were watched say."""
    newest = {each["metadata"]["name"]: each for each in slices}
    for each in newest.values():
        if each["metadata"]["labels"]["kubernetes.io/service-name"] != f"{RELEASE}-server":
            continue  # the admin Service keeps it, because Prometheus is to see it while it ends
        for endpoint in each.get("endpoints") or []:
            if endpoint["targetRef"]["uid"] == uid:
                yield endpoint["conditions"]["ready"]


def everything_arrived(installed: Installed, load: Load, *pods: str) -> None:
    """Fail unless each deploy that succeeded is in the log, in order, and once; and these pods have the newest."""
    load.more()
    load.end()
    with installed.service() as service:
        ours = [entry["version"] for entry in service.history() if entry["version"] >= load.versions[0]]
    assert ours == load.versions
    for name in pods:
        installed.reads(name, load.last)


def ask(service: Service, method: str, path: str, **headers: object) -> http.client.HTTPConnection:
    """Begin a request; its body, if any, is still to be sent."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=ANSWER_SECONDS)
    connection.putrequest(method, path)
    for name, value in {**service.headers, **headers}.items():
        connection.putheader(name.replace("_", "-"), str(value))
    connection.endheaders()
    return connection


def test_an_upgrade_loses_no_deploy_and_leaves_nobody_waiting(installed: Installed, load: Load) -> None:
    """The Service leaves the server first. An upload that is being received is finished; who waits is answered."""
    uid, _ = installed.started()
    body = pack(files("# slow"))
    with (
        installed.service() as service,
        installed.watched("pods") as pods,
        installed.watched("endpointslices") as slices,
        ThreadPoolExecutor() as threads,
    ):
        pod = Service(service.port, installed.cluster.token(installed.namespace, "default", "dagferry"))
        upload = ask(service, "POST", "/other/dags/upload", Content_Type="application/gzip", Content_Length=len(body))
        upload.send(body[:-REST_BYTES])
        tag = f'"{pod.current("other")["version"]}"'
        waiter = ask(pod, "GET", "/other/dags/current", If_None_Match=tag, Prefer="wait=50")
        upgrade = threads.submit(installed.install, VALUES | {"podAnnotations": {"rolled": uid}})
        eventually("the pod to be ended", lambda: last(pods, uid)["metadata"].get("deletionTimestamp"), WAIT_SECONDS)
        eventually("the Service to leave it", lambda: not any(ready_endpoints(slices, uid)), WAIT_SECONDS)
        assert waiter.getresponse().status == 304
        for byte in body[-REST_BYTES:]:
            upload.send(bytes([byte]))
            time.sleep(BYTE_SECONDS)
        answer = upload.getresponse()
        assert answer.status == 200, answer.read()
        slow = json.loads(answer.read())["version"]
        upgrade.result()
        ended = last(pods, uid)["status"]["containerStatuses"][0]["state"]["terminated"]
        assert ended["exitCode"] == 0, ended
        assert slow in [entry["version"] for entry in service.history("other")]
    assert installed.started()[0] != uid
    everything_arrived(installed, load, *FOLLOWERS)
    installed.undisturbed(*FOLLOWERS)


def kill_process(installed: Installed) -> None:
    os.kill(installed.server_process(), signal.SIGKILL)


def delete_pod(installed: Installed) -> None:
    installed.kubectl("delete", "pod", SERVER_POD, "--force", "--grace-period=0")


@pytest.mark.parametrize("kill", [kill_process, delete_pod])
def test_a_server_that_is_killed_loses_no_deploy_and_is_followed_again(
    installed: Installed, load: Load, kill: Callable[[Installed], None]
) -> None:
    before = installed.started()
    kill(installed)
    eventually("another start", lambda: restarted(installed, before), WAIT_SECONDS)
    everything_arrived(installed, load, *FOLLOWERS)
    installed.undisturbed(*FOLLOWERS)


def test_a_node_that_loses_power_keeps_the_deploys_and_all_pods_come_back(installed: Installed, load: Load) -> None:
    """It is the last of this file, because it ends the pods of the others.

    All processes of the node are killed, and what its memory held is gone: mounts, networks, containers."""
    installed.follow("lost", restart="Always")
    cluster, before = installed.cluster, installed.started()
    cluster.order("power-off")
    cluster.kubectl("wait", "--for=condition=Ready=Unknown", f"node/{NODE}", f"--timeout={NOT_READY_SECONDS}s")
    cluster.order("power-on")
    cluster.wait_for_node()
    installed.kubectl("rollout", "status", "statefulset", TIMEOUT)
    assert restarted(installed, before)
    everything_arrived(installed, load, "lost")
