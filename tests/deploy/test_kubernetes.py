"""The Kubernetes files are valid on every version they promise, locked down, and do to an Airflow what they say."""

import json
import shutil
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml

from dagferry_server.auth.issuers import parse_issuers
from deployfiles import AIRFLOW, KUBERNETES, airflow_values, containers, documents, run, tool

VERSIONS = ("1.29", kubernetes_validate.latest_version())
SERVER = {document["kind"]: document for document in documents(KUBERNETES / "server.yaml")}
[PATCH] = documents(KUBERNETES / "airflow-pod-patch.yaml")
[TASK] = documents(KUBERNETES / "task-pod-template.yaml")
[CHECK] = documents(KUBERNETES / "check-image.yaml")
VALUES = airflow_values("sidecar.yaml")
READERS = {"dag-processor", "scheduler", "triggerer", "worker"}
MOUNT = {"name": "dagferry", "mountPath": "/dags", "readOnly": True}
FOLDER = {"name": "AIRFLOW__CORE__DAGS_FOLDER", "value": "/dags/current"}
IMPORTS = {"name": "PYTHONPATH", "value": FOLDER["value"]}


def workload(kind: str, component: str, init: list[Any]) -> dict[str, Any]:
    """A stand-in for what the official chart renders for one component of Airflow."""
    labels = {"tier": "airflow", "component": component}
    airflow = {"name": component, "image": "airflow", "env": [{"name": "A", "value": "b"}]}
    airflow["volumeMounts"] = [{"name": "logs", "mountPath": "/logs"}]
    groomer = {"name": "log-groomer", "image": "airflow"}
    pod = {"initContainers": init, "containers": [airflow, groomer], "volumes": [{"name": "logs", "emptyDir": {}}]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    if kind == "StatefulSet":
        spec["serviceName"] = component
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": component, "labels": labels}, "spec": spec}


@pytest.fixture(scope="module")
def customized(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What ``kubectl apply -k`` would apply, by name; Airflow is a stand-in with a component that reads no DAGs."""
    folder = tmp_path_factory.mktemp("kustomize") / "kubernetes"
    shutil.copytree(KUBERNETES, folder)
    waiting = [{"name": "wait-for-migrations", "image": "airflow"}]
    kinds = {"api-server": "Deployment", "dag-processor": "Deployment", "scheduler": "Deployment"}
    kinds |= {"triggerer": "StatefulSet", "worker": "StatefulSet"}
    workloads = [workload(kind, component, waiting) for component, kind in kinds.items()]
    (folder / "airflow.yaml").write_text(yaml.safe_dump_all(workloads))
    kustomize = tool(["kubectl", "kustomize"], ["kustomize", "build"])
    built = list(yaml.safe_load_all(run(*kustomize, folder)))
    return {document["metadata"]["name"]: document for document in built if document["kind"].endswith(("Set", "ment"))}


def values_workloads() -> Iterator[dict[str, Any]]:
    """The init containers of the values file, each in a workload as the official chart would place them."""
    for component in (VALUES["dagProcessor"], VALUES["triggerer"], VALUES["scheduler"], *VALUES["workers"].values()):
        rendered = workload("Deployment", "airflow", component["extraInitContainers"])
        rendered["spec"]["template"]["spec"]["volumes"] += VALUES["volumes"]
        yield rendered


def restricted(container: dict[str, Any], pod: dict[str, Any]) -> None:
    """Hold a container against the Pod Security Standard "restricted", and against writing to its own image."""
    security = pod.get("securityContext", {}) | container["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}


MANIFESTS = [*SERVER.values(), TASK, CHECK, *values_workloads()]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", MANIFESTS, ids=lambda found: found["kind"])
def test_each_manifest_is_valid(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def test_the_schemas_refuse_a_misspelt_field() -> None:
    wrong = json.loads(json.dumps(SERVER["StatefulSet"]).replace("readOnlyRootFilesystem", "readonlyRootFilesystem"))
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_kustomize_makes_of_an_airflow_is_valid(customized: dict[str, dict[str, Any]], version: str) -> None:
    for document in customized.values():
        kubernetes_validate.validate(document, version, strict=True)


def test_a_task_s_pod_is_admitted_where_the_restricted_standard_is_enforced() -> None:
    pod = TASK["spec"]
    assert pod["securityContext"]["runAsUser"] > 0
    for container in [*pod["initContainers"], *pod["containers"]]:
        security = pod["securityContext"] | container["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["seccompProfile"]["type"] == "RuntimeDefault"
    assert {next(iter(volume.keys() - {"name"})) for volume in pod["volumes"]} <= {"emptyDir", "projected"}


def test_the_values_say_what_charts_before_1_21_need() -> None:
    text = (AIRFLOW / "sidecar.yaml").read_text()
    older = yaml.safe_load(text.replace("  # extraInitContainers: [*once]", "  extraInitContainers: [*once]"))
    once = older["workers"]["kubernetes"]["extraInitContainers"]
    assert older["workers"].pop("extraInitContainers") == once
    assert older["workers"].keys() == VALUES["workers"].keys()


def test_our_containers_keep_to_the_restricted_standard() -> None:
    pod = SERVER["StatefulSet"]["spec"]["template"]["spec"]
    restricted(pod["containers"][0], pod)
    for container in [*containers(PATCH), *containers(TASK), *containers(VALUES)]:
        restricted(container, {})


def test_the_servers_pieces_find_each_other() -> None:
    spec = SERVER["StatefulSet"]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    ports = {port["name"]: port["containerPort"] for port in spec["template"]["spec"]["containers"][0]["ports"]}
    assert spec["selector"]["matchLabels"] == labels == SERVER["Service"]["spec"]["selector"]
    assert SERVER["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert {port["targetPort"] for port in SERVER["Service"]["spec"]["ports"]} == {"http"}
    assert {port["port"] for rule in SERVER["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]} == set(ports)
    for container in [*containers(PATCH), *containers(VALUES), *containers(TASK)]:
        assert f"--server=http://dagferry-server:{ports['http']}" in container["args"]


def test_a_server_that_does_not_start_is_replaced_when_its_manifest_is_mended() -> None:
    """With ``OrderedReady`` the controller would wait for the broken pod to get ready, for ever."""
    assert SERVER["StatefulSet"]["spec"]["podManagementPolicy"] == "Parallel"


def test_only_pods_of_the_namespace_with_a_label_reach_the_upload() -> None:
    assert set(SERVER["NetworkPolicy"]["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    [admitted] = [
        rule["from"]
        for rule in SERVER["NetworkPolicy"]["spec"]["ingress"]
        if "http" in {port["port"] for port in rule["ports"]}
    ]
    assert admitted
    for source in admitted:
        assert list(source) == ["podSelector"]
        assert source["podSelector"]["matchLabels"]
    assert TASK["metadata"]["labels"]["tier"] == "airflow"


@pytest.mark.parametrize("component", sorted(READERS))
def test_a_pod_that_reads_dags_syncs_once_then_follows(customized: dict[str, Any], component: str) -> None:
    pod = customized[component]["spec"]["template"]["spec"]
    names = [container["name"] for container in pod["initContainers"]]
    assert names.index("dagferry-once") < names.index("dagferry-sidecar")
    assert "wait-for-migrations" in names
    images = {
        container["image"].partition(":")[0] for container in pod["initContainers"] if "dagferry" in container["name"]
    }
    assert images == {"registry.example.com/dagferry/dagferry-sidecar"}
    airflow, groomer = pod["containers"]
    assert MOUNT in airflow["volumeMounts"]
    assert FOLDER in airflow["env"]
    assert (IMPORTS in airflow["env"]) == (component == "triggerer")
    told = {variable["name"]: variable["value"] for variable in airflow["env"]}
    for section, settings in VALUES["config"].items():
        for name, value in settings.items():
            assert told[f"AIRFLOW__{section.upper()}__{name.upper()}"] == str(value)
    assert "volumeMounts" not in groomer
    assert "dagferry" in {volume["name"] for volume in pod["volumes"]}


def test_a_pod_that_reads_no_dags_is_left_alone(customized: dict[str, Any]) -> None:
    assert "dagferry" not in json.dumps(customized["api-server"])


def test_the_patch_the_values_and_the_task_template_run_the_same_containers() -> None:
    once, following = PATCH["spec"]["template"]["spec"]["initContainers"]
    assert "--once" in once["args"]
    assert following["restartPolicy"] == "Always"
    assert following["startupProbe"]["httpGet"]["path"] == "/readyz"
    for component in (VALUES["dagProcessor"], VALUES["triggerer"], VALUES["scheduler"], VALUES["workers"]["celery"]):
        assert component["extraInitContainers"] == [once, following]
    # A sidecar in a task's pod would only swap files under a task that runs.
    assert VALUES["workers"]["kubernetes"]["extraInitContainers"] == [once]
    assert TASK["spec"]["initContainers"] == [once]


def test_airflow_mounts_the_whole_volume_read_only_and_reads_current() -> None:
    [values_mount] = VALUES["volumeMounts"]
    [base] = TASK["spec"]["containers"]
    assert values_mount == MOUNT
    assert base["volumeMounts"] == [MOUNT]
    assert base["env"] == [FOLDER]
    assert VALUES["config"]["core"]["dags_folder"] == FOLDER["value"]
    assert VALUES["triggerer"]["env"] == [IMPORTS]
    for container in [*containers(PATCH), *containers(VALUES), *containers(TASK)]:
        assert container["volumeMounts"][0] == {"name": "dagferry", "mountPath": "/dags"}
        assert "--root=/dags" in container["args"]


def test_a_sidecar_shows_the_pods_own_identity_and_airflow_does_not_get_it() -> None:
    for container in [*containers(PATCH), *containers(VALUES), *containers(TASK)]:
        [_, token] = container["volumeMounts"]
        assert token == {"name": "dagferry-token", "mountPath": "/var/run/secrets/dagferry", "readOnly": True}
        assert "--token-file=/var/run/secrets/dagferry/token" in container["args"]
    for volumes in (PATCH["spec"]["template"]["spec"]["volumes"], VALUES["volumes"], TASK["spec"]["volumes"]):
        [volume] = [volume for volume in volumes if volume["name"] == "dagferry-token"]
        [source] = volume["projected"]["sources"]
        assert source["serviceAccountToken"]["audience"] == "dagferry"
        assert source["serviceAccountToken"]["path"] == "token"
    assert VALUES["volumeMounts"] == [MOUNT]


def test_the_servers_issuers_are_taken_and_let_pods_sync_and_nothing_else() -> None:
    [issuer] = parse_issuers(SERVER["ConfigMap"]["data"]["issuers.toml"].encode())
    [rule] = issuer.rules
    assert rule.grant.scopes == {"sync"}
    pod = SERVER["StatefulSet"]["spec"]["template"]["spec"]
    mounts = {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    for name, flag in (("tokens", "--tokens-file"), ("issuers", "--issuers-file")):
        assert f"{flag}={mounts[name]['mountPath']}/{name}.toml" in pod["containers"][0]["args"]
        assert "subPath" not in mounts[name]
    account = SERVER["ServiceAccount"]["metadata"]["name"]
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == (account, True)
    assert issuer.source.bearer_token_file == "/var/run/secrets/kubernetes.io/serviceaccount/token"
    reached = {port["port"] for rule in SERVER["NetworkPolicy"]["spec"]["egress"] for port in rule["ports"]}
    assert reached == {443, 6443, 53}
