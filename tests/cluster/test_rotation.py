"""Keys and certificates are renewed in a real cluster, and the chart's server and those who follow it go on."""

import base64
import json
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.installed import LOOK_SECONDS, Installed, Service, files
from cluster.outside import Cluster
from cluster.pki import Authority
from harness import eventually

pytestmark = pytest.mark.slow

KUBELET_SECONDS = 180
"""How long the kubelet may take to show a changed Secret in a pod."""
SECRET = "dags-tls"


def key_id(token: str) -> str:
    """The key that a JWT says it is signed with."""
    header = token.split(".", maxsplit=1)[0]
    return str(json.loads(base64.urlsafe_b64decode(header + "=="))["kid"])


def test_pods_with_tokens_of_the_old_and_of_the_new_signing_key_follow_the_same_server(cluster: Cluster) -> None:
    installed = Installed(cluster)
    installed.install()
    with installed.service() as service:
        service.deploy(files("# first"), "prod")
        installed.follow("before")
        server, key = installed.started(), key_id(cluster.token(installed.namespace, "default", "dagferry"))
        cluster.rotate_signing_key()
        assert key_id(cluster.token(installed.namespace, "default", "dagferry")) != key
        installed.follow("after")
        service.deploy(files("# second"), "prod")
    for pod in ("before", "after"):
        installed.reads(pod, "# second")
        installed.undisturbed(pod)
    assert installed.started() == server


def store_certificate(installed: Installed, authority: Authority) -> str:
    """Issue a certificate, and put it into the Secret as cert-manager does; return it."""
    certificate, key = authority.issue("server", "server", addresses=["127.0.0.1"], hosts=["dagferry-server"])
    made = ("create", "secret", "tls", SECRET, f"--cert={certificate}", f"--key={key}", "--dry-run=client", "-o=json")
    installed.apply(json.loads(installed.kubectl(*made)))
    return certificate.read_text()


def test_a_renewed_certificate_is_served_without_a_restart(cluster: Cluster, tmp_path: Path) -> None:
    installed, authority = Installed(cluster), Authority(tmp_path / "pki")
    first = store_certificate(installed, authority)
    installed.kubectl("create", "configmap", "ca", f"--from-file=ca.crt={authority.certificate}")
    installed.install({"server": {"tlsSecret": SECRET}})
    with installed.service() as plain:
        service = Service(plain.port, plain.token, str(authority.certificate))

        def served() -> Any:
            time.sleep(LOOK_SECONDS)
            return ssl.get_server_certificate(("127.0.0.1", service.port))

        assert served() == first
        service.deploy(files("# first"), "prod")
        installed.follow("worker", ca="ca", server="https://dagferry-server:8000")
        server = installed.started()
        second = store_certificate(installed, authority)
        assert second != first
        eventually("the new certificate", lambda: served() == second, KUBELET_SECONDS)
        service.deploy(files("# second"), "prod")
    installed.reads("worker", "# second")
    installed.undisturbed("worker")
    assert installed.started() == server
