"""Pods that follow a server, as our values for Airflow's chart make them; what becomes of them, and their status."""

import contextlib
import json
import os
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.installed import LOOK_SECONDS, READ, WAIT_SECONDS, Installed, Service
from cluster.outside import Cluster
from cluster.workloads import airflow_pod
from deployfiles import airflow_values
from harness import PATIENCE_SECONDS, eventually

ONCE, SIDECAR = "dagferry-once", "dagferry-sidecar"
NOT_MODIFIED = 304
STATUS_WAIT_SECONDS = 2
"""How long the status is waited for at a time: a watch ends after this at the latest."""


@contextlib.contextmanager
def installation(cluster: Cluster, deployments: Sequence[Mapping[str, Any]]) -> Iterator[Installed]:
    """Our chart in a namespace of its own, with these deployments, until it is no longer needed."""
    installed = Installed(cluster)
    installed.install({"deployments": deployments})
    yield installed
    cluster.kubectl("delete", "namespace", installed.namespace, "--wait=false")


def follower(
    name: str, deployment: str, code: str = READ, *, part: str = "dagProcessor", **spec: Any
) -> dict[str, Any]:
    """A pod of Airflow whose own container is named like it, with the containers that our values give to ``part``.

    ``part`` is a key of the values, such as ``workers.kubernetes``; ``spec`` is added to the pod's.
    """
    values = airflow_values("sidecar.yaml", deployment=deployment)
    found = values
    for key in part.split("."):
        found = found[key]
    pod = airflow_pod(name, found["extraInitContainers"], values["volumes"], values["volumeMounts"], code)
    pod["spec"] |= spec
    return dict(json.loads(json.dumps(pod)))  # its parts are shared: they came from anchors


def workload(kind: str, pod: Mapping[str, Any], replicas: int) -> dict[str, Any]:
    """A Deployment or StatefulSet of such pods, named like their component."""
    labels, spec = pod["metadata"]["labels"], {**pod["spec"], "restartPolicy": "Always"}
    template = {"metadata": {"labels": labels}, "spec": spec}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": pod["metadata"]["name"]}, "spec": spec}


def pods_of(installed: Installed, component: str) -> list[dict[str, Any]]:
    """The pods of a component, the oldest first."""
    found = json.loads(installed.kubectl("get", "pods", f"--selector=component={component}", "-o=json"))["items"]
    return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))


def container(pod: Mapping[str, Any], name: str = SIDECAR) -> Any:
    """A container in a pod's spec, to be changed."""
    [found] = [each for kind in ("initContainers", "containers") for each in pod["spec"][kind] if each["name"] == name]
    return found


def volume(pod: Mapping[str, Any], **empty: str) -> None:
    """Make the volume of the trees another ``emptyDir``."""
    [found] = [each for each in pod["spec"]["volumes"] if each["name"] == "dagferry"]
    found["emptyDir"] = empty


def state_of(pod: Mapping[str, Any], name: str = SIDECAR) -> dict[str, Any]:
    """The status of a container of a pod."""
    status = pod["status"]
    every = (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
    [found] = [each for each in every if each["name"] == name] or [{}]
    return dict(found)


def process_of(pod: Mapping[str, Any], command: bytes) -> int:
    """The pid, out here, of the process of a pod whose command line has this in it."""
    uid = pod["metadata"]["uid"]
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"pod{uid}" in (path / "cgroup").read_text() and command in (path / "cmdline").read_bytes():
                return int(path.name)
    raise AssertionError(f"no process of {pod['metadata']['name']} has {command!r} in its command line")


def kill(pod: Mapping[str, Any], command: bytes = b"dagferry-sidecar") -> None:
    """Kill a process of a pod: that of its sidecar, or another one."""
    os.kill(process_of(pod, command), signal.SIGKILL)


def becomes(what: str, look: Callable[[], Any]) -> Any:
    """Return what ``look`` finds as soon as that is true. It may start processes, so it is not called all the time."""
    return eventually(what, lambda: look() or threading.Event().wait(LOOK_SECONDS), WAIT_SECONDS)


def status_of(service: Service, deployment: str = "prod") -> dict[str, Any]:
    """The status of a fleet."""
    status, body = service.get(f"/{deployment}/dags/status")
    assert status == 200, body
    return dict(json.loads(body))


@contextlib.contextmanager
def watched_status(service: Service, deployment: str = "prod") -> Iterator[list[dict[str, Any]]]:
    """Each status that a fleet has meanwhile, in a list that grows."""
    seen = [status_of(service, deployment)]
    ended = threading.Event()

    def watch() -> None:
        tag = ""
        while not ended.is_set():
            headers = {**service.headers, "If-None-Match": tag, "Prefer": f"wait={STATUS_WAIT_SECONDS}"}
            request = urllib.request.Request(f"{service.url}/{deployment}/dags/status", headers=headers)
            try:
                with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
                    tag = answer.headers["ETag"]
                    seen.append(json.loads(answer.read()))
            except urllib.error.HTTPError as error:
                with error:
                    if error.code != NOT_MODIFIED:
                        raise

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def wait_for(installed: Installed, *names: str) -> None:
    """Wait until these pods are ready."""
    installed.kubectl("wait", "--for=condition=Ready", *(f"pod/{name}" for name in names), f"--timeout={WAIT_SECONDS}s")
