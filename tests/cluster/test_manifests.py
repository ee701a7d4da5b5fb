"""A real API server takes what deploy/kubernetes has, in a namespace that enforces the standard "restricted"."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.control import ApiServer
from cluster.namespaces import restricted_namespace
from cluster.workloads import airflow_pod
from deployfiles import KUBERNETES, airflow_values, documents

SERVER = documents(KUBERNETES / "server.yaml")
[STATEFUL_SET] = [document for document in SERVER if document["kind"] == "StatefulSet"]
[TASK] = documents(KUBERNETES / "task-pod-template.yaml")
VALUES = airflow_values("sidecar.yaml")
COMPONENTS = {
    "dag-processor": VALUES["dagProcessor"],
    "triggerer": VALUES["triggerer"],
    "scheduler": VALUES["scheduler"],
}
COMPONENTS |= {f"worker-{executor}": worker for executor, worker in VALUES["workers"].items()}
DRY_RUN = ("apply", "--dry-run=server", "--validate=strict", "--filename")


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    return restricted_namespace(api_server, "dagferry-server")


@pytest.fixture
def customized(api_server: ApiServer, tmp_path: Path) -> list[dict[str, Any]]:
    """What ``kubectl apply -k`` applies around an Airflow of one component."""
    folder = tmp_path / "kubernetes"
    shutil.copytree(KUBERNETES, folder)
    pod = airflow_pod("worker", [{**airflow_pod("wait", [], [], [])["spec"]["containers"][0]}], [], [])
    template = {"metadata": pod["metadata"], "spec": {**pod["spec"], "restartPolicy": "Always"}}
    spec = {"serviceName": "worker", "selector": {"matchLabels": pod["metadata"]["labels"]}, "template": template}
    workload = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": pod["metadata"], "spec": spec}
    (folder / "airflow.yaml").write_text(yaml.safe_dump(workload))
    return list(yaml.safe_load_all(api_server.kubectl("kustomize", folder)))


def as_pod(workload: dict[str, Any]) -> dict[str, Any]:
    """The pod that a controller would make; admission refuses pods, and only warns about their templates."""
    template = workload["spec"]["template"]
    volumes = [*template["spec"].get("volumes", [])]
    for claim in workload["spec"].get("volumeClaimTemplates", []):
        name = claim["metadata"]["name"]
        volumes.append(
            {"name": name, "persistentVolumeClaim": {"claimName": f"{name}-{workload['metadata']['name']}-0"}}
        )
    metadata = {**template["metadata"], "name": f"{workload['metadata']['name']}-0"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**template["spec"], "volumes": volumes}}


def admit(api_server: ApiServer, namespace: str, *found: dict[str, Any], fails: bool = False) -> str:
    """Apply these without keeping them; return what kubectl says."""
    return api_server.kubectl("-n", namespace, *DRY_RUN, "-", stdin=yaml.safe_dump_all(found), fails=fails)


def test_the_server_s_manifests_are_taken(api_server: ApiServer, namespace: str) -> None:
    said = api_server.kubectl("-n", namespace, *DRY_RUN, KUBERNETES / "server.yaml")
    assert len([line for line in said.splitlines() if line.endswith("(server dry run)")]) == len(SERVER)


def test_the_server_s_pod_is_admitted(api_server: ApiServer, namespace: str) -> None:
    admit(api_server, namespace, as_pod(STATEFUL_SET))


@pytest.mark.parametrize("name", ["backup", "restore"])
def test_a_job_for_backups_is_taken_and_its_pod_admitted(api_server: ApiServer, namespace: str, name: str) -> None:
    found = documents(KUBERNETES / f"{name}.yaml")
    admit(api_server, namespace, *found)
    job = found[-1]["spec"].get("jobTemplate", found[-1])
    pod = {**job["spec"]["template"], "apiVersion": "v1", "kind": "Pod"}
    admit(api_server, namespace, {**pod, "metadata": {**pod["metadata"], "name": name}})


def test_a_task_s_pod_is_admitted(api_server: ApiServer, namespace: str) -> None:
    admit(api_server, namespace, TASK)


@pytest.mark.parametrize("component", sorted(COMPONENTS))
def test_a_component_with_what_the_values_add_is_admitted(
    api_server: ApiServer, namespace: str, component: str
) -> None:
    init = COMPONENTS[component]["extraInitContainers"]
    admit(api_server, namespace, airflow_pod(component, init, VALUES["volumes"], VALUES["volumeMounts"]))


def test_what_kustomize_makes_of_an_airflow_is_taken_and_its_pods_admitted(
    api_server: ApiServer, namespace: str, customized: list[dict[str, Any]]
) -> None:
    admit(api_server, namespace, *customized)
    pods = [as_pod(found) for found in customized if found["kind"] == "StatefulSet"]
    assert len(pods) == 2
    admit(api_server, namespace, *pods)


@pytest.mark.parametrize("field", ["runAsNonRoot", "allowPrivilegeEscalation", "capabilities", "seccompProfile"])
def test_a_pod_that_lacks_one_thing_is_refused(api_server: ApiServer, namespace: str, field: str) -> None:
    pod = json.loads(json.dumps(TASK))
    for part in (pod["spec"], *pod["spec"]["initContainers"], *pod["spec"]["containers"]):
        part["securityContext"].pop(field, None)
    assert 'violates PodSecurity "restricted' in admit(api_server, namespace, pod, fails=True)


def test_a_misspelt_field_is_refused(api_server: ApiServer, namespace: str) -> None:
    wrong = json.loads(json.dumps(STATEFUL_SET).replace("readOnlyRootFilesystem", "readonlyRootFilesystem"))
    assert "readonlyRootFilesystem" in admit(api_server, namespace, wrong, fails=True)
