"""Three servers of the chart on one bucket: rolled, killed, drained, and without it for a while. No deploy is lost."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import s3
from cluster.followers import becomes, follower, status_of, wait_for
from cluster.installed import LOOK_SECONDS, RELEASE, TIMEOUT, Installed, Load, files
from cluster.node import NODE
from cluster.outside import Cluster
from harness import pack

pytestmark = pytest.mark.slow

REPLICAS = 3
FOLLOWERS = ("scheduler", "worker", "triggerer")
DRAIN_SECONDS = 20
"""How long a drain is tried that cannot get through: this node is the only one."""
TOO_MANY = "would violate the pod's disruption budget"
AWAY_SECONDS = 30
"""For how long the store is away at least: as long as a server takes to ask again whether it can be written."""
TASKS = ("task-0", "task-1", "task-2", "task-3")
UNAVAILABLE = (503, "store_unavailable")
SERVER = "app.kubernetes.io/name=dagferry-server"


def values(installed: Installed, **more: Any) -> dict[str, Any]:
    return s3.values(replicas=REPLICAS, podLabels={"of": installed.namespace}, **more)


@pytest.fixture(scope="module")
def installed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """Three servers, and pods that follow them and have the first deploy."""
    with s3.s3(cluster, tmp_path_factory.mktemp("s3")):
        installed = Installed(cluster)
        installed.apply(s3.secret())
        installed.install(values(installed))
        with installed.service() as service:
            service.deploy(files("# first"), "prod")
        installed.follow(*FOLLOWERS)
        yield installed
        cluster.kubectl("delete", "namespace", installed.namespace, "--wait=false")


@pytest.fixture
def load(installed: Installed, tmp_path: Path) -> Iterator[Load]:
    """Deploys that go on while something happens to the servers."""
    with Load(installed, tmp_path).running() as load:
        load.more()
        yield load


def pods_of_servers(installed: Installed) -> list[Any]:
    """The servers' pods that are not ending."""
    pods = json.loads(installed.kubectl("get", "pods", f"--selector={SERVER}", "-o=json"))["items"]
    return [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]


def servers(installed: Installed) -> dict[str, bool]:
    """The names of the servers, and whether each is ready."""
    return {
        pod["metadata"]["name"]: any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in pod["status"].get("conditions", [])
        )
        for pod in pods_of_servers(installed)
    }


def all_ready(installed: Installed) -> bool:
    found = servers(installed)
    return (len(found) == REPLICAS and all(found.values())) or bool(time.sleep(LOOK_SECONDS))


def everything_arrived(installed: Installed, load: Load) -> None:
    """Fail unless each deploy that succeeded is in the log, in order, and once; and the pods have the newest."""
    load.more()
    load.end()
    with installed.service() as service:
        history = service.history()
    assert [entry["sequence"] for entry in history] == [*range(1, len(history) + 1)]
    ours = [entry["version"] for entry in history if entry["version"] >= load.versions[0]]
    assert ours == load.versions
    for name in FOLLOWERS:
        installed.reads(name, load.last)
    installed.undisturbed(*FOLLOWERS)


def test_the_status_is_of_all_servers(installed: Installed) -> None:
    with installed.service() as service:
        becomes("the fleet to be healthy", lambda: status_of(service)["state"] == "HEALTHY")
        assert status_of(service)["servers"] == {"asked": REPLICAS, "answered": REPLICAS}


def test_an_upgrade_refuses_no_deploy_and_as_many_servers_as_before_are_always_ready(
    installed: Installed, load: Load
) -> None:
    before = servers(installed)
    with installed.watched("deployments") as seen:
        installed.install(values(installed, podAnnotations={"rolled": "once"}))
        # Helm does not wait for the last of the old ones to go.
        installed.kubectl("rollout", "status", f"deployment/{RELEASE}-server", TIMEOUT)
    assert not before.keys() & servers(installed).keys()
    assert min(each["status"].get("readyReplicas", 0) for each in seen) >= REPLICAS
    everything_arrived(installed, load)
    assert load.failed == []


def test_a_server_that_is_killed_loses_no_deploy(installed: Installed, load: Load) -> None:
    [name, *_] = servers(installed)
    installed.kubectl("delete", "pod", name, "--force", "--grace-period=0")
    becomes("as many servers as before", lambda: name not in servers(installed) and all_ready(installed))
    everything_arrived(installed, load)


def test_a_drain_takes_one_server_and_waits_for_another_to_replace_it(installed: Installed, load: Load) -> None:
    """The only node is drained, so there is no place for another one: the drain does not get through."""
    drain = ("drain", NODE, f"--pod-selector=of={installed.namespace}", "--ignore-daemonsets")
    try:
        said = installed.cluster.kubectl(*drain, "--delete-emptydir-data", f"--timeout={DRAIN_SECONDS}s", fails=True)
        assert TOO_MANY in said
        found = servers(installed)
        assert sum(found.values()) == REPLICAS - 1
        load.more()
    finally:
        installed.cluster.kubectl("uncordon", NODE)
    becomes("as many servers as before", lambda: all_ready(installed))
    everything_arrived(installed, load)


def in_server(installed: Installed, pod: str, code: str) -> str:
    """What Python code prints in a server's container."""
    return installed.kubectl("exec", pod, "--container=server", "--", "/opt/dagferry/bin/python", "-c", code)


def reaches_store(installed: Installed, pod: str) -> bool:
    """Whether a server says that it does."""
    code = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8001/metrics').read().decode())"
    return "dagferry_server_store_reachable 1.0" in in_server(installed, pod, code).splitlines()


def has_bundle(installed: Installed, pod: str, digest: str) -> bool:
    """Whether a server has a bundle on its own disk."""
    cached = in_server(installed, pod, "import os; print(os.listdir('/var/lib/dagferry/.cache'))")
    return digest.removeprefix("sha256:") in cached


def restarts(installed: Installed) -> dict[str, int]:
    """How often each server was restarted."""
    return {
        pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"]
        for pod in pods_of_servers(installed)
    }


def test_while_the_store_is_away_new_tasks_start_nobody_is_unready_and_it_all_comes_back_by_itself(
    installed: Installed,
) -> None:
    before = restarts(installed)
    with installed.service() as service, installed.watched("deployments") as seen:
        digest = service.deploy(files("# last"), "prod")["digest"]
        for name in FOLLOWERS:
            installed.reads(name, "# last")
        becomes("all to have the bundle", lambda: all(has_bundle(installed, name, digest) for name in before))
        with s3.away(installed.cluster):
            began = time.monotonic()
            becomes("all to notice", lambda: not any(reaches_store(installed, name) for name in before))
            installed.apply(*(follower(name, "prod", part="workers.kubernetes") for name in TASKS))
            wait_for(installed, *TASKS)
            for name in TASKS:
                installed.reads(name, "# last")
            answers = []
            while not answers or time.monotonic() < began + AWAY_SECONDS:
                status, answer = service.request("/prod/dags/upload", pack(files("# away")))
                answers.append((status, json.loads(answer)["code"]))
            assert {*answers} == {UNAVAILABLE}
        becomes("all to notice", lambda: all(reaches_store(installed, name) for name in before))
        becomes("the fleet to be healthy", lambda: status_of(service)["state"] == "HEALTHY")
        service.deploy(files("# back"), "prod")
        for name in FOLLOWERS:
            installed.reads(name, "# back")
    assert min(each["status"].get("readyReplicas", 0) for each in seen) == REPLICAS
    assert restarts(installed) == before
    installed.undisturbed(*FOLLOWERS)


def test_there_is_no_volume_to_lose(installed: Installed) -> None:
    assert installed.get("persistentvolumeclaims")["items"] == []
    assert installed.get(f"deployment/{RELEASE}-server")["status"]["readyReplicas"] == REPLICAS
