"""Helm upgrades, rolls back and removes the chart's server in a real cluster: what is kept, and what is not."""

import pytest

from cluster.installed import SERVER_POD, TIMEOUT, Installed, files
from cluster.outside import Cluster

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
