"""Where things are in the objects of the Helm chart, and changes that several values make."""

from typing import Any

from chart_changes import GONE
from charts import Document

SET = "StatefulSet/dagferry-server"
POD = f"{SET}:spec.template.spec"
SERVER = f"{POD}.containers[server]"
SERVICE = "Service/dagferry-server"
POLICY = "NetworkPolicy/dagferry-server"
FROM = f"{POLICY}:spec.ingress"
TEST = "Pod/dagferry-test"
TESTER = f"{TEST}:spec.containers[test]"
CONFIG = "ConfigMap/dagferry-server-config:data"
DEPLOYMENTS = f"{CONFIG}.deployments_toml"
ISSUERS = f"{CONFIG}.issuers_toml.issuers"
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKENS = "Secret/dagferry-tokens"
PEER = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ci"}}}


def argument(*texts: str) -> dict[str, Any]:
    """The change of added arguments of the server."""
    return {f"{SERVER}.args[{text}]": text for text in texts}


def mounted(name: str, path: str, **volume: Any) -> dict[str, Any]:
    """The change of a volume that is added and mounted in the server."""
    return {
        f"{POD}.volumes[{name}]": {"name": name, **volume},
        f"{SERVER}.volumeMounts[{name}]": {"name": name, "mountPath": path, "readOnly": True},
    }


def image(name: str) -> dict[str, Any]:
    """The change of the image, of the server and of the test."""
    return {f"{SERVER}.image": name, f"{TESTER}.image": name}


def on_all(rendered: dict[str, Document], section: str, entry: dict[str, str]) -> dict[str, Any]:
    """The change of labels or annotations on every object and on the server's pod."""
    metadata = {f"{name}:metadata": document["metadata"] for name, document in rendered.items()}
    metadata[f"{SET}:spec.template.metadata"] = rendered[SET]["spec"]["template"]["metadata"]
    return {f"{place}.{section}": found.get(section, {}) | entry for place, found in metadata.items()}


INGRESS = {"enabled": True, "host": "dags.example.com"}
ADMITTED = {"networkPolicy": {"uploadFrom": [PEER]}}
ADMITS = {
    f"{FROM}[0].from[0].podSelector.matchLabels": GONE,
    f"{FROM}[0].from[0].namespaceSelector.matchLabels": PEER["namespaceSelector"]["matchLabels"],
}
