"""The chart's server and a sidecar as users that a cluster like OpenShift chooses, on a volume of an earlier user."""

import json
import sys
from pathlib import Path

import pytest

from cluster.installed import SERVER_POD, Installed, files
from cluster.outside import Cluster

pytestmark = pytest.mark.slow

FIRST, SECOND = 1000660000, 1000790000
ADMISSION = f"""#!{sys.executable}
import json, sys, yaml
found = [document for document in yaml.safe_load_all(sys.stdin) if document]
for document in found:
    if document["kind"] == "StatefulSet":
        document["spec"]["template"]["spec"]["securityContext"].update(json.loads('CHOSEN'))
yaml.safe_dump_all(found, sys.stdout)
"""
"""What OpenShift's security context constraints do to a pod that names no user."""
WHO = "import os; print(os.getuid(), os.getgid())"


def install(installed: Installed, folder: Path, **chosen: int) -> None:
    """Install or upgrade, with what the cluster chooses for the pod."""
    admission = folder / "admission"
    admission.write_text(ADMISSION.replace("CHOSEN", json.dumps(chosen)))
    admission.chmod(0o755)
    installed.install({"openshift": True}, f"--post-renderer={admission}")
    said = installed.kubectl("exec", SERVER_POD, "--", "/opt/dagferry/bin/python", "-c", WHO)
    assert said == f"{chosen['runAsUser']} 0\n"


def goes_on(installed: Installed, folder: Path, **second: int) -> None:
    """Deploy, have another user run the server, and deploy again."""
    with installed.service() as service:
        service.deploy(files("# first"), "prod")
        before = service.history()
    install(installed, folder, **second)
    with installed.service() as service:
        assert service.history() == before
        service.deploy(files("# second"), "prod")
    installed.follow("worker", user=second["runAsUser"])
    installed.reads("worker", "# second")


def test_another_user_with_another_group_goes_on_with_the_volume(cluster: Cluster, tmp_path: Path) -> None:
    """As in another namespace of OpenShift: the kubelet gives the volume to the new group."""
    installed = Installed(cluster)
    install(installed, tmp_path, runAsUser=FIRST, fsGroup=FIRST)
    goes_on(installed, tmp_path, runAsUser=SECOND, fsGroup=SECOND)


def test_another_user_of_group_0_goes_on_with_a_volume_that_the_kubelet_does_not_change(
    cluster: Cluster, tmp_path: Path
) -> None:
    """As on a file share."""
    installed = Installed(cluster)
    shared_volume(installed)
    install(installed, tmp_path, runAsUser=FIRST)
    goes_on(installed, tmp_path, runAsUser=SECOND)


def shared_volume(installed: Installed) -> None:
    """Make the volume that the server will claim, of root, and shared with group 0."""
    path = installed.cluster.folder / "volumes" / installed.namespace
    path.mkdir()
    path.chmod(0o2770)
    volume = installed.cluster.kubectl("get", "persistentvolume", "volume-0", "-o=json")
    spec = json.loads(volume)["spec"]
    spec |= {"local": {"path": str(path)}, "claimRef": {"namespace": installed.namespace, "name": f"data-{SERVER_POD}"}}
    metadata = {"name": f"volume-{installed.namespace}"}
    installed.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec})
