"""What tests run in a cluster: pods that are secured as the standard "restricted" wants them."""

from collections.abc import Mapping, Sequence
from typing import Any

from cluster.images import AIRFLOW


def airflow_pod(
    component: str, init: Sequence[Any], volumes: Sequence[Any], mounts: Sequence[Any], code: str = ""
) -> dict[str, Any]:
    """A pod of Airflow, secured as the official chart allows it, with what we add to it; ``code`` is what it runs."""
    pod = python_pod(component, code, {"tier": "airflow", "component": component})
    pod["spec"] |= {"initContainers": [*init], "volumes": [*volumes]}
    pod["spec"]["containers"][0]["volumeMounts"] = [*mounts]
    return pod


def python_pod(name: str, code: str, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A pod that runs this code, once."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container: dict[str, Any] = {"name": name, "image": AIRFLOW, "securityContext": security, "env": []}
    container["command"] = ["python3", "-u", "-c", code]
    pod_security = {"runAsUser": 50000, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "securityContext": pod_security}
    metadata = {"name": name, "labels": dict(labels or {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**spec, "containers": [container]}}
