"""An S3 store beside a cluster: on the node, where its pods reach it and nobody else does."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.control import BOUND_TO_STARTER
from cluster.node import NODE_ADDRESS
from cluster.outside import Cluster
from harness import eventually

PORT = 7070
KEY, SECRET_KEY = "testkey", "testsecret12"
BUCKET = "dags"
SECRET = "store"
"""The Secret with the keys."""
START_SECONDS = 30


UNREACHABLE = ("INPUT", "-p", "tcp", "--dport", str(PORT), "-j", "DROP")
"""A rule of the node's: nobody answers there, and nobody refuses."""


@contextlib.contextmanager
def s3(cluster: Cluster, folder: Path) -> Iterator[None]:
    """Run versitygw with its bucket in ``folder``."""
    program = os.environ.get("VERSITYGW")
    if not program:
        if os.environ.get("CI"):
            pytest.fail("CI needs VERSITYGW, the path of versitygw")
        pytest.skip("needs VERSITYGW, the path of versitygw")
    (folder / BUCKET).mkdir(parents=True)
    command = [*BOUND_TO_STARTER, *cluster.on_node(), program, "--port", f"{NODE_ADDRESS}:{PORT}", "--quiet"]
    environment = {**os.environ, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET_KEY}
    with subprocess.Popen([*command, "posix", folder], env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            with cluster.forwarded(NODE_ADDRESS, PORT) as port:
                eventually("the store to answer", lambda: _answers(process, port), START_SECONDS)
            yield
        finally:
            process.kill()


@contextlib.contextmanager
def away(cluster: Cluster) -> Iterator[None]:
    """The store is away meanwhile: what is sent to it is lost, also on connections that are open."""
    iptables = [*cluster.on_node(), "iptables", "-w"]
    subprocess.run([*iptables, "-I", *UNREACHABLE], check=True)
    try:
        yield
    finally:
        subprocess.run([*iptables, "-D", *UNREACHABLE], check=True)


def _answers(process: "subprocess.Popen[bytes]", port: int) -> bool:
    import http.client

    assert process.poll() is None
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status > 0
    except (OSError, http.client.HTTPException):
        return bool(time.sleep(0.1))
    finally:
        connection.close()


def secret() -> dict[str, Any]:
    """The Secret with the keys of the store."""
    data = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "stringData": data}


def values(**more: Any) -> dict[str, Any]:
    """The values of our chart for the store."""
    env = {"AWS_ENDPOINT_URL": f"http://{NODE_ADDRESS}:{PORT}", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
    store = {"url": f"s3://{BUCKET}/prod", "env": env, "existingSecret": SECRET, "cacheSize": "256Mi"}
    return {"store": store, **more}
