"""The Helm chart in a real cluster: installed, tested, deployed to, followed by a pod, changed, removed, and back."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from charts import CHART, RELEASE, helm
from cluster.namespaces import restricted_namespace
from cluster.outside import Cluster
from cluster.programs import find
from cluster.workloads import airflow_pod, python_pod
from deployfiles import airflow_values
from harness import eventually

TIMEOUT = "--timeout=300s"
HERE = (str(CHART), "--set=image.registry=docker.io,image.repository=library/dagferry-server", "--wait", TIMEOUT)
"""The chart, with the image that the cluster has."""
POD = f"pod/{RELEASE}-server-0"
KUBELET_SECONDS = 180
"""How long the kubelet may take to show a changed ConfigMap in a pod."""
ANY_USER = 1000650000
ADMISSION = f"""#!{sys.executable}
import sys, yaml
found = [document for document in yaml.safe_load_all(sys.stdin) if document]
for document in found:
    if document["kind"] == "StatefulSet":
        document["spec"]["template"]["spec"]["securityContext"].update(runAsUser={ANY_USER}, fsGroup={ANY_USER})
yaml.safe_dump_all(found, sys.stdout)
"""
"""What OpenShift's security context constraints do to a pod that names no user."""
VALUES = airflow_values("sidecar.yaml")
READ = "import time\nwhile True: print(open('/dags/current/dag.py').read().strip()); time.sleep(1)"
CONNECT = f"""
import socket
try:
    socket.create_connection(("{RELEASE}-server", 8000), timeout=10).close()
    print("connected")
except OSError:
    print("no connection")
"""


def run_helm(cluster: Cluster, namespace: str, *arguments: str, values: object = None) -> str:
    """What Helm prints."""
    command = [helm(), *arguments, "-n", namespace, "--kubeconfig", cluster.kubeconfig]
    command += ["-f", "-"] if values else []
    done = subprocess.run(command, check=False, capture_output=True, text=True, input=json.dumps(values))
    assert done.returncode == 0, done.stdout + done.stderr + cluster.kubectl("-n", namespace, "describe", "pods")
    return done.stdout


class Release:
    """The chart, installed in a namespace that enforces the standard "restricted"."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        self.namespace = restricted_namespace(cluster)
        self.notes = self.install()

    def helm(self, *arguments: str, values: object = None) -> str:
        return run_helm(self.cluster, self.namespace, *arguments, values=values)

    def install(self, values: object = None) -> str:
        return self.helm("upgrade", "--install", RELEASE, *HERE, values=values)

    def kubectl(self, *arguments: Any, **options: Any) -> str:
        return self.cluster.kubectl("-n", self.namespace, *arguments, **options)

    def run(self, pod: dict[str, Any]) -> str:
        """What a pod that ends has printed."""
        name = pod["metadata"]["name"]
        self.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
        self.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{name}", TIMEOUT)
        return self.kubectl("logs", name)

    @property
    def token(self) -> str:
        """The token, read by the command that Helm's notes have."""
        [command] = re.findall(r"DAGFERRY_TOKEN=\$\((kubectl .*)\)", self.notes)
        environment = {**os.environ, "KUBECONFIG": str(self.cluster.kubeconfig)}
        environment["PATH"] = f"{find('kubectl').parent}:{environment['PATH']}"
        read = subprocess.run(command, shell=True, check=True, capture_output=True, text=True, env=environment)
        return read.stdout

    def deploy(self, content: str) -> str:
        """Deploy a file with ``dagferry deploy``, as the notes say; return its version."""
        dags = self.folder / "dags"
        dags.mkdir(exist_ok=True)
        (dags / "dag.py").write_text(content)
        with self.cluster.port_forward(self.namespace, f"{RELEASE}-server") as url:
            command = [sys.executable, "-m", "dagferry_client", "deploy", dags, "--server", url, "--deployment", "prod"]
            environment = {**os.environ, "DAGFERRY_TOKEN": self.token}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def status(self, path: str) -> int:
        """The status of the answer to a GET, with the token."""
        with self.cluster.port_forward(self.namespace, f"{RELEASE}-server") as url:
            request = urllib.request.Request(url + path, headers={"Authorization": f"Bearer {self.token}"})
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return int(answer.status)
            except urllib.error.HTTPError as error:
                with error:
                    return error.code


@pytest.fixture(scope="module")
def release(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    release = Release(cluster, tmp_path_factory.mktemp("release"))
    yield release
    # It has a CPU of its own, and others need one too.
    cluster.kubectl("delete", "namespace", release.namespace, "--wait=false")


def test_helm_s_own_test_deploys_with_the_pod_s_identity_and_reads_back(release: Release) -> None:
    assert re.search(r"Phase:\s+Succeeded", release.helm("test", RELEASE))
    assert release.kubectl("logs", f"{RELEASE}-test") == "A deploy was stored and read back.\n"


def test_what_is_deployed_with_the_token_of_the_notes_is_live_in_a_pod_of_the_namespace(release: Release) -> None:
    release.deploy("# one\n")
    init = VALUES["dagProcessor"]["extraInitContainers"]
    pod = airflow_pod("dag-processor", init, VALUES["volumes"], VALUES["volumeMounts"], READ)
    release.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    release.kubectl("wait", "--for=condition=Ready", "pod/dag-processor", TIMEOUT)
    for content in ("# one", "# two"):
        release.deploy(content + "\n")

        def shown(content: str = content) -> bool:
            return content in release.kubectl("logs", "dag-processor", "--container=dag-processor")

        eventually(f"{content} in the pod", shown)


def test_the_network_policy_admits_pods_by_their_labels_and_no_other(release: Release) -> None:
    said = {
        name: release.run(python_pod(name, CONNECT, labels)).strip()
        for name, labels in {
            "deployer": {"dagferry-deployer": "true"},
            "worker": {"tier": "airflow"},
            "other": {"app": "x"},
        }.items()
    }
    assert said == {"deployer": "connected", "worker": "connected", "other": "no connection"}


def test_another_deployment_is_there_without_a_restart(release: Release) -> None:
    started = "-o=jsonpath={.status.startTime} {.status.containerStatuses[0].restartCount}"
    before = release.kubectl("get", POD, started)
    release.install({"deployments": [{"name": "prod"}, {"name": "dev"}]})

    def there() -> bool:
        time.sleep(2)  # each look starts processes
        return release.status("/dev/dags/deploys") == 200

    eventually("the deployment", there, KUBELET_SECONDS)
    assert release.kubectl("get", POD, started) == before


def test_what_was_deployed_outlives_an_upgrade_and_an_uninstallation(release: Release) -> None:
    """The same content is the same version only where the server has its deploy log."""
    version = release.deploy("# kept\n")
    release.install({"podAnnotations": {"restarted": "true"}})
    assert release.deploy("# kept\n") == version
    release.helm("uninstall", RELEASE, "--wait", TIMEOUT)
    release.kubectl("wait", "--for=delete", POD, TIMEOUT)
    assert "data-dagferry-server-0" in release.kubectl("get", "pvc", "-o=name")
    release.notes = release.install()
    assert release.deploy("# kept\n") == version


def test_the_volume_s_size_is_changed_as_the_readme_says_without_a_restart(release: Release) -> None:
    started = "-o=jsonpath={.metadata.uid} {.status.containerStatuses[0].restartCount}"
    before = release.kubectl("get", POD, started)
    release.kubectl("delete", "statefulset", f"{RELEASE}-server", "--cascade=orphan")
    release.install({"persistence": {"size": "20Gi"}})
    assert release.kubectl("get", POD, started) == before


def test_it_runs_as_any_user_that_the_cluster_chooses(cluster: Cluster, tmp_path: Path) -> None:
    namespace = restricted_namespace(cluster)
    admission = tmp_path / "admission"
    admission.write_text(ADMISSION)
    admission.chmod(0o755)
    values = {"openshift": True, "resources": {"requests": {"cpu": "10m"}}}
    run_helm(cluster, namespace, "install", "any", *HERE, f"--post-renderer={admission}", values=values)
    user = cluster.kubectl("-n", namespace, "exec", "any-dagferry-server-0", "--", "/opt/dagferry/bin/python", "-c",
                           "import os; print(os.getuid(), os.getgid())")  # fmt: skip
    assert user == f"{ANY_USER} 0\n"
    assert re.search(r"Phase:\s+Succeeded", run_helm(cluster, namespace, "test", "any"))
