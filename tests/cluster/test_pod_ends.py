"""Airflow's pods end in a real cluster, drained, killed or rolled: no task sees two trees, and nobody misses them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.followers import (
    SIDECAR,
    becomes,
    follower,
    installation,
    pods_of,
    state_of,
    wait_for,
    watched_status,
    workload,
)
from cluster.images import PAUSE
from cluster.installed import TIMEOUT, Installed, Service, files
from cluster.outside import Cluster

pytestmark = pytest.mark.slow

NEW_IMAGE = PAUSE
"""Another one with the same Python: a newer image of Airflow."""
ROLLED = ("deployment", "statefulset")
REPLICAS = 2
GRACE_SECONDS = 120
TASK = """
import os, signal, time
drained = []
signal.signal(signal.SIGTERM, lambda *_: drained.append(True))
tree = os.path.realpath("/dags/current")  # as the plugin pins a task
read = lambda folder: {open(os.path.join(folder, name)).read() for name in ("a.py", "b.py")}
while not os.path.exists("/tmp/end"):
    assert read(tree) == {"# one"}
    if drained:
        print("drains")
        drained.clear()
    time.sleep(0.01)
print("the task ends with", *read(tree), "and the folder has", *read("/dags/current"))
"""


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Iterator[Installed]:
    expected: list[Any] = [{"name": name, "expected": {name: REPLICAS}} for name in ROLLED]
    with installation(cluster, [{"name": "drained"}, {"name": "killed"}, *expected]) as installed:
        yield installed


@pytest.fixture(scope="module")
def service(installed: Installed) -> Iterator[Service]:
    with installed.service() as service:
        yield service


def deploy_and_wait(service: Service, content: str, deployment: str, folder: Path) -> None:
    """Deploy with ``dagferry deploy --wait``."""
    for name, data in files(content).items():
        (folder / name).write_bytes(data)
    command = [sys.executable, "-m", "dagferry_client", "deploy", str(folder), f"--server={service.url}"]
    done = subprocess.run(
        [*command, f"--deployment={deployment}", "--wait"],
        env={**os.environ, "DAGFERRY_TOKEN": service.token}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_draining_worker_s_task_ends_with_its_version_while_a_deploy_goes_live_and_waits_for_nobody(
    installed: Installed, service: Service, tmp_path: Path
) -> None:
    service.deploy(files("# one"), "drained")
    installed.apply(follower("drained", "drained", TASK, terminationGracePeriodSeconds=GRACE_SECONDS))
    installed.apply(follower("stays", "drained"))
    wait_for(installed, "drained", "stays")
    with installed.watched("pod/drained") as states, watched_status(service, "drained") as seen:
        becomes("both pods", lambda: seen[-1]["counts"]["live"] == 2)
        del seen[:-1]
        installed.kubectl("delete", "pod/drained", "--wait=false")
        log = ("logs", "--container=drained", "drained")
        becomes("the signal", lambda: "drains" in installed.kubectl(*log))
        deploy_and_wait(service, "# two", "drained", tmp_path)
        drains = installed.get("pod/drained")
        assert "deletionTimestamp" in drains["metadata"]
        assert {*state_of(drains, "drained")["state"], *state_of(drains)["state"]} == {"running"}
        # Its sidecar follows until the task ends: to the server it is a pod like others.
        assert seen[-1]["counts"]["live"] == 2
        installed.kubectl("exec", "drained", "--container=drained", "--", "touch", "/tmp/end")
        becomes("its goodbye", lambda: seen[-1]["counts"]["known"] == 1)
        installed.kubectl("wait", "--for=delete", "pod/drained", TIMEOUT)
    last = [state for state in states if "terminated" in state_of(state, "drained").get("state", {})][-1]
    ended, sidecar = (state_of(last, name)["state"]["terminated"] for name in ("drained", SIDECAR))
    assert (ended["exitCode"], sidecar["exitCode"]) == (0, 0), "the task has read only what it started with"
    assert ended["finishedAt"] <= sidecar["finishedAt"], "the sidecar ends last"
    assert {status["state"] for status in seen} <= {"HEALTHY", "DEPLOYING"}
    assert seen[-1]["state"] == "HEALTHY"


def test_a_worker_that_is_killed_at_the_end_of_its_grace_is_not_missed(installed: Installed, service: Service) -> None:
    service.deploy(files("# one"), "killed")
    for name in ("killed", "stays-too"):
        installed.apply(follower(name, "killed", TASK))  # it would drain for ever, and has a second
    wait_for(installed, "killed", "stays-too")
    with watched_status(service, "killed") as seen:
        becomes("both pods", lambda: seen[-1]["counts"]["live"] == 2)
        del seen[:-1]
        installed.kubectl("delete", "pod/killed", TIMEOUT)
        becomes("its goodbye", lambda: seen[-1]["counts"]["known"] == 1)
    assert {status["state"] for status in seen} <= {"HEALTHY", "DEPLOYING"}


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_a_new_image_of_airflow_changes_no_version_and_degrades_no_fleet(
    installed: Installed, service: Service, kind: str
) -> None:
    name = kind.lower()
    service.deploy(files("# one"), name)
    before = service.history(name)
    installed.apply(workload(kind, follower(name, name), REPLICAS))
    installed.kubectl("rollout", "status", f"{name}/{name}", TIMEOUT)
    with watched_status(service, name) as seen:
        becomes("the fleet to be healthy", lambda: seen[-1]["state"] == "HEALTHY")
        del seen[:-1]
        old = {pod["metadata"]["uid"] for pod in pods_of(installed, name)}
        installed.kubectl("set", "image", f"{name}/{name}", f"{name}={NEW_IMAGE}")
        installed.kubectl("rollout", "status", f"{name}/{name}", TIMEOUT)

        def new_alone() -> list[dict[str, Any]] | None:
            pods = pods_of(installed, name)
            return pods if len(pods) == REPLICAS and not old & {pod["metadata"]["uid"] for pod in pods} else None

        pods = becomes("the old pods to be gone", new_alone)
        names = {pod["metadata"]["name"] for pod in pods}
        becomes(
            "the new pods alone",
            lambda: seen[-1]["state"] == "HEALTHY" and {one["instance"] for one in seen[-1]["sidecars"]} == names,
        )
    assert {state_of(pod, name)["image"] for pod in pods} == {NEW_IMAGE}
    assert {status["state"] for status in seen} <= {"HEALTHY", "DEPLOYING"}, [status["reason"] for status in seen]
    assert {one["live"] for status in seen for one in status["sidecars"]} == {before[-1]["version"]}
    assert service.history(name) == before
    assert seen[-1]["counts"]["known"] == REPLICAS
