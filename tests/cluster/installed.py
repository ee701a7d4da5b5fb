"""Our chart, installed in a namespace of a real cluster, with sidecars that follow, and clients of its Service."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from charts import CHART, RELEASE, helm
from cluster.namespaces import restricted_namespace
from cluster.outside import Cluster
from cluster.programs import find
from cluster.workloads import airflow_pod
from deployfiles import airflow_values
from harness import Server, eventually

WAIT_SECONDS = 300
"""How long Helm and kubectl wait for a state."""
TIMEOUT = f"--timeout={WAIT_SECONDS}s"
HERE = (str(CHART), "--set=image.registry=docker.io,image.repository=library/dagferry-server")
"""The chart, with the image that the cluster has."""
SMALL = {"resources": {"requests": {"cpu": "10m", "memory": "128Mi"}, "limits": {"memory": "1536Mi"}}}
"""There are more of them at a time than a machine of two cores has a core for."""
SERVER_POD = f"{RELEASE}-server-0"
LOOK_SECONDS = 0.5
"""Between looks that start a process each."""
RETRY_SECONDS = 0.5
READ = """
import os, time
last = None
while True:
    tree = os.path.realpath("/dags/current")
    a, b = (open(os.path.join(tree, name)).read() for name in ("a.py", "b.py"))
    if a != b:
        print("torn:", a, b)
    if a != last:
        print("reads", a)
    last = a
    time.sleep(0.01)
"""
"""Reads two files of a tree as Airflow would, for ever; fails if one is missing."""


def files(content: str, **more: bytes) -> dict[str, bytes]:
    """What ``READ`` reads."""
    return {"a.py": content.encode(), "b.py": content.encode(), **more}


class Installed:
    """The chart in a namespace of its own that enforces the standard "restricted", when ``install`` was called."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.namespace = restricted_namespace(cluster)

    def helm(self, *arguments: str | Path, values: object = None) -> str:
        """What Helm prints."""
        command = [helm(), *arguments, "-n", self.namespace, "--kubeconfig", self.cluster.kubeconfig]
        command += ["-f", "-"] if values else []
        done = subprocess.run(command, check=False, capture_output=True, text=True, input=json.dumps(values))
        assert done.returncode == 0, done.stdout + done.stderr + self.kubectl("describe", "pods")
        return done.stdout

    def install(self, values: Mapping[str, object] | None = None, *arguments: str | Path) -> str:
        """Install or upgrade, and wait until the server is ready."""
        return self.helm(
            "upgrade", "--install", RELEASE, *HERE, "--wait", TIMEOUT, *arguments, values={**SMALL, **(values or {})}
        )

    def kubectl(self, *arguments: Any, **options: Any) -> str:
        return self.cluster.kubectl("-n", self.namespace, *arguments, **options)

    def get(self, what: str) -> Any:
        """An object, or a list of them."""
        return json.loads(self.kubectl("get", what, "-o=json"))

    def apply(self, *found: object) -> None:
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": found}))

    @property
    def token(self) -> str:
        """What the chart lets deploy."""
        return self.kubectl("get", "secret", f"{RELEASE}-deploy-token", "-o=go-template={{.data.token | base64decode}}")

    @contextlib.contextmanager
    def service(self) -> Iterator["Service"]:
        """The Service, for a client in the cluster that has the token, when it answers.

        A moment after its pod is ready it may not yet: the proxy has to learn of it.
        """
        address = self.get(f"service/{RELEASE}-server")["spec"]["clusterIP"]
        with self.cluster.forwarded(address, 8000) as port:
            service = Service(port, self.token)

            def answers() -> bool:
                try:
                    return bool(service.get("/healthz"))
                except OSError:
                    return bool(time.sleep(LOOK_SECONDS))

            eventually("the Service to answer", answers)
            yield service

    def follow(self, *names: str, user: int = 50000, restart: str = "Never", ca: str = "", **ours: str) -> None:
        """Start pods as our values for Airflow's chart make them, which read what their sidecar publishes.

        ``ca`` is a ConfigMap with the authority that they trust.
        """
        values = airflow_values("sidecar.yaml", **ours)
        for name in names:
            pod = airflow_pod(
                name, values["dagProcessor"]["extraInitContainers"], values["volumes"], values["volumeMounts"], READ
            )
            pod["spec"]["restartPolicy"] = restart
            pod["spec"]["securityContext"]["runAsUser"] = user
            if ca:
                pod["spec"]["volumes"].append({"name": "ca", "configMap": {"name": ca}})
                for container in pod["spec"]["initContainers"]:
                    container["args"] = [*container["args"], "--ca-file=/ca/ca.crt"]
                    container["volumeMounts"] = [*container["volumeMounts"], {"name": "ca", "mountPath": "/ca"}]
            self.apply(pod)
        self.kubectl("wait", "--for=condition=Ready", *(f"pod/{name}" for name in names), TIMEOUT)

    def started(self) -> tuple[str, int]:
        """Which pod runs the server, and how often its container was restarted."""
        pod = self.get(f"pod/{SERVER_POD}")
        return pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]

    def server_process(self) -> int:
        """The pid, out here, of the server."""
        uid = self.get(f"pod/{SERVER_POD}")["metadata"]["uid"]
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (
                    f"pod{uid}" in (path / "cgroup").read_text()
                    and b"dagferry-server" in (path / "cmdline").read_bytes()
                ):
                    return int(path.name)
        raise AssertionError("the server does not run")

    def reads(self, pod: str, content: str) -> list[str]:
        """Wait until a pod's reader has read this; return the lines of its log."""

        def found() -> list[str] | None:
            lines = self.kubectl("logs", pod, f"--container={pod}").splitlines()
            return lines if f"reads {content}" in lines else time.sleep(LOOK_SECONDS)

        return eventually(f"{pod} to read {content}", found, WAIT_SECONDS)

    def undisturbed(self, *pods: str) -> None:
        """Fail if a container of a pod was restarted, or a reader saw anything but whole trees."""
        for pod in pods:
            status = self.get(f"pod/{pod}")["status"]
            containers = (*status["initContainerStatuses"], *status["containerStatuses"])
            assert {each["restartCount"] for each in containers} == {0}, status
            assert "torn" not in self.kubectl("logs", pod, f"--container={pod}")

    @contextlib.contextmanager
    def watched(self, what: str) -> Iterator[list[Any]]:
        """The states that a kind of object takes meanwhile, in a list that grows."""
        seen: list[Any] = []
        command = [find("kubectl"), f"--kubeconfig={self.cluster.kubeconfig}", "-n", self.namespace]
        command += ["get", what, "--watch", "-o=json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:

            def read() -> None:
                document = ""
                for line in process.stdout or ():
                    document += line
                    if line == "}\n":
                        seen.append(json.loads(document))
                        document = ""

            reader = threading.Thread(target=read)
            reader.start()
            try:
                eventually(f"the first {what}", lambda: seen)
                yield seen
            finally:
                process.kill()
                reader.join()


class Service(Server):
    """Requests to the server, wherever it runs, at a port of this machine."""

    def __init__(self, port: int, token: str, ca_file: str | None = None) -> None:
        self.port, self.ca_file = port, ca_file
        self.url = f"{'https' if ca_file else 'http'}://127.0.0.1:{port}"
        self.headers = {"Authorization": f"Bearer {token}"}
        self.token = token

    def history(self, deployment: str = "prod") -> list[dict[str, Any]]:
        """All entries of the deploy log, oldest first."""
        found: list[dict[str, Any]] = []
        query = ""
        while True:
            status, body = self.get(f"/{deployment}/dags/deploys{query}")
            assert status == 200, body
            page = json.loads(body)
            found += page["deploys"]
            if not page.get("next"):
                return found[::-1]
            query = f"?before={page['next']}"


class Load:
    """Somebody on the node who runs ``dagferry deploy`` for one content after another, again where it failed."""

    def __init__(self, installed: Installed, dags: Path) -> None:
        address = installed.get(f"service/{RELEASE}-server")["spec"]["clusterIP"]
        self._dags = dags
        self._command = [*installed.cluster.on_node(), sys.executable, "-m", "dagferry_client", "deploy", str(dags)]
        self._command += [f"--server=http://{address}:8000", "--deployment=prod", "--allow-plain-http"]
        self._environment = {**os.environ, "DAGFERRY_TOKEN": installed.token}
        self.answered: dict[str, str] = {}
        """What was deployed: content to version, in order."""
        self.failed: list[str] = []
        """What the command said when it failed."""
        self._end = threading.Event()

    def _deploy(self) -> None:
        number = 0
        while not self._end.is_set():
            for name, data in files(f"# {number}").items():
                (self._dags / name).write_bytes(data)
            done = subprocess.run(self._command, env=self._environment, capture_output=True, text=True, check=False)
            if done.returncode:
                self.failed.append(done.stderr)
                self._end.wait(RETRY_SECONDS)
            else:
                self.answered[f"# {number}"] = done.stdout.strip()
                number += 1

    def more(self, count: int = 3) -> None:
        """Wait until this many more deploys were answered."""
        before = len(self.answered)
        eventually("more deploys", lambda: len(self.answered) >= before + count, WAIT_SECONDS)

    @contextlib.contextmanager
    def running(self) -> Iterator["Load"]:
        with ThreadPoolExecutor(1) as threads:
            self._done = threads.submit(self._deploy)
            try:
                yield self
            finally:
                self._end.set()
        self._done.result()

    def end(self) -> None:
        """Deploy no more."""
        self._end.set()
        wait([self._done])

    @property
    def last(self) -> str:
        """The newest content."""
        return [*self.answered][-1]

    @property
    def versions(self) -> list[str]:
        """The versions that the command printed, oldest first."""
        return [*self.answered.values()]
