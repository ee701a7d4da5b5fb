"""What the pages let a server do in its bucket is enough for all that it does there, and each part is needed."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import boto3
import pytest
import yaml
from moto import mock_aws

from charts import arguments, render
from dagferry_core.errors import DagferryError
from dagferry_server.store.base import Store
from deployfiles import HOME
from harness import eventually, free_port

pytest.importorskip("obstore")

from dagferry_server.store.bundle_cache import BundleCache
from dagferry_server.store.object_store import ObjectStore
from dagferry_server.store.objects import PART_BYTES, Objects

ROOT, ROOT_SECRET = "root", "rootsecret12"
SERVER, SERVER_SECRET = "server", "serversecret"
BUCKET, PREFIX = "acme-dags", "prod"
DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
NONCE = "c" * 16
PAGE = (HOME / "docs" / "how-to" / "run-on-s3.md").read_text()
POLICIES = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
[POLICY] = [policy for policy in POLICIES if "Statement" in policy and "s3:PutObject" in str(policy)]
ABORT = "s3:AbortMultipartUpload"
ACTIONS = sorted(
    action
    for statement in POLICY["Statement"]
    for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
)


class Gateway:
    """A versitygw with a bucket, and a user that may do what a policy says."""

    def __init__(self, folder: Path) -> None:
        for name in ("iam", f"data/{BUCKET}"):
            (folder / name).mkdir(parents=True)
        self.folder = folder
        self.url = f"http://127.0.0.1:{free_port()}"
        self.program = os.environ["VERSITYGW"]
        address = self.url.partition("//")[2]
        command = [self.program, "--port", address, "--quiet", "--iam-dir", folder / "iam", "posix", folder / "data"]
        environment = {"ROOT_ACCESS_KEY": ROOT, "ROOT_SECRET_KEY": ROOT_SECRET}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=ROOT,
            aws_secret_access_key=ROOT_SECRET,
            region_name="us-east-1",
        )
        eventually("the gateway to make a user", self._made_user)

    def _made_user(self) -> bool:
        command = [self.program, "admin", "--access", ROOT, "--secret", ROOT_SECRET, "--endpoint-url", self.url]
        command += ["create-user", "--access", SERVER, "--secret", SERVER_SECRET, "--role", "user"]
        assert self.process.poll() is None
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    def allow(self, without: Collection[str] = ()) -> None:
        """Let the user do what the page allows, but for some actions."""
        statements = []
        for statement in POLICY["Statement"]:
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            if left := [action for action in actions if action not in without]:
                statements.append({**statement, "Action": left, "Principal": {"AWS": [SERVER]}})
        policy = json.dumps({"Version": POLICY["Version"], "Statement": statements})
        self.client.put_bucket_policy(Bucket=BUCKET, Policy=policy)

    def objects(self) -> Objects:
        config = {"endpoint": self.url, "access_key_id": SERVER, "secret_access_key": SERVER_SECRET}
        return Objects("s3", BUCKET, PREFIX, {**config, "region": "us-east-1"}, {"allow_http": True})

    def open(self, folder: Path) -> ObjectStore:
        """The store, as a server sees it that has just started: with no bundle in its cache."""
        return ObjectStore(self.objects(), BundleCache(str(folder), 1 << 30), pause_seconds=0)

    def begun(self) -> list[Any]:
        """Uploads in parts that were begun, and neither completed nor aborted."""
        found = self.client.list_multipart_uploads(Bucket=BUCKET)
        return list(found.get("Uploads") or [])


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    if not os.environ.get("VERSITYGW"):
        if os.environ.get("CI"):
            pytest.fail("CI needs VERSITYGW, the path of versitygw")
        pytest.skip("needs VERSITYGW, the path of versitygw")
    gateway = Gateway(tmp_path / "gateway")
    yield gateway
    gateway.process.kill()
    gateway.process.wait()


def bundle(size: int) -> Callable[[BinaryIO], bytes]:
    def write(out: BinaryIO) -> bytes:
        out.write(os.urandom(size))
        return b"index"

    return write


def use(store: ObjectStore, another: Callable[[], Store]) -> None:
    """Ask the store for everything that a server asks for."""
    store.probe()
    assert store.prepare("prod")
    store.put_bundle("prod", DIGEST, bundle(3 * PART_BYTES))
    store.put_bundle("prod", OTHER, bundle(1000))
    store.put_patch("prod", OTHER, DIGEST, b"patch")
    store.put_details("prod", 1, NONCE, b"details")
    assert store.create_entry("prod", 1, b"one")
    assert not store.create_entry("prod", 1, b"two")
    store.write_state("prod", "freeze", b"frozen")
    store.write_state("prod", "freeze", b"frozen again")
    store.check_writable()
    other = another()
    assert other.deployments() == ["prod"]
    assert other.newer("prod", 0) == [b"one"]
    assert other.newer("prod", 1) == []
    assert other.read_details("prod", 1, NONCE) == b"details"
    assert other.read_state("prod", "freeze") == b"frozen again"
    assert other.read_patch("prod", OTHER, DIGEST) == b"patch"
    assert other.keeps_bundle("prod", DIGEST)
    with other.open_bundle("prod", DIGEST) as source:
        assert source.size == 3 * PART_BYTES
    for _ in range(2):
        for digest in store.may_delete("prod", {OTHER}):
            store.delete_bundle("prod", digest)
    assert list(store.bundles("prod")) == [DIGEST]
    store.delete_state("prod", "freeze")
    assert store.read_state("prod", "freeze") is None


def used(gateway: Gateway, folder: Path) -> None:
    one, two = folder / "one", folder / "two"
    for path in (one, two):
        path.mkdir(parents=True)

    def another() -> ObjectStore:
        found = gateway.open(two)
        found.probe()
        return found

    use(gateway.open(one), another)


class Broken(io.BytesIO):
    """A file that cannot be read to its end."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= PART_BYTES:
            raise OSError("the disk is broken")
        return super().read(size)


@pytest.mark.slow
def test_the_policy_of_the_page_is_enough_for_all_that_a_server_does(gateway: Gateway, tmp_path: Path) -> None:
    gateway.allow()
    used(gateway, tmp_path)
    assert gateway.begun() == []


@pytest.mark.slow
@pytest.mark.parametrize("action", [action for action in ACTIONS if action != ABORT])
def test_without_any_of_its_actions_a_server_does_not_get_through(
    gateway: Gateway, tmp_path: Path, action: str
) -> None:
    gateway.allow(without={action})
    with pytest.raises(DagferryError):
        used(gateway, tmp_path)


@pytest.mark.slow
def test_an_upload_that_fails_is_aborted_if_the_policy_allows_that(gateway: Gateway) -> None:
    left = []
    for without in ((), {ABORT}):
        gateway.allow(without=without)
        with pytest.raises((DagferryError, OSError)):
            gateway.objects().put_file("blob", Broken(os.urandom(3 * PART_BYTES)))
        left.append(len(gateway.begun()))
    assert left == [0, 1]


@pytest.mark.slow
def test_cfn_lint_knows_each_word_of_the_policy(tmp_path: Path) -> None:
    command = shutil.which("cfn-lint", path=str(Path(sys.executable).parent))
    if not command:
        pytest.skip("there is no cfn-lint")
    path = tmp_path / "template.json"
    policy = {"Type": "AWS::IAM::ManagedPolicy", "Properties": {"PolicyDocument": POLICY}}
    template = {"AWSTemplateFormatVersion": "2010-09-09", "Resources": {"Policy": policy}}
    path.write_text(json.dumps(template))
    assert subprocess.run([command, path], check=False, capture_output=True, text=True).stdout == ""
    path.write_text(json.dumps(template).replace("s3:GetObject", "GetObject"))
    assert subprocess.run([command, path], check=False, capture_output=True, text=True).stdout


@mock_aws
def test_s3_takes_the_lifecycle_of_the_page_and_it_expires_nothing() -> None:
    [lifecycle] = [policy for policy in POLICIES if "Rules" in policy]
    client: Any = boto3.client("s3", aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)
    client.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration=lifecycle)
    [rule] = client.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert not {"Expiration", "Transitions", "NoncurrentVersionExpiration"} & rule.keys()


def blocks(page: str, language: str) -> list[Any]:
    """The blocks of a page in JSON or YAML."""
    text = (HOME / "docs" / "how-to" / page).read_text()
    return [yaml.safe_load(block) for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)]


def test_the_roles_of_the_other_clouds_have_the_same_and_no_more() -> None:
    """As S3's: read, write, delete and list objects, and abort uploads, which Azure does by itself."""
    [role] = [block for block in blocks("run-on-google-cloud-storage.md", "yaml") if "includedPermissions" in block]
    objects = {f"storage.objects.{verb}" for verb in ("create", "delete", "get", "list")}
    assert set(role["includedPermissions"]) == objects | {
        f"storage.multipartUploads.{verb}" for verb in ("create", "abort")
    }
    [lifecycle] = [block for block in blocks("run-on-google-cloud-storage.md", "json") if "rule" in block]
    assert [rule["action"]["type"] for rule in lifecycle["rule"]] == ["AbortIncompleteMultipartUpload"]
    [role] = blocks("run-on-azure-blob-storage.md", "json")
    assert role["Actions"] == []
    blobs = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
    assert set(role["DataActions"]) == {f"{blobs}/{verb}" for verb in ("read", "write", "delete", "add/action")}


@pytest.mark.parametrize(
    "page",
    [
        "run-on-s3.md",
        "run-on-google-cloud-storage.md",
        "run-on-azure-blob-storage.md",
        "run-on-an-on-prem-store.md",
    ],
)
def test_the_values_of_each_page_are_values_of_the_chart(page: str) -> None:
    found = [block for block in blocks(page, "yaml") if "store" in block]
    assert found
    for values in found:
        rendered = render(values)
        assert f"--store={values['store']['url']}" in arguments(rendered)
