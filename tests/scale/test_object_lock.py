"""A bucket with object lock takes what comes with a checksum, and deletes nothing: its server works as elsewhere."""

import os

import pytest

from dagferry_server.errors import StoreAway
from faulty_store import Message
from object_stores import BUCKET, SERVICES
from stores import ObjectStoreUnderTest

DIGEST = "sha256:" + "a" * 64
LARGE = os.urandom(9_000_000)  # more than a part


@pytest.fixture
def locked(tmp_path, cleanup) -> ObjectStoreUnderTest:
    """A bucket with object lock that refuses an object without a checksum, as AWS does."""
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html: Content-MD5 or x-amz-checksum-*
    under_test = ObjectStoreUnderTest(SERVICES["versitygw-versioned"](), tmp_path)
    cleanup.append(under_test.close)
    for proxy in under_test.proxies:
        proxy.guard = lambda message: message if message.method != "PUT" or has_checksum(message) else None
    return under_test


def has_checksum(message: Message) -> bool:
    return any(
        name.lower().startswith("x-amz-checksum-") or name.lower() == "content-md5" for name, _ in message.headers
    )


def write(out: object) -> bytes:
    out.write(LARGE)
    return b"index"


def test_with_the_documented_setting_all_that_a_server_writes_has_a_checksum(locked) -> None:
    variables = {**locked.variables(locked.proxies[0]), "AWS_CHECKSUM_ALGORITHM": "SHA256"}
    locked.variables = lambda _proxy=None: variables
    store = locked.open()
    store.probed = False
    store.probe()
    assert store.prepare("prod")
    assert store.create_entry("prod", 1, b"one")
    assert not store.create_entry("prod", 1, b"two")
    store.put_bundle("prod", DIGEST, write)
    for content in (b"frozen", b"thawed"):
        store.write_state("prod", "freeze", content)
    again = locked.open()
    assert again.read_state("prod", "freeze") == b"thawed"
    with again.open_bundle("prod", DIGEST) as source:
        assert source.read(0, source.size) == LARGE


def test_without_it_this_bucket_takes_nothing(locked) -> None:
    with pytest.raises(StoreAway):
        locked.open().prepare("prod")


def test_what_was_deleted_is_gone_for_the_server_and_kept_by_the_bucket(locked) -> None:
    store = locked.open()
    client = locked.service.client()
    locked.proxies[0].guard = lambda message: message
    store.prepare("prod")
    store.put_bundle("prod", DIGEST, write)
    for _ in range(2):
        for digest in store.may_delete("prod", [DIGEST]):
            store.delete_bundle("prod", digest)
    assert not store.has_bundle("prod", DIGEST)
    listed = client.list_object_versions(Bucket=BUCKET, Prefix=f"{locked.prefix}/prod/bundles")
    [blob] = [version for version in listed["Versions"] if version["Key"].endswith(".tar.zst")]
    with pytest.raises(client.exceptions.ClientError, match=r"AccessDenied|locked"):
        client.delete_object(Bucket=BUCKET, Key=blob["Key"], VersionId=blob["VersionId"])
