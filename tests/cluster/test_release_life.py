"""Helm upgrades, rolls back and removes the chart's server in a real cluster: what is kept, and what is not."""

import pytest

from charts import RELEASE
from cluster.installed import HERE, SERVER_POD, SMALL, TIMEOUT, WAIT_SECONDS, Installed, files
from cluster.outside import Cluster
from harness import eventually

pytestmark = pytest.mark.slow

CLAIM = f"persistentvolumeclaim/data-{SERVER_POD}"
UNAUTHORIZED = 401


def deployed(installed: Installed, token: str, content: str) -> list[str]:
    """Deploy with a token; return the versions of the log."""
    with installed.service() as service:
        service.headers = {"Authorization": f"Bearer {token}"}
        service.deploy(files(content), "prod")
        return [entry["version"] for entry in service.history()]


def test_the_token_and_the_deploys_outlive_an_upgrade_and_a_rollback_and_the_deploys_an_uninstallation(
    cluster: Cluster,
) -> None:
    installed = Installed(cluster)
    installed.install()
    token = installed.token
    first = deployed(installed, token, "# first")
    installed.install({"podAnnotations": {"rolled": "true"}})
    second = deployed(installed, token, "# second")
    installed.helm("rollback", "dagferry", "1", "--wait", TIMEOUT)
    assert "rolled" not in str(installed.get(f"pod/{SERVER_POD}")["metadata"].get("annotations"))
    third = deployed(installed, token, "# third")
    assert (first, second) == (third[:1], third[:2])
    assert installed.token == token
    installed.helm("uninstall", "dagferry", "--wait", TIMEOUT)
    assert "NotFound" in installed.kubectl("get", "secret", "dagferry-deploy-token", fails=True)
    assert installed.get(CLAIM)["status"]["phase"] == "Bound"
    installed.install()
    assert deployed(installed, installed.token, "# fourth")[:3] == third
    with installed.service() as service:
        assert service.get("/prod/dags/deploys", Authorization=f"Bearer {token}")[0] == UNAUTHORIZED


def test_a_volume_that_is_not_to_be_retained_goes_with_the_release(cluster: Cluster) -> None:
    installed = Installed(cluster)
    installed.install({"persistence": {"retain": False}})
    installed.helm("uninstall", "dagferry", "--wait", TIMEOUT)
    installed.kubectl("wait", "--for=delete", CLAIM, TIMEOUT)


def test_a_pod_that_never_gets_ready_is_replaced_by_the_next_upgrade(cluster: Cluster) -> None:
    installed = Installed(cluster)
    installed.install()
    token = installed.token
    first = deployed(installed, token, "# first")
    good = installed.started()[0]
    installed.helm("upgrade", RELEASE, *HERE, values={**SMALL, "image": {"tag": "absent"}})

    def cannot_be_pulled() -> bool:
        found = installed.kubectl("get", "pods", "-o=json")
        return good not in found and any(reason in found for reason in ("ErrImagePull", "ImagePullBackOff"))

    eventually("the new pod to lack its image", cannot_be_pulled, WAIT_SECONDS)
    installed.install()
    assert deployed(installed, token, "# second")[:1] == first
