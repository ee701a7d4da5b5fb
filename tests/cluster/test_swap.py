"""What deploy/kubernetes ships, in a real cluster: a deploy is live in a running pod, which is not restarted."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.images import AIRFLOW, IMAGE_DAG
from cluster.installed import READ
from cluster.namespaces import restricted_namespace
from cluster.outside import Cluster
from cluster.workloads import airflow_pod
from credentials import TokensFile
from deployfiles import KUBERNETES, airflow_values, documents
from harness import eventually

NAMESPACE = "airflow"
"""The one that the shipped issuers file names."""
WAIT = "--timeout=180s"
VALUES = airflow_values("sidecar.yaml")
[TASK] = documents(KUBERNETES / "task-pod-template.yaml")


class Airflow:
    """The shipped server in a cluster, and who deploys to it."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self._folder = cluster, folder
        tokens = TokensFile(folder / "tokens.toml")
        self._secret = tokens.add("ci", ["deploy", "read"], ["prod"])
        restricted_namespace(cluster, name=NAMESPACE)
        self.kubectl("create", "secret", "generic", "dagferry-tokens", f"--from-file={tokens.path}")
        self.kubectl("apply", "-f", KUBERNETES / "server.yaml")
        self.kubectl("rollout", "status", "statefulset/dagferry-server", WAIT)

    def kubectl(self, *arguments: Any, **options: Any) -> str:
        return self.cluster.kubectl("-n", NAMESPACE, *arguments, **options)

    def deploy(self, content: str, *flags: str) -> None:
        """Deploy two files of this content with ``dagferry deploy``."""
        dags = self._folder / "project" / "dags"
        dags.mkdir(parents=True, exist_ok=True)
        for name in ("a.py", "b.py"):
            (dags / name).write_text(content)
        with self.cluster.port_forward(NAMESPACE, "dagferry-server") as url:
            done = subprocess.run(
                [sys.executable, "-m", "dagferry_client", "deploy", dags, *flags],
                env={
                    **os.environ,
                    "DAGFERRY_SERVER": url,
                    "DAGFERRY_DEPLOYMENT": "prod",
                    "DAGFERRY_TOKEN": self._secret,
                },
                capture_output=True,
                text=True,
                check=False,
            )
        assert done.returncode == 0, done.stdout + done.stderr

    def run(self, pod: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin=json.dumps(pod))

    def reads(self, pod: str, content: str) -> list[str]:
        """Wait until a pod's reader has read this; return the lines of its log."""
        self.kubectl("wait", "--for=condition=Ready", f"pod/{pod}", WAIT)
        container = f"--container={pod}"
        return eventually(
            f"{pod} to read {content}",
            lambda: (
                lines if f"reads {content}" in (lines := self.kubectl("logs", pod, container).splitlines()) else None
            ),
        )


@pytest.fixture(scope="module")
def airflow(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    yield Airflow(cluster, tmp_path_factory.mktemp("airflow"))
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")  # its server has a CPU of its own


def test_a_pod_has_the_dags_of_its_image_until_the_first_deploy_and_one_with_an_empty_seed_waits(
    airflow: Airflow,
) -> None:
    # It is the first of this file: nothing is deployed yet.
    pods = {"seeded": {}, "unseeded": {"imageDags": "/absent"}}
    for name, ours in pods.items():
        values = airflow_values("sidecar.yaml", "image-dags.yaml", **ours)
        init = values["dagProcessor"]["extraInitContainers"]
        init[0]["image"] = AIRFLOW  # the seed's
        airflow.run(airflow_pod(name, init, values["volumes"], values["volumeMounts"], READ))
    airflow.reads("seeded", IMAGE_DAG)
    log = "--container=dagferry-once"
    eventually("the reason", lambda: "has no files" in airflow.kubectl("logs", "unseeded", log))
    assert airflow.kubectl("get", "pod", "unseeded", "-o=jsonpath={.status.phase}") == "Pending"
    airflow.deploy("# first")
    assert airflow.reads("seeded", "# first") == [f"reads {IMAGE_DAG}", "reads # first"]
    assert airflow.reads("unseeded", "# first") == ["reads # first"]
    for name in pods:
        status = json.loads(airflow.kubectl("get", "pod", name, "-o=json"))["status"]
        assert {each["restartCount"] for each in (*status["initContainerStatuses"], *status["containerStatuses"])} == {
            0
        }
        airflow.kubectl("delete", "pod", name, "--wait=false")


def test_a_deploy_is_live_in_a_running_pod_that_is_not_restarted(airflow: Airflow) -> None:
    airflow.deploy("# one")
    init = VALUES["dagProcessor"]["extraInitContainers"]
    airflow.run(airflow_pod("dag-processor", init, VALUES["volumes"], VALUES["volumeMounts"], READ))
    airflow.reads("dag-processor", "# one")
    airflow.deploy("# two", "--wait")
    assert airflow.reads("dag-processor", "# two") == ["reads # one", "reads # two"]
    pod = json.loads(airflow.kubectl("get", "pod", "dag-processor", "-o=json"))["status"]
    assert [status["restartCount"] for status in (*pod["initContainerStatuses"], *pod["containerStatuses"])] == [
        0,
        0,
        0,
    ]


def test_a_task_s_pod_has_the_newest_deploy_and_ends(airflow: Airflow) -> None:
    airflow.deploy("# for a task")
    pod = json.loads(json.dumps(TASK))
    pod["spec"]["containers"][0] |= {
        "image": AIRFLOW,
        "command": ["python3", "-c", "print(open('/dags/current/a.py').read())"],
    }
    airflow.run(pod)
    airflow.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/task", WAIT)
    assert airflow.kubectl("logs", "task") == "# for a task\n"
