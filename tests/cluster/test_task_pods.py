"""Pods of single tasks (KubernetesExecutor) in a real cluster: what they start with, with a server and without."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.images import AIRFLOW
from cluster.outside import Cluster
from cluster.task_pods import TASK, TaskPods
from deployfiles import KUBERNETES, airflow_values, documents
from harness import eventually

pytestmark = pytest.mark.slow

AT_ONCE = 20
ANY_USER = 1000650000
"""As OpenShift chooses one; it is in group 0."""
MAX_LOG_SECONDS = 120
INIT_LOG = "--container=dagferry-once"


@pytest.fixture(scope="module")
def pods(cluster: Cluster) -> Iterator[TaskPods]:
    pods = TaskPods(cluster, {"resources": {"requests": {"cpu": "10m"}}, "tiers": 1})
    yield pods
    cluster.kubectl("delete", "namespace", pods.namespace, "--wait=false")


@pytest.fixture
def newest(pods: TaskPods, tmp_path: Path) -> str:
    """The second of two versions, which differ in each run."""
    for content in (f"# one of {tmp_path}\n", f"# two of {tmp_path}\n"):
        (tmp_path / "dags").mkdir(exist_ok=True)
        (tmp_path / "dags" / "dag.py").write_text(content)
        version = pods.deploy(tmp_path / "dags")
    pods.clear()
    return version


def seeded(pods: TaskPods, name: str) -> dict[str, Any]:
    """A task's pod that would have the DAGs of its image if nothing were deployed."""
    values = airflow_values("sidecar.yaml", "image-dags.yaml")
    init = values["workers"]["kubernetes"]["extraInitContainers"]
    init[0]["image"] = AIRFLOW  # the seed's
    return pods.pod(name, initContainers=init, volumes=values["volumes"])


def template(**labels: str) -> dict[str, Any]:
    """The shipped template, as any user, with these labels too."""
    [pod] = documents(KUBERNETES / "task-pod-template.yaml")
    pod["metadata"]["labels"] |= {"task": "true", **labels}
    pod["spec"]["securityContext"] |= {"runAsUser": ANY_USER, "runAsGroup": 0}
    pod["spec"]["containers"][0] |= {"image": AIRFLOW, "command": ["sh", "-c", TASK]}
    return dict(pod)


def test_many_task_pods_at_once_all_have_the_newest_version(pods: TaskPods, newest: str) -> None:
    pods.start(*(pods.pod(f"task-{number}") for number in range(AT_ONCE)))
    assert {ended.version for ended in pods.ended(AT_ONCE).values()} == {newest}


def test_without_a_server_they_wait_with_a_seed_too_and_start_with_the_newest_version_when_it_is_back(
    pods: TaskPods, newest: str
) -> None:
    pods.server_is_away()
    half = range(AT_ONCE // 2)
    pods.start(*(pods.pod(f"plain-{n}") for n in half), *(seeded(pods, f"seeded-{n}") for n in half))
    pods.waiting(AT_ONCE)
    for name in ("plain-0", "seeded-0"):
        eventually(
            "the reason",
            lambda name=name: "server_unreachable" in pods.kubectl("logs", name, INIT_LOG),
            MAX_LOG_SECONDS,
        )
    pods.waiting(AT_ONCE)
    pods.server_is_back()
    assert {ended.version for ended in pods.ended(AT_ONCE).values()} == {newest}


def test_one_that_gives_up_before_airflow_does_is_a_task_that_failed(pods: TaskPods, newest: str) -> None:
    """What --once-timeout in our values is for: pods of tasks have ``restartPolicy: Never``."""
    pods.server_is_away()
    pod = pods.pod("gives-up")
    [once] = json.loads(json.dumps(pod["spec"]["initContainers"]))
    once["args"] = [*(word for word in once["args"] if "timeout" not in word), "--once-timeout=2"]
    pod["spec"]["initContainers"] = [once]
    pods.start(pod)
    pods.kubectl("wait", "--for=jsonpath={.status.phase}=Failed", "pod/gives-up", "--timeout=120s")
    assert "Gave up after 2 s (--once-timeout)" in pods.kubectl("logs", "gives-up", INIT_LOG)
    pods.server_is_back()


def test_one_with_a_volume_that_another_has_left_starts_without_a_server(pods: TaskPods, newest: str) -> None:
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    metadata = {"name": "kept"}
    pods.start({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": claim})
    kept = [{"name": "dagferry", "persistentVolumeClaim": {"claimName": "kept"}}]
    volumes = [*kept, *(volume for volume in pods.values["volumes"] if volume["name"] != "dagferry")]
    security = pods.pod("")["spec"]["securityContext"] | {"fsGroup": 0}
    pods.start(pods.pod("first", volumes=volumes, securityContext=security))
    pods.ended(1)
    pods.server_is_away()
    pods.start(pods.pod("second", volumes=volumes, securityContext=security))
    assert pods.ended(2)["second"].version == newest
    pods.server_is_back()


def test_the_template_runs_as_any_user_and_its_label_opens_the_network_policy(pods: TaskPods, newest: str) -> None:
    pods.start(template())
    assert pods.ended(1)["task"].version == newest
    pods.clear()
    pods.start(template(tier="other"))

    def refused() -> bool:
        pods.waiting(1)
        return "server_unreachable" in pods.kubectl("logs", "task", INIT_LOG)

    eventually("the reason", refused, MAX_LOG_SECONDS)
    pods.clear()
