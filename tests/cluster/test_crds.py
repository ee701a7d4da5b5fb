"""An API server with the custom resources of others takes the right ones and refuses wrong ones."""

import json
from typing import Any

import pytest

from cluster.control import ApiServer
from cluster.namespaces import restricted_namespace

pytestmark = pytest.mark.usefixtures("custom_resources")
SELECTOR = {"selector": {"matchLabels": {"a": "b"}}}
RULES = {"groups": [{"name": "a", "rules": [{"alert": "Down", "expr": "up == 0"}]}]}
FOUND = {
    "ServiceMonitor": ("monitoring.coreos.com/v1", {**SELECTOR, "endpoints": [{"port": "admin"}]}, "endpoints"),
    "PodMonitor": ("monitoring.coreos.com/v1", {**SELECTOR, "podMetricsEndpoints": [{"port": "a"}]}, "selector"),
    "PrometheusRule": ("monitoring.coreos.com/v1", RULES, "groups"),
    "HTTPRoute": ("gateway.networking.k8s.io/v1", {"parentRefs": [{"name": "public"}]}, "parentRefs"),
}
"""Kind → its version, a right one, and the field that is made wrong."""


@pytest.mark.parametrize("kind", sorted(FOUND))
def test_a_right_one_is_taken_and_a_wrong_one_is_not(api_server: ApiServer, kind: str) -> None:
    namespace = restricted_namespace(api_server)
    version, spec, field = FOUND[kind]

    def apply(spec: dict[str, Any], *, fails: bool) -> str:
        found = json.dumps({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}, "spec": spec})
        return api_server.kubectl("-n", namespace, "apply", "--dry-run=server", "-f", "-", stdin=found, fails=fails)

    assert "server dry run" in apply(spec, fails=False)
    assert field in apply({**spec, field: 5}, fails=True)
