"""Buckets of object stores on this machine, for tests of the function in ``deploy/ci/bucket``.

``VERSITYGW`` and ``FAKE_GCS_SERVER`` name the binaries of these two stores; without them their tests are skipped:

    go install github.com/versity/versitygw/cmd/versitygw@v1.8.0
    go install github.com/fsouza/fake-gcs-server@v1.56.1
"""

import contextlib
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import boto3
import pytest
from moto.server import ThreadedMotoServer

from harness import eventually, free_port

FOLDER = Path(__file__).parents[1] / "deploy" / "ci" / "bucket"
sys.path.insert(0, str(FOLDER))  # the function's modules are at the top, as where it runs
PREFIX = "dags/"
KEY, SECRET = "testkey", "testsecret12"
FUNCTION = "1048576"
"""The subject of the function's identity."""
_NUMBERS = itertools.count()


class Store(Protocol):
    """A bucket of its own for each test, and what others do with it."""

    name: str
    module: str
    """The module of the function that is for it."""

    def put(self, key: str, content: bytes) -> None: ...

    def remove(self, key: str) -> None: ...

    def opened(self, prefix: str = PREFIX) -> Any: ...


class S3:
    module = "aws"

    def __init__(self, *, versioned: bool = False) -> None:
        self.name = f"dags-{next(_NUMBERS)}"
        self.client: Any = boto3.client("s3")
        self.client.create_bucket(Bucket=self.name)
        if versioned:
            status = {"Status": "Enabled"}
            self.client.put_bucket_versioning(Bucket=self.name, VersioningConfiguration=status)

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def remove(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)

    def opened(self, prefix: str = PREFIX) -> Any:
        import aws

        return aws.S3Bucket(self.name, prefix)


class Gcs:
    module = "gcp"

    def __init__(self) -> None:
        from google.cloud import storage

        self.name = f"dags-{next(_NUMBERS)}"
        self.bucket = storage.Client(project="p").create_bucket(self.name)

    def put(self, key: str, content: bytes) -> None:
        self.bucket.blob(key).upload_from_string(content)

    def remove(self, key: str) -> None:
        self.bucket.blob(key).delete()

    def opened(self, prefix: str = PREFIX) -> Any:
        import gcp

        return gcp.GcsBucket(self.name, prefix)


@contextlib.contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("AWS_", "DAGFERRY_", "GOOGLE_")):
                patch.delenv(name)
        for name, value in values.items():
            patch.setenv(name, value)
        yield


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def running_process(port: int, log: Path, *command: str, **environment: str) -> Iterator[None]:
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **environment})
    try:
        eventually(f"{command[0]} to answer", lambda: _answers(port))
        yield
    finally:
        process.kill()
        process.wait()


def aws_variables(port: int) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextlib.contextmanager
def moto() -> Iterator[None]:
    port = free_port()
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    try:
        with _variables(aws_variables(port)):
            yield
    finally:
        server.stop()


@contextlib.contextmanager
def versitygw(folder: Path) -> Iterator[None]:
    if not (binary := os.environ.get("VERSITYGW")):
        pytest.skip("VERSITYGW does not name the binary of versitygw")
    port = free_port()
    (folder / "objects").mkdir()
    (folder / "versions").mkdir()
    posix = ("posix", "--versioning-dir", str(folder / "versions"), str(folder / "objects"))
    command = (binary, "--port", f"127.0.0.1:{port}", "--quiet", *posix)
    keys = {"ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
    with running_process(port, folder / "log", *command, **keys), _variables(aws_variables(port)):
        yield


@contextlib.contextmanager
def fake_gcs_server(folder: Path) -> Iterator[None]:
    if not (binary := os.environ.get("FAKE_GCS_SERVER")):
        pytest.skip("FAKE_GCS_SERVER does not name the binary of fake-gcs-server")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    where = ("-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-public-host", f"127.0.0.1:{port}")
    command = (binary, "-backend", "memory", "-external-url", url, *where)
    with running_process(port, folder / "log", *command), _variables({"STORAGE_EMULATOR_HOST": url}):
        yield
