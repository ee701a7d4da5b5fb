"""From the chart's volume to a bucket, as "Change the store" in its README.md says: what follows goes on as it was."""

import json
from typing import Any

import pytest

from charts import RELEASE
from cluster import s3
from cluster.followers import becomes, status_of
from cluster.installed import HERE, SERVER_POD, SMALL, TIMEOUT, Installed, files
from cluster.outside import Cluster
from deployfiles import KUBERNETES, documents

pytestmark = pytest.mark.slow

FOLLOWERS = ("scheduler", "worker")
REPLICAS = 2
JOB = "dagferry-copy-store"
CLAIM = f"persistentvolumeclaim/data-{SERVER_POD}"
WITH_BUCKET = s3.values(replicas=REPLICAS)


def copy_job() -> dict[str, Any]:
    """The shipped Job, with the bucket and its credentials set."""
    [job] = documents(KUBERNETES / "copy-store.yaml")
    [container] = job["spec"]["template"]["spec"]["containers"]
    kept = [entry for entry in container["env"] if entry["name"] == "FROM"]
    variables = {"TO": WITH_BUCKET["store"]["url"], **WITH_BUCKET["store"]["env"]}
    container["env"] = [*kept, *({"name": name, "value": value} for name, value in variables.items())]
    container["envFrom"] = [{"secretRef": {"name": s3.SECRET}}]
    return dict(job)


def test_deploys_move_from_the_volume_to_a_bucket_and_pods_that_follow_notice_nothing(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with s3.s3(cluster, tmp_path_factory.mktemp("s3")):
        installed = Installed(cluster)
        installed.apply(s3.secret())
        installed.install()
        with installed.service() as service:
            for content in ("# first", "# second"):
                service.deploy(files(content), "prod")
            history = service.history()
        installed.follow(*FOLLOWERS)
        for name in FOLLOWERS:
            installed.reads(name, "# second")
        refused = cluster.helm(
            "upgrade",
            RELEASE,
            *HERE,
            "-n",
            installed.namespace,
            "--values=-",
            stdin=json.dumps({**SMALL, **WITH_BUCKET}),
            fails=True,
        )
        assert f"The StatefulSet {RELEASE}-server still runs, with another store." in refused
        installed.helm("upgrade", RELEASE, *HERE, "--reset-then-reuse-values", "--set=replicas=0", "--wait", TIMEOUT)
        installed.kubectl("wait", "--for=delete", f"pod/{SERVER_POD}", TIMEOUT)
        installed.apply(copy_job())
        installed.kubectl("wait", "--for=condition=Complete", f"job/{JOB}", TIMEOUT)
        assert "complete" in installed.kubectl("logs", f"job/{JOB}")
        installed.install(WITH_BUCKET)
        with installed.service() as service:
            assert service.history() == history
            becomes("the fleet to be healthy", lambda: status_of(service)["state"] == "HEALTHY")
            service.deploy(files("# third"), "prod")
        for name in FOLLOWERS:
            lines = installed.reads(name, "# third")
            assert [line for line in lines if line.startswith("reads")] == ["reads # second", "reads # third"]
        installed.undisturbed(*FOLLOWERS)
        assert installed.get(CLAIM)["status"]["phase"] == "Bound"
        cluster.kubectl("delete", "namespace", installed.namespace, "--wait=false")
