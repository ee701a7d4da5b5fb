"""The proxy in front of an object store does what the tests behind it rely on."""

import os
import time

import obstore
import pytest

from faulty_store import CREATE, DELETE, GET, LIST, PARTS, PUT, Fault, Request
from stores import ObjectStoreUnderTest

STORED = {
    Fault.ANSWER_DROPPED: True,
    Fault.RESET_BEFORE: False,
    Fault.RESET_AFTER: True,
    Fault.ERROR_AFTER: True,
    Fault.UNAVAILABLE_BEFORE: False,
    Fault.CONFLICT: False,
    Fault.LATE: False,
    Fault.CUT: False,
}


def once(under_test: ObjectStoreUnderTest) -> object:
    """The client of the first proxy that repeats nothing."""
    return under_test.open(under_test.proxies[0])._objects._once


@pytest.mark.parametrize("fault", list(Fault))
def test_a_fault_fails_one_request_and_the_store_has_what_the_fault_says(plain_bucket, fault) -> None:
    [proxy, *_] = plain_bucket.proxies
    proxy.late_seconds = 0.5
    client = once(plain_bucket)
    proxy.spoil(fault, CREATE)
    with pytest.raises(Exception, match=r"AlreadyExists|error"):
        obstore.put(client, "key", b"content", mode="create", use_multipart=False)
    assert (plain_bucket.objects().get("key") is not None) is STORED[fault]
    assert proxy.struck == [fault]
    proxy.wait_for_late()
    assert (plain_bucket.objects().get("key") is not None) is (STORED[fault] or fault is Fault.LATE)
    obstore.put(client, "other", b"content", mode="create", use_multipart=False)
    assert plain_bucket.objects().get("other") == b"content"


def test_requests_are_counted_by_kind(plain_bucket) -> None:
    [proxy, *_] = plain_bucket.proxies
    objects = plain_bucket.open(proxy)._objects
    objects.create("a/one", b"1")
    objects.put("a/two", b"2")
    assert objects.get("a/two") == b"2"
    assert len(list(objects.list("a"))) == 2
    objects.delete("a/two")
    assert proxy.counts() == {CREATE: 1, PUT: 1, GET: 1, LIST: 1, DELETE: 1}
    assert [request.key for request in proxy.requests[:3]] == [
        f"{plain_bucket.prefix}/{key}" for key in ("a/one", "a/two", "a/two")
    ]


def test_a_large_file_goes_in_parts(plain_bucket, tmp_path) -> None:
    [proxy, *_] = plain_bucket.proxies
    objects = plain_bucket.open(proxy)._objects
    (tmp_path / "large").write_bytes(os.urandom(20_000_000))
    with (tmp_path / "large").open("rb") as file:
        objects.put_file("large", file)
    assert proxy.counts().keys() == {PARTS}
    assert plain_bucket.objects().get("large") == (tmp_path / "large").read_bytes()


def test_a_chosen_key_is_unavailable_and_others_are_not(s3) -> None:
    [proxy, *_] = s3.proxies
    client = once(s3)
    for key in ("one", "two"):
        s3.objects().put(key, key.encode())
    proxy.unavailable = lambda request: request.kind == GET and request.key.endswith("/one")
    with pytest.raises(Exception, match="503"):
        obstore.get(client, "one")
    assert bytes(obstore.get(client, "two").bytes()) == b"two"


def test_from_a_chosen_request_on_the_store_hears_nothing_until_it_is_resumed(s3) -> None:
    [proxy, *_] = s3.proxies
    client = once(s3)
    stopped: list[Request] = []
    proxy.stop_at(2, stopped.append)
    obstore.put(client, "one", b"1", use_multipart=False)
    for _ in range(2):
        with pytest.raises(Exception, match="error"):
            obstore.put(client, "two", b"2", use_multipart=False)
    assert [(request.number, request.kind) for request in stopped] == [(2, PUT)]
    assert s3.objects().get("two") is None
    proxy.resume()
    obstore.put(client, "two", b"2", use_multipart=False)
    assert s3.objects().get("two") == b"2"


def test_bodies_are_as_slow_as_they_are_told_to_be_in_both_directions(s3) -> None:
    [proxy, *_] = s3.proxies
    client = once(s3)
    content = os.urandom(400_000)
    proxy.bytes_per_second = 200_000.0
    for call in (
        lambda: obstore.put(client, "slow", content, use_multipart=False),
        lambda: obstore.get(client, "slow").bytes(),
    ):
        started = time.monotonic()
        call()
        assert time.monotonic() - started > 1.5  # less would be another rate
    assert s3.objects().get("slow") == content


def test_a_proxy_that_went_away_breaks_connections_that_were_open(s3) -> None:
    client = once(s3)
    obstore.put(client, "one", b"1", use_multipart=False)
    with s3.away(), pytest.raises(Exception, match="error"):
        obstore.get(client, "one")
    assert bytes(obstore.get(client, "one").bytes()) == b"1"
