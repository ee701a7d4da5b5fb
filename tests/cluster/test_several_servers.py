"""Three servers of the chart on one bucket: rolled, killed and drained under load. No deploy is lost."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import s3
from cluster.followers import becomes, status_of
from cluster.installed import LOOK_SECONDS, RELEASE, Installed, Load, files
from cluster.node import NODE
from cluster.outside import Cluster

pytestmark = pytest.mark.slow

REPLICAS = 3
FOLLOWERS = ("scheduler", "worker", "triggerer")
DRAIN_SECONDS = 20
"""How long a drain is tried that cannot get through: this node is the only one."""
TOO_MANY = "would violate the pod's disruption budget"
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


def servers(installed: Installed) -> dict[str, bool]:
    """The names of the servers' pods that are not ending, and whether each is ready."""
    pods = json.loads(installed.kubectl("get", "pods", f"--selector={SERVER}", "-o=json"))["items"]
    return {
        pod["metadata"]["name"]: any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in pod["status"].get("conditions", [])
        )
        for pod in pods
        if not pod["metadata"].get("deletionTimestamp")
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


def test_there_is_no_volume_to_lose(installed: Installed) -> None:
    assert installed.get("persistentvolumeclaims")["items"] == []
    assert installed.get(f"deployment/{RELEASE}-server")["status"]["readyReplicas"] == REPLICAS
