"""Hardly any key is written twice: a store may allow one write a second of a key, or keep each version for years."""

import collections
import re

from faulty_store import CREATE, DELETE, PARTS, PUT
from stores import ObjectStoreUnderTest

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
NONCE = "0123456789abcdef"
REPLACED = re.compile(r"[^/]+/log\.json|[^/]+/[a-z]+\.state|\.dagferry/(changed|writable)")
"""What may be written again: a log id, the records of the state, and what says that these changed."""


def bundle(content: bytes) -> object:
    def write(out: object) -> bytes:
        out.write(content)
        return b"index"

    return write


def use_all(under_test: ObjectStoreUnderTest) -> None:
    """Let two servers do what servers do, twice."""
    first, second = under_test.open(), under_test.open()
    for store in (first, second):
        store.probed = False
        store.probe()
        store.prepare("prod")
        store.check_writable()
    for number, store in enumerate((first, second, first, second), 1):
        store.put_bundle("prod", DIGEST, bundle(b"%d" % number))
        store.put_bundle("prod", OTHER, bundle(b"%d" % number * 100_000))
        store.put_patch("prod", DIGEST, OTHER, b"patch")
        store.put_details("prod", number, NONCE, b"details")
        store.create_entry("prod", number, b"%d" % number)
        store.create_entry("prod", number, b"too late")
        store.write_state("prod", "freeze", b"%d" % number)
        for _ in range(2):
            for digest in store.may_delete("prod", [DIGEST]):
                store.delete_bundle("prod", digest)
        store.delete_details("prod", number, NONCE)
        store.delete_state("prod", "freeze")
    first.new_log_id("prod")


def test_two_servers_write_no_key_twice_but_a_few(bucket) -> None:
    use_all(bucket)
    accepted: collections.Counter[str] = collections.Counter()
    for proxy in bucket.proxies:
        for request in proxy.requests:
            key = request.key.removeprefix(f"{bucket.prefix}/")
            if request.kind == PUT:
                accepted[key] += 1
    assert accepted, "no PUT went through the proxies"
    again = sorted(key for key, count in accepted.items() if count > 1 and not REPLACED.fullmatch(key))
    assert again == []


def test_a_refused_create_of_a_ready_server_leaves_no_version_behind(s3) -> None:
    """Readiness is asked every few seconds, for years."""
    [proxy, *_] = s3.proxies
    store = s3.open(proxy)
    store.check_writable()
    before = list(s3.objects().list(".dagferry"))
    del proxy.requests[:]
    for _ in range(3):
        store.check_writable()
    assert list(s3.objects().list(".dagferry")) == before
    assert not {PUT, PARTS, DELETE} & proxy.counts().keys()
    assert proxy.counts()[CREATE] == 3
