"""Airflow itself in a real cluster, installed with its official chart by the commands that the page about it has."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from airflow_charts import PAGE, RESTRICTED, airflow_chart, page_values
from cluster import images
from cluster.namespaces import restricted_namespace
from cluster.outside import Cluster
from cluster.programs import find
from deployfiles import HOME
from harness import eventually

REGISTRY = "registry.example.com/dagferry"
"""That of the page."""
DATABASE = "database"
START_DATABASE = (
    "initdb -D /tmp/data -U airflow --auth=trust >/dev/null"
    " && echo 'host all all all trust' >>/tmp/data/pg_hba.conf"
    " && exec postgres -D /tmp/data -k /tmp -h 0.0.0.0 -c fsync=off"
)
READY = "--timeout=900s"
SECONDS = 600
"""How long Airflow may take for one step, on two cores that others use too."""
LOOK_SECONDS = 1
"""Between two looks: each starts processes."""
PATIENT = {"timeoutSeconds": 120, "failureThreshold": 20, "periodSeconds": 120}
"""For probes that start an Airflow each, which takes longer than the chart allows on a machine that is busy."""
SIMPLE_AUTH = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
FOLLOWING = ("dag-processor", "scheduler", "triggerer")
XCOM = {"2": "encode(value, 'escape')", "3": "value::text"}
"""What tasks have returned, as text, by Airflow's major version."""


def commands(way: str) -> list[str]:
    """The three commands that the page has after the values for this way."""
    text = PAGE.read_text().split(f"# mine.yaml, after {way}\n")[1]
    return re.findall(r"^    (\S.*)$", text, re.MULTILINE)[:3]


def environment(version: str, image: str) -> dict[str, Any]:
    """What is different here from a cluster that reaches registries, and has cores of its own."""
    probes = {"startupProbe": {**PATIENT, "failureThreshold": 100, "periodSeconds": 10}, "livenessProbe": PATIENT}
    quiet: dict[str, Any] = {"logGroomerSidecar": {"enabled": False}, **probes}
    server = {**probes, "readinessProbe": {"failureThreshold": 60}}
    connection = {
        "user": "airflow",
        "pass": "airflow",
        "protocol": "postgresql+psycopg2",
        "host": DATABASE,
        "port": 5432,
    }
    # The scheduler of Airflow 2 keeps a DAG for 10 s: a run that starts sooner after a change has its old tasks.
    core: dict[str, Any] = {
        "parallelism": 2,
        "min_serialized_dag_fetch_interval": 0,
        **({"auth_manager": SIMPLE_AUTH} if version >= "3" else {}),
    }
    repository, _, tag = image.rpartition(":")
    return {
        "airflowVersion": version,
        "defaultAirflowRepository": repository,
        "defaultAirflowTag": tag,
        # A first start with the users of the provider FAB took minutes when the machine was busy.
        "createUserJob": {"enabled": False},
        # A task gives up on a server that does not answer within 5 s; and there are as many workers as tasks at once.
        "config": {"core": core, "workers": {"execution_api_timeout": 120}},
        "postgresql": {"enabled": False},
        "data": {"metadataConnection": {**connection, "db": "airflow", "sslmode": "disable"}},
        "statsd": {"enabled": False},
        "redis": {"enabled": False},
        "scheduler": quiet,
        "dagProcessor": {"logGroomerSidecar": {"enabled": False}, "livenessProbe": PATIENT},
        "triggerer": {
            "logGroomerSidecar": {"enabled": False},
            "livenessProbe": PATIENT,
            "persistence": {"enabled": False},
        },
        "workers": {"persistence": {"enabled": False}, "celery": {"persistence": {"enabled": False}}},
        **({"apiServer": server} if version >= "3" else {"webserver": server}),
        **RESTRICTED,
    }


class RealAirflow:
    """Airflow of a version and our server in a namespace, both installed, with nothing deployed before."""

    def __init__(self, cluster: Cluster, folder: Path, namespace: str, version: str, image: str) -> None:
        self.cluster, self.namespace, self.version, self._folder = cluster, namespace, version, folder
        self._image = image
        [archive] = images.build(image)
        cluster.take(archive)
        for ours in (images.SERVER, images.SIDECAR):
            cluster.tag(ours, f"{REGISTRY}/{ours.rpartition('/')[2]}")
        restricted_namespace(cluster, name=namespace)
        self._start_database()
        self._environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
        tools = [Path(sys.executable).parent, *(find(name).parent for name in ("helm", "kubectl"))]
        self._environment["PATH"] = ":".join([*map(str, tools), os.environ["PATH"]])

    def _start_database(self) -> None:
        security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        container: dict[str, Any] = {
            "name": DATABASE,
            "image": self._image,
            "securityContext": security,
        }
        container |= {"command": ["sh", "-c", START_DATABASE]}
        container["readinessProbe"] = {"exec": {"command": ["pg_isready", "-h", "127.0.0.1"]}, "timeoutSeconds": 10}
        pod_security = {"runAsUser": 50000, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        labels = {"name": DATABASE, "labels": {"app": DATABASE}}
        spec = {"securityContext": pod_security, "terminationGracePeriodSeconds": 1, "containers": [container]}
        service = {"selector": {"app": DATABASE}, "ports": [{"port": 5432}]}
        for kind, content in (("Pod", spec), ("Service", service)):
            body = {"apiVersion": "v1", "kind": kind, "metadata": labels, "spec": content}
            self.kubectl("apply", "-f", "-", stdin=json.dumps(body))
        self.kubectl("wait", "--for=condition=Ready", f"pod/{DATABASE}", READY)
        self.kubectl("exec", DATABASE, "--", "createdb", "-h", "/tmp", "-U", "airflow", "airflow")

    def kubectl(self, *arguments: Any, **options: Any) -> str:
        return self.cluster.kubectl("-n", self.namespace, *arguments, **options)

    def shell(self, command: str, **variables: str) -> str:
        """Run a command of the page in the project's folder; return what it prints."""
        done = subprocess.run(
            command, shell=True, check=False, capture_output=True, text=True, cwd=HOME,
            env={**self._environment, **variables},
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}{self.kubectl('get', 'pods')}"
        return done.stdout

    def install(self, way: str, mine: dict[str, Any], dags: Path) -> dict[str, float]:
        """Run the page's three commands, with these values of the user's; return the seconds that each took."""
        values = yaml.safe_load(page_values()[way])
        (self._folder / "mine.yaml").write_text(yaml.safe_dump({**values, **mine}))
        (self._folder / "environment.yaml").write_text(yaml.safe_dump(environment(self.version, self._image)))
        server, airflow, deploy = (self._here(command) for command in commands(way))
        took = {}
        started = time.monotonic()
        # A core of its own, as the chart asks for by default, is not free where other tests have servers.
        self.notes = self.shell(f"{server} --set=resources.requests.cpu=10m")
        took["helm: Dagferry"] = time.monotonic() - started
        started = time.monotonic()
        self.airflow_command = airflow
        # Helm waits for the chart's job that makes the tables, for five minutes if it is not told otherwise.
        self.shell(f"{airflow} {READY}")
        took["helm: Airflow"] = time.monotonic() - started
        started = time.monotonic()
        self.deploy(dags, deploy)
        took["deploy --wait"] = time.monotonic() - started
        return took

    def _here(self, command: str) -> str:
        """A command of the page with the namespace, the chart's folder and the values of this test."""
        command = command.replace("-n airflow ", f"-n {self.namespace} ")
        command = command.replace("apache-airflow/airflow", str(airflow_chart(self.version)))
        return command.replace("mine.yaml", f"{self._folder}/mine.yaml -f {self._folder}/environment.yaml")

    def deploy(self, dags: Path, command: str = "dagferry deploy --deployment prod --wait") -> str:
        """Deploy a folder as the page and Helm's notes say; return what is printed."""
        self.kubectl("rollout", "status", "statefulset/dagferry-server", READY)
        [read] = re.findall(r"DAGFERRY_TOKEN=\$\((kubectl .*)\)", self.notes)
        forward = ["kubectl", "port-forward", "-n", self.namespace, "service/dagferry-server", ":8000"]
        with subprocess.Popen(forward, stdout=subprocess.PIPE, text=True, env=self._environment) as process:
            assert process.stdout
            found = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
            assert found
            try:
                return self.shell(
                    command.replace("deploy ", f"deploy {dags} ", 1),
                    DAGFERRY_SERVER=f"http://127.0.0.1:{found[1]}", DAGFERRY_TOKEN=self.shell(read),
                )  # fmt: skip
            finally:
                process.terminate()

    def query(self, sql: str) -> str:
        """What Airflow's database answers."""
        return self.kubectl("exec", DATABASE, "--", "psql", "-h", "/tmp", "-U", "airflow", "-Atc", sql).strip()

    def until(self, what: str, sql: str, expected: Sequence[str]) -> float:
        """Wait until the database answers one of these; return the seconds that it took."""
        started = time.monotonic()

        def seen() -> bool:
            answer = self.query(sql)
            assert answer != "failed", self.kubectl("logs", "--tail=20", self.pod("scheduler"), "--container=scheduler")
            if answer in expected:
                return True
            time.sleep(LOOK_SECONDS)
            return False

        eventually(what, seen, SECONDS)
        return time.monotonic() - started

    def airflow(self, *arguments: str) -> str:
        """What Airflow's own command prints, in the scheduler's pod."""
        return self.kubectl("exec", self.pod("scheduler"), "--container=scheduler", "--", "airflow", *arguments)

    def pod(self, component: str) -> str:
        """The name of the pod of a component."""
        return self.kubectl("get", "pods", "-l", f"component={component}", "-o=jsonpath={.items[0].metadata.name}")

    def wait_until_started(self) -> float:
        """Wait until every component is ready; return the seconds that it took."""
        started = time.monotonic()
        for kind in ("deployment", "statefulset"):
            for name in self.kubectl("get", kind, "-l", "tier=airflow", "-o=name").split():
                self.kubectl("rollout", "status", name, READY)
        return time.monotonic() - started

    def wait_until_listed(self, dag: str, task: str) -> float:
        """Wait until Airflow knows a DAG with this task; return the seconds that it took."""
        sql = f"select count(*) > 0 from serialized_dag where dag_id = '{dag}' and data::text like '%\"{task}\"%'"
        return self.until(f"{dag} with {task} in Airflow", sql, ["t"])

    def run(self, dag: str, run: str) -> str:
        """Run a DAG to its end; return what its task has returned."""
        self.airflow("dags", "trigger", dag, "--run-id", run)
        self.until(f"{run} of {dag}", f"select state from dag_run where run_id = '{run}'", ["success"])
        return self.query(
            f"select {XCOM[self.version[0]]} from xcom where run_id = '{run}' and key = 'return_value'"
        ).strip('"')

    def restarts(self) -> dict[str, list[int]]:
        """How often each container of the pods that follow was restarted, by the pod's own id."""
        found = {}
        for pod in json.loads(self.kubectl("get", "pods", "-o=json"))["items"]:
            if pod["metadata"]["labels"].get("component") in FOLLOWING:
                status = pod["status"]
                every = (*status["initContainerStatuses"], *status["containerStatuses"])
                found[pod["metadata"]["uid"]] = [each["restartCount"] for each in every]
        return found
