"""The seven operations, on a real store behind a proxy that spoils requests."""

import concurrent.futures
import os
import subprocess
import sys
import tempfile

import pytest

from dagferry_server.errors import StoreAway
from dagferry_server.store import objects as module
from dagferry_server.store.address import obstore_settings
from dagferry_server.store.objects import PART_BYTES, Objects, in_threads
from faulty_store import CREATE, GET, PARTS, PUT, Fault
from object_stores import KEY
from stores import environment

pytestmark = pytest.mark.slow
STORED = (Fault.ANSWER_DROPPED, Fault.RESET_AFTER, Fault.ERROR_AFTER)
NOT_STORED = (Fault.RESET_BEFORE, Fault.UNAVAILABLE_BEFORE, Fault.CONFLICT, Fault.CUT)


@pytest.fixture
def proxy(bucket):
    return bucket.proxies[0]


@pytest.fixture
def objects(bucket, proxy) -> Objects:
    return make(bucket.variables(proxy), bucket.prefix)


def make(variables: dict[str, str], prefix: str, bucket: str = "dagferry") -> Objects:
    with environment(variables):
        return Objects("s3", bucket, prefix, *obstore_settings("s3", variables))


def keys(objects: Objects, folder: str) -> list[str]:
    return sorted(meta.key for meta in objects.list(folder))


def test_an_object_is_read_listed_and_deleted(objects) -> None:
    objects.put("a/b/c", b"12345")
    objects.put("ab/c", b"")
    assert (objects.get("a/b/c"), objects.get("ab/c"), objects.get("a/b")) == (b"12345", b"", None)
    assert objects.get("a/b/c", 3) == b"123"
    assert objects.get("a/b/c", 100) == b"12345"
    ((key, size, modified),) = objects.list("a")
    assert (key, size) == ("a/b/c", 5)
    assert modified > 0
    assert sorted(objects.folders()) == ["a", "ab"]
    for _ in range(2):
        objects.delete("a/b/c")
    assert list(objects.list("a")) == []


def test_a_create_whose_answer_was_lost_is_won(objects, proxy) -> None:
    for number, fault in enumerate(STORED):
        proxy.spoil(fault, CREATE)
        assert objects.create(f"a/{number}", b"mine")
        assert objects.get(f"a/{number}") == b"mine"
    assert proxy.struck == list(STORED)


def test_a_create_that_the_store_never_got_is_tried_again(objects, proxy) -> None:
    """A 409 among them: it does not mean that somebody else has the key."""
    for number, fault in enumerate(NOT_STORED):
        proxy.spoil(fault, CREATE)
        assert objects.create(f"a/{number}", b"mine")
    assert proxy.struck == list(NOT_STORED)


def test_a_create_that_another_one_won_is_lost_whatever_the_answer_was(objects, proxy) -> None:
    objects.put("a/b", b"another")
    for fault in (*STORED, *NOT_STORED):
        proxy.spoil(fault, CREATE)
        assert not objects.create("a/b", b"mine")
    assert objects.get("a/b") == b"another"


def test_a_create_that_arrives_late_is_won_and_stored_once(objects, proxy) -> None:
    proxy.late_seconds = 1.0
    proxy.spoil(Fault.LATE, CREATE)
    assert objects.create("a/b", b"mine")
    proxy.wait_for_late()
    assert objects.get("a/b") == b"mine"


def test_of_ten_creates_behind_any_faults_one_is_won(objects, proxy) -> None:
    faults = [*STORED, *NOT_STORED]
    for round_ in range(5):
        for fault in faults[round_:] + faults[:round_]:
            proxy.spoil(fault, CREATE)
        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            won = list(pool.map(lambda racer, key=f"a/{round_}": objects.create(key, b"%d" % racer), range(10)))
        assert won.count(True) == 1
        assert objects.get(f"a/{round_}") == b"%d" % won.index(True)


def test_a_conditional_write_is_sent_once(objects, proxy) -> None:
    proxy.spoil(Fault.UNAVAILABLE_BEFORE, CREATE)
    assert objects.try_create("a/b", b"mine") is not None
    assert proxy.counts()[CREATE] == 1
    assert objects.get("a/b") is None


def test_other_requests_are_repeated(objects, proxy) -> None:
    proxy.spoil(Fault.UNAVAILABLE_BEFORE, PUT)
    objects.put("a/b", b"content")
    proxy.spoil(Fault.UNAVAILABLE_BEFORE, GET)
    assert objects.get("a/b") == b"content"


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, 2 * PART_BYTES + 1])
def test_a_file_is_stored_and_fetched_as_it_is(objects, size) -> None:
    content = os.urandom(size)
    with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as fetched:
        file.write(content)
        objects.put_file("a/b", file)
        assert objects.get_to_file("a/b", fetched, size)
        assert fetched.read() == content
        if size:
            assert not objects.get_to_file("a/c", fetched, size)


def test_an_upload_of_a_file_that_fails_leaves_no_object(objects, proxy) -> None:
    proxy.unavailable = lambda request: request.kind == PARTS and proxy.counts()[PARTS] > 2
    with tempfile.TemporaryFile() as file:
        file.truncate(4 * PART_BYTES)
        with pytest.raises(StoreAway):
            objects.put_file("a/b", file)
    proxy.unavailable = lambda _: False
    assert keys(objects, "a") == []


def test_a_slow_body_has_more_time_than_a_request(bucket, proxy, monkeypatch) -> None:
    monkeypatch.setattr(module, "REQUEST_SECONDS", 1)
    objects = make(bucket.variables(proxy), bucket.prefix)
    proxy.bytes_per_second = 2_000_000  # 2 s in each direction
    size = 4_000_000
    with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as fetched:
        file.truncate(size)
        objects.put_file("a/b", file)
        assert objects.get_to_file("a/b", fetched, size)
        assert os.fstat(fetched.fileno()).st_size == size


def test_a_large_file_is_not_held_in_memory(bucket) -> None:
    code = f"""
import tempfile
from dagferry_server.store.objects import Objects
objects = Objects("s3", "dagferry", {bucket.prefix!r}, {{}}, {{"allow_http": True}})
size = 200 * 1024 * 1024
with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as fetched:
    file.truncate(size)
    objects.put_file("large", file)
    assert objects.get_to_file("large", fetched, size)
with open("/proc/self/status") as status:
    print([line.split()[1] for line in status if line.startswith("VmHWM")][0])
"""
    variables = {**os.environ, **bucket.variables()}
    printed = subprocess.run([sys.executable, "-c", code], env=variables, stdout=subprocess.PIPE, check=True).stdout
    bucket.objects().delete("large")
    assert int(printed) < 128 * 1024


def test_a_bucket_that_is_missing_is_not_an_object_that_is_missing(bucket) -> None:
    objects = make(bucket.variables(), bucket.prefix, "no-such-bucket")
    for call in (lambda: objects.get("a/b"), lambda: objects.create("a/b", b""), lambda: list(objects.list("a"))):
        with pytest.raises(StoreAway, match=r"no-such-bucket/.*/a.* answered 404 Not Found \(NoSuchBucket\)") as caught:
            call()
        assert caught.value.hint == "Create the bucket, or correct --store."


def test_wrong_credentials_are_named_and_not_shown(bucket) -> None:
    objects = make({**bucket.variables(), "AWS_SECRET_ACCESS_KEY": "another-secret"}, bucket.prefix)
    calls = {
        "get": lambda: objects.get("a/b"),
        "create": lambda: objects.create("a/b", b""),
        "put": lambda: objects.put("a/b", b""),
        "list": lambda: list(objects.list("a/b")),
    }
    for call in calls.values():
        with pytest.raises(
            StoreAway, match=r"/a/b failed: it answered 403 Forbidden \(SignatureDoesNotMatch\)\."
        ) as got:
            call()
        assert "credentials" in got.value.hint
        assert not [secret for secret in ("another-secret", KEY, "AWS4-HMAC") if secret in got.value.message]


def test_the_reason_is_named_if_the_store_cannot_be_reached(bucket) -> None:
    objects = make({**bucket.variables(), "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, bucket.prefix)
    with pytest.raises(StoreAway, match=r"Reading s3://dagferry/.*/a/b failed: .*\(Connection refused\)\.$"):
        objects.get("a/b")


def test_a_signature_in_a_url_is_in_no_error() -> None:
    settings = {"account_name": "account", "endpoint": "http://127.0.0.1:1/account", "sas_token": "sv=1&sig=SECRET"}
    objects = Objects("az", "container", "", settings, {"allow_http": True})
    for call in (lambda: objects.get("a"), lambda: list(objects.list("a")), lambda: objects.put("a", b"")):
        with pytest.raises(StoreAway) as caught:
            call()
        assert "SECRET" not in caught.value.message


def test_results_of_threads_come_in_order_and_errors_too() -> None:
    assert in_threads(3, lambda number: number * 2, list(range(10))) == list(range(0, 20, 2))
    assert in_threads(3, str, []) == []
    with pytest.raises(ZeroDivisionError):
        in_threads(3, lambda number: 1 // number, [1, 0, 2])
