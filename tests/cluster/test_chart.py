"""A real API server takes all that the Helm chart can make, and Helm installs, upgrades and removes it there."""

import base64
import json
import re
import subprocess
from typing import Any

import pytest
import yaml

import chart_network_rows
import chart_rows
import chart_store_rows
from charts import CHART, RELEASE, Document, helm, render
from cluster.api import Api
from cluster.control import ApiServer
from cluster.namespaces import restricted_namespace

DRY_RUN = ("apply", "--dry-run=server", "--validate=strict", "--filename", "-")
ROUTE = "Route"
"""OpenShift's kind, of which there is no definition here."""
ROWS = {"": {}} | {row.name: row.whole for row in (*chart_rows.ROWS, *chart_network_rows.ROWS, *chart_store_rows.ROWS)}
SECRET = f"{RELEASE}-deploy-token"


def pods(rendered: dict[str, Document]) -> list[Document]:
    """The pods that controllers would make: admission refuses pods, and only warns of their templates."""
    found = [document for document in rendered.values() if document["kind"] == "Pod"]
    for name, document in rendered.items():
        if document["kind"] in {"StatefulSet", "Deployment"}:
            template = document["spec"]["template"]
            volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
            claimed = [volume] if document["kind"] == "StatefulSet" else []
            spec = {**template["spec"], "volumes": [*template["spec"]["volumes"], *claimed]}
            spec.pop("priorityClassName", None)  # it would have to exist
            metadata = {**template["metadata"], "name": f"{name.partition('/')[2]}-0"}
            found.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    return found


def run_helm(api: Api, namespace: str, *arguments: str, values: object = None) -> str:
    """What Helm prints, as the administrator of the cluster."""
    done = subprocess.run(
        [helm(), *arguments, "-n", namespace, "--kubeconfig", api.kubeconfig, *(["-f", "-"] if values else [])],
        check=False,
        capture_output=True,
        text=True,
        input=json.dumps(values),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def secret(api: Api, namespace: str, name: str, key: str) -> str:
    """What is in a Secret."""
    status, answer = api.request("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")
    assert status == 200, answer
    return base64.b64decode(answer["data"][key]).decode()


@pytest.mark.slow
@pytest.mark.usefixtures("custom_resources")
@pytest.mark.parametrize("name", ROWS)
def test_it_takes_every_object_strictly_and_admits_every_pod_as_restricted(api_server: ApiServer, name: str) -> None:
    accounts = [f"{RELEASE}-server", f"{RELEASE}-test", f"{RELEASE}-checker-prod", "dags"]
    namespace = restricted_namespace(api_server, *accounts)
    rendered = render(ROWS[name], namespace=namespace)
    ours = [document for document in rendered.values() if document["kind"] != ROUTE]
    said = api_server.kubectl("-n", namespace, *DRY_RUN, stdin=yaml.safe_dump_all([*ours, *pods(rendered)]))
    assert len(said.splitlines()) == len(ours) + len(pods(rendered))


@pytest.mark.slow
def test_the_token_of_the_first_installation_stays_until_its_secret_is_deleted(api_server: ApiServer) -> None:
    namespace = restricted_namespace(api_server)
    printed = run_helm(api_server, namespace, "install", RELEASE, str(CHART))
    assert f"kubectl get secret -n {namespace} {SECRET} -o jsonpath='{{.data.token}}' | base64 -d" in printed
    first = secret(api_server, namespace, SECRET, "token")
    more = {"deployments": [{"name": "prod"}, {"name": "dev"}]}
    run_helm(api_server, namespace, "upgrade", RELEASE, str(CHART), values=more)
    assert secret(api_server, namespace, SECRET, "token") == first
    assert 'deployments = ["prod","dev"]' in secret(api_server, namespace, f"{RELEASE}-tokens", "tokens.toml")
    api_server.kubectl("-n", namespace, "delete", "secret", SECRET)
    run_helm(api_server, namespace, "upgrade", RELEASE, str(CHART), values=more)
    second = secret(api_server, namespace, SECRET, "token")
    assert second != first
    assert re.fullmatch("dgf_[A-Za-z0-9]{43}", second)


@pytest.mark.slow
def test_a_release_can_be_upgraded_to_all_other_values_and_back_but_for_its_volume(api_server: ApiServer) -> None:
    namespace = restricted_namespace(api_server)
    run_helm(api_server, namespace, "install", RELEASE, str(CHART))
    values: dict[str, Any] = {
        "labels": {"a": "b"}, "podLabels": {"c": "d"}, "annotations": {"e": "f"}, "tiers": 2, "replicas": 0,
        "tokens": {"create": False}, "networkPolicy": {"enabled": False}, "service": {"type": "NodePort", "port": 80},
        "persistence": {"retain": False}, "openshift": True, "serviceAccount": {"name": "dags"},
    }  # fmt: skip
    for wanted in (values, None):
        run_helm(api_server, namespace, "upgrade", RELEASE, str(CHART), "--reset-values", values=wanted)
    run_helm(api_server, namespace, "uninstall", RELEASE)
    left = api_server.kubectl("-n", namespace, "get", "all,secrets,configmaps,networkpolicies", "--output=name")
    assert RELEASE not in left


STORE = {"store": {"url": "s3://dags"}, "replicas": 3}


@pytest.mark.slow
def test_what_the_servers_know_each_other_by_stays_until_its_secret_is_deleted(api_server: ApiServer) -> None:
    namespace = restricted_namespace(api_server)
    found = []
    for command in ("install", "upgrade"):
        run_helm(api_server, namespace, command, RELEASE, str(CHART), values=STORE)
        found.append(secret(api_server, namespace, f"{RELEASE}-peers", "peer-secret"))
    api_server.kubectl("-n", namespace, "delete", "secret", f"{RELEASE}-peers")
    run_helm(api_server, namespace, "upgrade", RELEASE, str(CHART), values=STORE)
    found.append(secret(api_server, namespace, f"{RELEASE}-peers", "peer-secret"))
    assert found[0] == found[1] != found[2]


@pytest.mark.slow
def test_two_stores_are_never_served_at_once(api_server: ApiServer) -> None:
    """A deploy to one of them would not be in the other. So the way from one to the other is by no server at all."""
    namespace = restricted_namespace(api_server)
    run_helm(api_server, namespace, "install", RELEASE, str(CHART))
    for values, kind in ((STORE, "StatefulSet"), ({}, "Deployment")):
        command = [helm(), "upgrade", RELEASE, CHART, "-n", namespace, "--kubeconfig", api_server.kubeconfig]
        command += ["--reset-values", "-f", "-"]
        refused = subprocess.run(command, check=False, capture_output=True, text=True, input=json.dumps(values))
        assert refused.returncode != 0
        assert f"The {kind} {RELEASE}-server still runs, with another store." in refused.stderr
        run_helm(api_server, namespace, "upgrade", RELEASE, str(CHART), "--reuse-values", "--set=replicas=0")
        run_helm(api_server, namespace, "upgrade", RELEASE, str(CHART), "--reset-values", values=values)
        left = api_server.kubectl("-n", namespace, "get", "statefulsets,deployments", "--output=name")
        assert kind.lower() not in left
