"""S3 gives exactly the objects that were listed, and the token comes from where the variables say."""

import boto3
import pytest
from botocore.stub import Stubber

import aws
from buckets import S3
from deployer import DeployFailed, Listed, ObjectChanged

pytestmark = pytest.mark.slow
on_s3 = pytest.mark.parametrize("kind", ["moto", "versitygw"], indirect=True)
on_moto = pytest.mark.parametrize("kind", ["moto"], indirect=True)


@on_s3
def test_the_objects_below_the_prefix_are_listed_by_their_names_after_it(store) -> None:
    for key in ("dags/a ü+%2F.py", "dags/sql/b.sql", "dags-old/c.py", "other"):
        store.put(key, b"123")
    listed = store.opened().list(10)
    assert {name: one.size for name, one in listed.items()} == {"a ü+%2F.py": 3, "sql/b.sql": 3}
    assert set(store.opened("").list(10)) == {"dags/a ü+%2F.py", "dags/sql/b.sql", "dags-old/c.py", "other"}


@on_s3
def test_of_a_versioned_bucket_only_what_is_there_now_is_listed_and_read(kind) -> None:
    store = S3(versioned=True)
    store.put("dags/a.py", b"old")
    store.put("dags/gone.py", b"x")
    bucket = store.opened()
    old = bucket.list(10)["a.py"]
    store.put("dags/a.py", b"new")
    store.remove("dags/gone.py")
    listed = bucket.list(10)
    assert set(listed) == {"a.py"}
    assert bucket.read("a.py", listed["a.py"]) == b"new"
    with pytest.raises(ObjectChanged, match=r"a\.py"):
        bucket.read("a.py", old)
    with pytest.raises(ObjectChanged, match=r"gone\.py"):
        bucket.read("gone.py", old)


@on_s3
def test_a_list_ends_after_the_page_with_too_many(store, monkeypatch) -> None:
    for number in range(5):
        store.put(f"dags/{number}", b"")
    bucket = store.opened()
    real, asked = bucket._s3.list_objects_v2, []

    def in_small_pages(**options: object) -> object:
        asked.append(options)
        return real(**options, MaxKeys=2)

    monkeypatch.setattr(bucket._s3, "get_paginator", lambda _: Pages(in_small_pages))
    assert len(bucket.list(100)) == 5
    assert len(bucket.list(2)) == 4
    assert len(asked) == 5


class Pages:
    """A paginator of boto3 for a client's method that was replaced."""

    def __init__(self, method) -> None:
        self._method = method

    def paginate(self, **options):
        while True:
            page = self._method(**options)
            yield page
            if not page["IsTruncated"]:
                return
            options["ContinuationToken"] = page["NextContinuationToken"]


@on_moto
def test_an_object_that_cannot_be_read_is_named(store) -> None:
    store.client.put_object(Bucket=store.name, Key="dags/cold.py", Body=b"x", StorageClass="GLACIER")
    bucket = store.opened()
    with pytest.raises(DeployFailed, match=r"/dags/cold\.py cannot be read: .*InvalidObjectState"):
        bucket.read("cold.py", bucket.list(10)["cold.py"])


@on_moto
def test_an_object_of_another_size_is_another_one(store) -> None:
    store.put("dags/a.py", b"123")
    bucket = store.opened()
    tag = bucket.list(10)["a.py"].tag
    with pytest.raises(ObjectChanged):
        bucket.read("a.py", Listed(tag, 4))


@on_moto
def test_the_token_is_the_variable_or_the_secret_that_it_names(kind, monkeypatch) -> None:
    arn = boto3.client("secretsmanager").create_secret(Name="dagferry-token", SecretString="dgf_secret\n")["ARN"]
    monkeypatch.setenv("DAGFERRY_TOKEN_SECRET", arn)
    assert aws.token() == "dgf_secret"
    monkeypatch.setenv("DAGFERRY_TOKEN", "dgf_given")
    assert aws.token() == "dgf_given"


@on_moto
def test_without_a_token_it_is_the_identity_of_the_function_s_role(kind, monkeypatch) -> None:
    sts = boto3.client("sts")
    asked = {"Audience": ["dagferry"], "SigningAlgorithm": "RS256", "DurationSeconds": 900}
    monkeypatch.setattr(boto3, "client", lambda name, **_: {"sts": sts}[name])
    with Stubber(sts) as stubber:
        stubber.add_response("get_web_identity_token", {"WebIdentityToken": "a.b.c", "Expiration": 0}, asked)
        assert aws.token() == "a.b.c"
        stubber.assert_no_pending_responses()
