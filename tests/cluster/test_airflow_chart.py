"""A real API server takes all that Airflow's official chart makes of our values, and admits every pod of it."""

from typing import Any

import pytest
import yaml

from airflow_charts import EXECUTORS, READERS, pods, rendered
from cluster.control import ApiServer
from cluster.namespaces import restricted_namespace
from cluster.workloads import airflow_pod
from deployfiles import WAYS, airflow_values

DRY_RUN = ("apply", "--dry-run=server", "--validate=strict", "--filename", "-")


@pytest.mark.slow
@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("way", WAYS)
def test_it_takes_every_object_strictly_and_admits_the_pods_that_read_dags(
    api_server: ApiServer, way: str, executor: str
) -> None:
    objects = rendered(way, executor)
    accounts = {name.partition("/")[2] for name in objects if name.startswith("ServiceAccount/")}
    namespace = restricted_namespace(api_server, *accounts)
    documents = [moved(document, namespace) for document in objects.values()]
    readers = {name: pod for name, pod in pods(objects).items() if name in READERS | {"task"}}
    documents += [as_pod(name, pod, namespace) for name, pod in readers.items()]
    said = api_server.kubectl("-n", namespace, *DRY_RUN, stdin=yaml.safe_dump_all(documents))
    assert len(said.splitlines()) == len(documents)


def moved(document: dict[str, Any], namespace: str) -> dict[str, Any]:
    """The same in this test's namespace."""
    if "namespace" in document["metadata"]:
        return {**document, "metadata": {**document["metadata"], "namespace": namespace}}
    return document


def as_pod(name: str, template: dict[str, Any], namespace: str) -> dict[str, Any]:
    """The pod that a controller would make: admission refuses pods, and only warns of their templates."""
    spec = template["spec"]
    containers = [*(spec.get("initContainers") or []), *spec["containers"]]
    mounted = {mount["name"] for container in containers for mount in container.get("volumeMounts", [])}
    claims = sorted(mounted - {volume["name"] for volume in spec["volumes"]})
    volumes = [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims]
    spec = {**spec, "volumes": [*spec["volumes"], *volumes]}
    metadata = {**template["metadata"], "name": f"{name}-0", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize("place", ["dagProcessor", "kubernetes"])
def test_a_pod_that_copies_the_image_s_dags_is_admitted(api_server: ApiServer, place: str) -> None:
    namespace = restricted_namespace(api_server)
    values = airflow_values("sidecar.yaml", "image-dags.yaml")
    init = (values["workers"] | values)[place]["extraInitContainers"]
    pod = airflow_pod("worker", init, values["volumes"], values["volumeMounts"])
    assert "created" in api_server.kubectl("-n", namespace, *DRY_RUN, stdin=yaml.safe_dump(pod))
