"""Object stores that run on this machine, for tests of the store in a bucket.

Each is started once in a process of the tests, when the first test needs it, on free ports of loopback, and ends with
that process, however it ends. Each test has a prefix of its own in the bucket, and proxies of its own in front: see
``faulty_store``. A store that is not installed is skipped: ``python tests/store_programs.py NAME`` installs it.
"""

import base64
import contextlib
import email.utils
import functools
import hashlib
import hmac
import http.client
import itertools
import json
import os
import socket
import ssl
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import store_programs
from faulty_store import Message
from gcs_xml_api import XmlApi
from harness import eventually, free_port

KEY, SECRET, REGION, BUCKET = "testkey", "testsecret12", "us-east-1", "dagferry"
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account that azurite has, and documents: https://learn.microsoft.com/azure/storage/common/storage-connect-azurite"""
_AZURE_VERSION = "2021-12-02"
_CONTAINER = f"/{AZURE_ACCOUNT}/{BUCKET}"
START_SECONDS = 60.0
"""How long a store in Java or Node may take to start on a busy machine."""
_ENDS_WITH_US = '"$@" & pid=$!; read -r _; kill -9 "$pid"'
"""Runs a command until the standard input ends: the kernel closes it when this process is gone."""
_NUMBERS = itertools.count(1)


class Service(ABC):
    """A running store, with the bucket ``BUCKET``. ``ports`` are its endpoints; each has the same content."""

    scheme = "s3"
    segments = 1
    """How many segments of a path come before the key."""
    ports: tuple[int, ...]

    @abstractmethod
    def variables(self, port: int) -> dict[str, str]:
        """The environment of a server that uses it at this port."""

    def sign(self, message: Message) -> Message:
        """Return a request whose headers were changed with a valid signature."""
        return message


def sign_s3(message: Message) -> Message:
    """Sign a request to S3 whose headers were changed."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    message = message.without("authorization", "x-amz-date")
    headers = {name: value for name, value in message.headers if name.lower() != "content-length"}
    url = f"http://{message.header('host')}{message.target}"
    request = AWSRequest(message.method, url, headers=headers, data=message.body)
    S3SigV4Auth(Credentials(KEY, SECRET), "s3", REGION).add_auth(request)
    return message._replace(headers=list(request.headers.items()))


class S3(Service):
    """A store that speaks S3, with the keys ``KEY`` and ``SECRET``."""

    def __init__(self, *ports: int, **bucket: Any) -> None:
        self.ports = ports
        client = self.client()
        client.create_bucket(Bucket=BUCKET, **bucket)

    def client(self) -> Any:
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.ports[0]}",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name=REGION,
        )

    def variables(self, port: int) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
        }

    def sign(self, message: Message) -> Message:
        return sign_s3(message)


class Azure(Service):
    """Azurite. Its account is the first segment of a path, and the container the second."""

    scheme = "az"
    segments = 2

    def __init__(self, port: int) -> None:
        self.ports = (port,)
        moment = email.utils.formatdate(usegmt=True)
        resource = f"/{AZURE_ACCOUNT}{_CONTAINER}\nrestype:container"
        signed = "PUT" + "\n" * 12 + f"x-ms-date:{moment}\nx-ms-version:{_AZURE_VERSION}\n{resource}"
        digest = hmac.new(base64.b64decode(AZURE_KEY), signed.encode(), hashlib.sha256).digest()
        signature = f"SharedKey {AZURE_ACCOUNT}:{base64.b64encode(digest).decode()}"
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
        _make_container(connection, {"x-ms-date": moment, "Authorization": signature})

    def variables(self, port: int) -> dict[str, str]:
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": AZURE_ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY,
            "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}",
            "AZURE_ALLOW_HTTP": "true",
        }


class AzureWithTokens(Service):
    """Azurite with TLS, for clients that have an access token instead of the account's key."""

    scheme = "az"
    segments = 2

    def __init__(self, port: int, token: str) -> None:
        self.ports = (port,)
        anyone = ssl.create_default_context()
        anyone.check_hostname = False
        anyone.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=START_SECONDS, context=anyone)
        _make_container(connection, {"Authorization": f"Bearer {token}"})

    def variables(self, port: int) -> dict[str, str]:
        endpoint = f"https://127.0.0.1:{port}/{AZURE_ACCOUNT}"
        return {"AZURE_STORAGE_ACCOUNT_NAME": AZURE_ACCOUNT, "AZURE_STORAGE_ENDPOINT": endpoint}


def _make_container(connection: http.client.HTTPConnection, headers: Mapping[str, str]) -> None:
    headers = {"x-ms-version": _AZURE_VERSION, "Content-Length": "0", **headers}
    _ask(connection, "PUT", f"{_CONTAINER}?restype=container", headers, expected=201)


class Gcs(Service):
    """fake-gcs-server, behind the XML API."""

    scheme = "gs"

    def __init__(self, port: int) -> None:
        body = json.dumps({"name": BUCKET}).encode()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
        _ask(connection, "POST", "/storage/v1/b?project=p", {"Content-Type": "application/json"}, body, expected=200)
        self.ports = (XmlApi(port).port,)

    def variables(self, port: int) -> dict[str, str]:
        key = {
            "gcs_base_url": f"http://127.0.0.1:{port}",
            "disable_oauth": True,
            "client_email": "dagferry@example.com",
            "private_key_id": "none",
            "private_key": "",
        }
        return {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(key), "GOOGLE_ALLOW_HTTP": "true"}


def _versitygw(*options: str, gateways: int = 1, **bucket: Any) -> S3:
    program = _program("versitygw")
    folder = _folder()
    # Below /dev/shm it would wait for no disk, but Docker gives that 64 MB.
    (folder / "objects").mkdir()
    (folder / "versions").mkdir()
    ports = [free_port() for _ in range(gateways)]
    for port in ports:
        posix = ("posix", *(option.format(folder=folder) for option in options), str(folder / "objects"))
        command = (str(program), "--port", f"127.0.0.1:{port}", "--quiet", *posix)
        _start(folder, port, *command, ROOT_ACCESS_KEY=KEY, ROOT_SECRET_KEY=SECRET)
    return S3(*ports, **bucket)


@functools.cache
def versitygw() -> Service:
    """Two gateways in front of one folder."""
    return _versitygw(gateways=2)


@functools.cache
def versitygw_versioned() -> Service:
    """A bucket that keeps each version of an object, and retains it for a day (object lock)."""
    service = _versitygw("--versioning-dir", "{folder}/versions", ObjectLockEnabledForBucket=True)
    client = service.client()
    assert client.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
    configuration = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    client.put_object_lock_configuration(Bucket=BUCKET, ObjectLockConfiguration=configuration)
    return service


@functools.cache
def azurite() -> Service:
    port = free_port()
    flags = ("--silent", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry")
    command = ("node", str(_program("azurite")), *flags, "--blobHost", "127.0.0.1", "--blobPort", str(port))
    _start(_folder(), port, *command)
    return Azure(port)


def azurite_with_tokens(certificate: Path, token: str) -> Service:
    """Another azurite, with TLS, that checks the claims of access tokens. ``certificate`` has the key too."""
    port = free_port()
    flags = ("--silent", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--oauth", "basic")
    address = (
        "--blobHost",
        "127.0.0.1",
        "--blobPort",
        str(port),
        "--cert",
        str(certificate),
        "--key",
        str(certificate),
    )
    _start(_folder(), port, "node", str(_program("azurite")), *flags, *address)
    return AzureWithTokens(port, token)


@functools.cache
def gcs() -> Service:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    where = ("-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-public-host", f"127.0.0.1:{port}")
    _start(_folder(), port, str(_program("fake-gcs-server")), "-backend", "memory", "-external-url", url, *where)
    return Gcs(port)


@functools.cache
def s3proxy() -> Service:
    program, folder, port = _program("s3proxy"), _folder(), free_port()
    (folder / "objects").mkdir()
    settings = {
        "s3proxy.authorization": "aws-v2-or-v4",
        "s3proxy.endpoint": f"http://127.0.0.1:{port}",
        "s3proxy.identity": KEY,
        "s3proxy.credential": SECRET,
        "jclouds.provider": "filesystem-nio2",
        "jclouds.identity": "local",
        "jclouds.credential": "local",
        "jclouds.filesystem.basedir": str(folder / "objects"),
    }
    (folder / "settings").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    _start(folder, port, "java", "-Xmx256m", "-jar", str(program), "--properties", str(folder / "settings"))
    return S3(port)


@functools.cache
def s3mock() -> Service:
    """A mock that checks conditions, but not atomically, and no signatures."""
    port = free_port()
    java = ("java", "-Xmx256m", f"-Dserver.port={free_port()}", f"-Dcom.adobe.testing.s3mock.httpPort={port}")
    address = ("-Dserver.address=127.0.0.1",)
    _start(_folder(), port, *java, *address, "-jar", str(_program("s3mock")))
    return S3(port)


@functools.cache
def seaweedfs() -> Service:
    program, folder = _program("seaweedfs"), _folder()
    port, *others = (free_port() for _ in range(8))
    names = ("master", "volume", "filer")
    identity = {
        "name": "test",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    ports = [f"-{name}.port={number}" for name, number in zip(names, others[:3], strict=True)]
    ports += [f"-{name}.port.grpc={number}" for name, number in zip((*names, "s3"), others[3:], strict=True)]
    command = (str(program), "server", "-s3", f"-s3.port={port}", *ports, f"-dir={folder}", "-volume.max=20")
    address = ("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.volumeSizeLimitMB=64")
    _start(folder, port, *command, *address, f"-s3.config={folder / 's3.json'}", "-s3.iam=false")
    return S3(port)


SERVICES = {
    "versitygw": versitygw,
    "versitygw-versioned": versitygw_versioned,
    "azurite": azurite,
    "gcs": gcs,
    "s3proxy": s3proxy,
    "seaweedfs": seaweedfs,
}
"""The stores that a server can use. ``s3mock`` is none of them: it is the one that must be refused."""


def _program(name: str) -> Path:
    try:
        return store_programs.find(name)
    except store_programs.NotInstalled as reason:
        if name in _needed():
            pytest.fail(str(reason))
        pytest.skip(str(reason))


def _needed() -> set[str]:
    """The programs of the stores that this run names."""
    named = os.environ.get("DAGFERRY_TEST_STORES", "").split(",")
    return {"fake-gcs-server" if name == "gcs" else name.partition("-")[0] for name in named}


def _folder() -> Path:
    folder = Path(_scratch().name, str(next(_NUMBERS)))
    folder.mkdir()
    return folder


@functools.cache
def _scratch() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="dagferry-stores-", ignore_cleanup_errors=True)


def _start(folder: Path, port: int, *command: str, **environment: str) -> None:
    log = folder / f"{port}.log"
    with log.open("wb") as out:
        _PROCESSES.append(
            subprocess.Popen(
                ["sh", "-c", _ENDS_WITH_US, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                env={**os.environ, **environment},
                cwd=folder,
            )
        )
    try:
        eventually(f"{command[0]} to answer", lambda: _answers(port), START_SECONDS)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{log.read_text(errors='replace')[-2000:]}") from None


_PROCESSES: "list[subprocess.Popen[bytes]]" = []
"""Kept, so that their standard input stays open."""


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _ask(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes = b"",
    *,
    expected: int,
) -> None:
    with contextlib.closing(connection):
        connection.request(method, target, body, dict(headers))
        response = connection.getresponse()
        assert response.status == expected, response.read()
