"""The jobs that back up and restore do it in a real cluster, with the chart's server and the kubelet's volumes."""

import json
from typing import Any

from cluster.images import IMAGES
from cluster.installed import SERVER_POD, TIMEOUT, Installed, files
from cluster.outside import Cluster
from deployfiles import KUBERNETES, documents

IMAGE = next(image for image in IMAGES if "dagferry-server" in image)
SPACE = "1Gi"
"""The cluster's volumes are smaller than the file asks for."""


def manifest(name: str) -> str:
    """A file as the page has an operator change it."""
    [image] = {container["image"] for container in containers(documents(KUBERNETES / name)[-1])}
    found = [json.loads(json.dumps(document).replace(image, IMAGE)) for document in documents(KUBERNETES / name)]
    for document in found:
        if document["kind"] == "PersistentVolumeClaim":
            document["spec"]["resources"]["requests"]["storage"] = SPACE
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": found})


def containers(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The containers of a Job or CronJob."""
    job = document["spec"].get("jobTemplate", document)
    found: list[dict[str, Any]] = job["spec"]["template"]["spec"]["containers"]
    return found


def ended(installed: Installed, job: str) -> str:
    """What a job has printed that ended well."""
    installed.kubectl("wait", "--for=condition=complete", job, TIMEOUT)
    return installed.kubectl("logs", job)


def test_what_was_backed_up_is_restored_and_pods_follow_it(cluster: Cluster) -> None:
    installed = Installed(cluster)
    installed.install()
    with installed.service() as service:
        service.deploy(files("# kept"), "prod")
        kept = service.history()
    installed.follow("worker")
    installed.kubectl("apply", "-f", "-", stdin=manifest("backup.yaml"))
    installed.kubectl("create", "job", "--from=cronjob/dagferry-backup", "first")
    assert "0 problems" in ended(installed, "job/first")
    with installed.service() as service:
        service.deploy(files("# lost"), "prod")
    installed.reads("worker", "# lost")

    installed.kubectl("scale", "statefulset", "dagferry-server", "--replicas=0")
    installed.kubectl("wait", "--for=delete", f"pod/{SERVER_POD}", TIMEOUT)
    installed.kubectl("create", "-f", "-", stdin=manifest("restore.yaml"))
    assert "\nprod " in ended(installed, "job/dagferry-restore")  # its new id
    installed.kubectl("scale", "statefulset", "dagferry-server", "--replicas=1")
    installed.kubectl("rollout", "status", "statefulset/dagferry-server", TIMEOUT)
    with installed.service() as service:
        assert [entry["version"] for entry in service.history()] == [entry["version"] for entry in kept]
        service.deploy(files("# next"), "prod")
    installed.reads("worker", "# next")
    installed.undisturbed("worker")
