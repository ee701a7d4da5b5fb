"""Task pods as KubernetesExecutor starts them with our values for Airflow's chart, and the server of our chart."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from charts import CHART, RELEASE
from cluster.api import Api
from cluster.namespaces import restricted_namespace
from cluster.workloads import python_pod
from deployfiles import airflow_values
from harness import eventually

WAIT_SECONDS = 300
"""How long pods may take to do something on a busy machine."""
LOOK_SECONDS = 0.5
IMAGE = "--set=image.registry=docker.io,image.repository=library/dagferry-server"
"""The server's image as the cluster has it."""
SERVER = f"{RELEASE}-server"
ONCE = "dagferry-once"
TASK = "date +%s.%N > /dev/termination-log && readlink /dags/current >> /dev/termination-log || true"
"""A stand-in for a task: it ends at once, and says when it was started, and with which version."""


class Ended(NamedTuple):
    """When the task of a pod was started, in seconds since the epoch, and the version that it had ("" for none)."""

    started: float
    version: str


class TaskPods:
    """The server, installed by our chart in a namespace of its own, and pods of single tasks beside it."""

    def __init__(self, cluster: Api, values: Mapping[str, Any] | None = None) -> None:
        self.cluster = cluster
        self.namespace = restricted_namespace(cluster)
        self.values = airflow_values("sidecar.yaml")
        self.install(values or {})

    def install(self, values: Mapping[str, Any]) -> None:
        """Install or change the server, and wait until it is ready."""
        command = ["upgrade", "--install", RELEASE, str(CHART), IMAGE, "-n", self.namespace, "-f", "-"]
        self.cluster.helm(*command, "--wait", f"--timeout={WAIT_SECONDS}s", stdin=json.dumps(values))

    def kubectl(self, *arguments: Any, **options: Any) -> str:
        return self.cluster.kubectl("-n", self.namespace, *arguments, **options)

    # --- the server ---------------------------------------------------------------------------------------------------

    def server_is_away(self) -> None:
        """End the server, and wait until it is gone."""
        self.kubectl("scale", "statefulset", SERVER, "--replicas=0")
        self.kubectl("wait", "--for=delete", f"pod/{SERVER}-0", f"--timeout={WAIT_SECONDS}s")

    def server_is_back(self) -> None:
        """Start the server again, and wait until it is ready."""
        self.kubectl("scale", "statefulset", SERVER, "--replicas=1")
        self.kubectl("rollout", "status", f"statefulset/{SERVER}", f"--timeout={WAIT_SECONDS}s")

    def run_beside_server(self, code: str) -> str:
        """What Python code prints in the server's container, whose process 1 is the server."""
        return self.kubectl("exec", f"{SERVER}-0", "--", "/opt/dagferry/bin/python", "-c", code)

    def deploy(self, dags: Path) -> str:
        """Deploy a folder with ``dagferry deploy``; return its version."""
        secret = f"secret/{RELEASE}-deploy-token"
        token = self.kubectl("get", secret, "-o=go-template={{.data.token | base64decode}}")
        with self.cluster.port_forward(self.namespace, SERVER) as url:
            command = [sys.executable, "-m", "dagferry_client", "deploy", str(dags), "--server", url]
            environment = {**os.environ, "DAGFERRY_TOKEN": token, "DAGFERRY_DEPLOYMENT": "prod"}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    # --- the pods -----------------------------------------------------------------------------------------------------

    def pod(self, name: str, *, init: bool = True, **replaced: Any) -> dict[str, Any]:
        """The pod of a task; without ``init`` it has no init container of ours. ``replaced`` are parts of its spec."""
        pod = python_pod(name, "", {"tier": "airflow", "component": "worker", "task": "true"})
        spec = pod["spec"]
        if init:
            spec["initContainers"] = self.values["workers"]["kubernetes"]["extraInitContainers"]
        spec["volumes"] = self.values["volumes"]
        spec["containers"][0] |= {"name": "base", "command": ["sh", "-c", TASK]}
        spec["containers"][0]["volumeMounts"] = self.values["volumeMounts"]
        spec |= replaced
        return pod

    def start(self, *pods: dict[str, Any]) -> float:
        """Create pods, all at once; return the moment before, in seconds since the epoch."""
        listed = {"apiVersion": "v1", "kind": "List", "items": pods}
        before = time.time()
        self.kubectl("create", "-f", "-", stdin=json.dumps(listed))
        return before

    def statuses(self) -> dict[str, dict[str, Any]]:
        """The status of each task's pod, by name."""
        found = json.loads(self.kubectl("get", "pods", "-l=task=true", "-o=json"))["items"]
        return {pod["metadata"]["name"]: pod["status"] for pod in found}

    def waiting(self, number: int, seconds: float = WAIT_SECONDS) -> None:
        """Wait until our init container runs in so many pods, and no task is started."""

        def all_wait() -> bool:
            time.sleep(LOOK_SECONDS)  # each look starts a process
            inits = [init for status in self.statuses().values() for init in status.get("initContainerStatuses", ())]
            return sum(init["name"] == ONCE and "running" in init["state"] for init in inits) == number

        eventually(f"{number} pods in Init", all_wait, seconds)
        assert {status["phase"] for status in self.statuses().values()} == {"Pending"}

    def ended(self, number: int, seconds: float = WAIT_SECONDS) -> dict[str, Ended]:
        """Wait until the tasks of so many pods have ended; return what they said, by the pods' names."""

        def all_ended() -> dict[str, Ended] | None:
            time.sleep(LOOK_SECONDS)
            statuses = self.statuses()
            failed = [name for name, status in statuses.items() if status["phase"] == "Failed"]
            assert not failed, self.kubectl("describe", "pod", failed[0])
            done = [name for name, status in statuses.items() if status["phase"] == "Succeeded"]
            return {name: _said(statuses[name]) for name in done} if len(done) == number else None

        return eventually(f"{number} tasks to end", all_ended, seconds)

    def clear(self) -> None:
        """Delete all tasks' pods, and wait until they are gone."""
        self.kubectl("delete", "pods", "-l=task=true", "--wait", f"--timeout={WAIT_SECONDS}s")


def _said(status: Mapping[str, Any]) -> Ended:
    started, *link = status["containerStatuses"][0]["state"]["terminated"]["message"].split()
    return Ended(float(started), Path(link[0]).name if link else "")
