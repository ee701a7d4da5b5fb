"""What the store in a bucket does beyond the contract: see ``test_contract``."""

import concurrent.futures
import errno
import os
import time
from collections import Counter
from collections.abc import Callable
from typing import BinaryIO

import pytest

from dagferry_server.errors import BundleGone, StoreAway, StoreDamaged, StoreFull
from dagferry_server.store import object_store as module
from dagferry_server.store.object_store import CLOCK_FOLDER, ObjectStore
from dagferry_server.store.probe import PROBE_FOLDER
from faulty_store import CREATE, GET, LIST, PARTS, PUT
from harness import PATIENCE_SECONDS

pytestmark = pytest.mark.slow
DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
NONCE = "0123456789abcdef"


@pytest.fixture
def store(bucket) -> ObjectStore:
    store = bucket.open(bucket.proxies[0])
    store.prepare("prod")
    return store


@pytest.fixture
def other(bucket, store) -> ObjectStore:
    """Another server."""
    return bucket.open(bucket.proxies[1])


def write(content: bytes, index: bytes = b"index") -> Callable[[BinaryIO], bytes]:
    def into(out: BinaryIO) -> bytes:
        out.write(content)
        return index

    return into


def read(store: ObjectStore, digest: str = DIGEST) -> tuple[bytes, bytes]:
    with store.open_bundle("prod", digest) as source:
        return source.read(0, source.size), source.encoded_index


def stored(store: ObjectStore, folder: str = "prod/bundles") -> list[str]:
    return sorted(meta.key for meta in store._objects.list(folder))


# --- deletion ---------------------------------------------------------------------------------------------------------


def test_a_bundle_is_marked_when_it_is_old_enough_and_deleted_when_the_mark_is(store) -> None:
    store.put_bundle("prod", DIGEST, write(b"bundle"))
    store._pause = 2
    assert store.may_delete("prod", {DIGEST}) == set()
    assert store.keeps_bundle("prod", DIGEST)
    time.sleep(2.1)
    assert store.may_delete("prod", {DIGEST}) == set()
    assert (store.has_bundle("prod", DIGEST), store.keeps_bundle("prod", DIGEST)) == (True, False)
    store.delete_bundle("prod", DIGEST)
    assert store.has_bundle("prod", DIGEST)
    time.sleep(2.1)
    assert store.may_delete("prod", {DIGEST}) == {DIGEST}
    store.delete_bundle("prod", DIGEST)
    assert stored(store) == []


def test_only_bundles_that_are_given_are_marked(store) -> None:
    for digest in (DIGEST, OTHER):
        store.put_bundle("prod", digest, write(b"bundle"))
    store.may_delete("prod", {DIGEST})
    assert [store.keeps_bundle("prod", digest) for digest in (DIGEST, OTHER)] == [False, True]


def test_a_bundle_that_is_stored_again_survives_a_deletion_that_began_before(store, other) -> None:
    store.put_bundle("prod", DIGEST, write(b"before"))
    for _ in range(2):
        allowed = other.may_delete("prod", {DIGEST})
    assert allowed == {DIGEST}
    assert not store.keeps_bundle("prod", DIGEST)
    store.put_bundle("prod", DIGEST, write(b"afterwards"))  # a commit, while the other server is paused
    assert store.keeps_bundle("prod", DIGEST)
    other.delete_bundle("prod", DIGEST)
    assert store.keeps_bundle("prod", DIGEST)
    assert read(other) == (b"afterwards", b"index")
    assert len(stored(store)) == 2


def test_a_bundle_of_which_one_copy_is_young_may_not_be_deleted(store) -> None:
    store.put_bundle("prod", DIGEST, write(b"before"))
    store.may_delete("prod", {DIGEST})
    time.sleep(4.1)
    store.put_bundle("prod", DIGEST, write(b"afterwards"))
    store._pause = 4
    assert store.may_delete("prod", {DIGEST}) == set()
    assert store.keeps_bundle("prod", DIGEST)


def test_a_bundle_whose_mark_is_young_may_not_be_deleted(store) -> None:
    store.put_bundle("prod", DIGEST, write(b"bundle"))
    store.may_delete("prod", {DIGEST})
    assert not store.keeps_bundle("prod", DIGEST)
    store._pause = 3600
    assert store.may_delete("prod", {DIGEST}) == set()


def test_the_clock_of_a_server_does_not_matter(store, monkeypatch) -> None:
    store.put_bundle("prod", DIGEST, write(b"bundle"))
    store._pause = 3600
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert store.may_delete("prod", {DIGEST}) == set()
    assert store.keeps_bundle("prod", DIGEST)


def test_what_an_upload_left_behind_is_removed_after_a_day(store, monkeypatch) -> None:
    store.put_bundle("prod", DIGEST, write(b"bundle"))
    store._objects.put(f"prod/bundles/{'b' * 64}/{'c' * 32}.tar.zst", b"never completed")
    store._objects.put(f"prod/bundles/{'b' * 64}/{'d' * 32}.doomed", b"left")
    store.put_patch("prod", DIGEST, OTHER, b"patch")
    store._objects.put(f"{CLOCK_FOLDER}/left", b"")
    store._objects.put(f"{PROBE_FOLDER}/left", b"")
    kept = stored(store), stored(store, "prod/patches")
    store.may_delete("prod", ())
    assert (stored(store), stored(store, "prod/patches")) == kept
    monkeypatch.setattr(module, "LEFTOVER_SECONDS", -1.0)
    store.may_delete("prod", ())
    assert len(stored(store)) == 2
    assert read(store) == (b"bundle", b"index")
    assert stored(store, "prod/patches") == []
    assert stored(store, CLOCK_FOLDER) + stored(store, PROBE_FOLDER) == []


def test_asking_for_the_time_leaves_nothing_behind(store) -> None:
    store.may_delete("prod", ())
    assert stored(store, CLOCK_FOLDER) == []


# --- bundles ----------------------------------------------------------------------------------------------------------


def test_two_servers_that_store_one_digest_at_once_never_mix_what_they_wrote(store, other, bucket) -> None:
    servers = [(store, b"one" * 1000, b"index one"), (other, b"two", b"index two")]
    for round_ in range(10):
        digest = f"sha256:{round_:064x}"
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(
                pool.map(
                    lambda server, digest=digest: server[0].put_bundle("prod", digest, write(*server[1:])), servers
                )
            )
        assert read(bucket.open(), digest) in [server[1:] for server in servers]


def test_a_bundle_without_its_index_or_of_another_size_is_not_stored(store, other) -> None:
    store.put_bundle("prod", DIGEST, write(b"bundle"))
    blob, index = sorted(stored(store), reverse=True)
    content = store._objects.get(index)
    store._objects.delete(index)
    assert not other.has_bundle("prod", DIGEST)
    assert other.bundles("prod") == {}
    store._objects.put(index, content)
    assert other.has_bundle("prod", DIGEST)
    store._objects.put(blob, b"bundle, and more")
    assert not other.has_bundle("prod", DIGEST)
    assert not other.keeps_bundle("prod", DIGEST)


def test_a_bundle_that_somebody_deleted_is_gone_and_can_be_stored_again(store, other) -> None:
    store.put_bundle("prod", DIGEST, write(b"bundle"))
    for key in stored(store):
        if key.endswith(".tar.zst"):
            store._objects.delete(key)
    assert not store.keeps_bundle("prod", DIGEST)  # so that a commit stores it, though it is in the cache
    with pytest.raises(BundleGone):
        other.open_bundle("prod", DIGEST)
    store.put_bundle("prod", DIGEST, write(b"bundle"))
    assert read(other) == (b"bundle", b"index")


def test_a_damaged_bundle_is_named_and_another_copy_is_used(store, other) -> None:
    store.put_bundle("prod", DIGEST, write(b"bundle"))
    (blob,) = (key for key in stored(store) if key.endswith(".tar.zst"))
    store._objects.put(blob, b"bundlX")
    with pytest.raises(StoreDamaged, match=rf"{store.url}/{blob} is damaged: its hash is not"):
        other.open_bundle("prod", DIGEST)
    store.put_bundle("prod", DIGEST, write(b"bundle"))
    assert read(other) == (b"bundle", b"index")


def test_a_bundle_is_fetched_once_and_then_read_while_the_store_is_away(store, other, bucket) -> None:
    content = os.urandom(100_000)
    store.put_bundle("prod", DIGEST, write(content))
    assert read(other) == (content, b"index")
    with bucket.away():
        assert read(other) == (content, b"index")
        assert read(store) == (content, b"index")


def test_of_many_who_open_a_bundle_at_once_one_fetches_it(store, bucket) -> None:
    content = os.urandom(1_000_000)
    store.put_bundle("prod", DIGEST, write(content))
    proxy = bucket.proxies[1]
    other = bucket.open(proxy)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: read(other), range(8))) == {(content, b"index")}
    assert proxy.counts() == {LIST: 1, GET: 3}  # the size, the index, the bundle


def test_a_volume_that_gets_full_while_a_bundle_is_fetched_loses_others_and_no_byte(store, other, monkeypatch) -> None:
    content = os.urandom(100_000)
    for digest in (OTHER, DIGEST):
        store.put_bundle("prod", digest, write(content))
    read(other, OTHER)
    pwrite, left = os.pwrite, [60_000]

    def nearly_full(descriptor: int, data: memoryview, offset: int) -> int:
        if left and not left[0]:
            left.clear()
            raise OSError(errno.ENOSPC, "No space left on device")
        written = pwrite(descriptor, data[: left[0]] if left else data, offset)
        if left:
            left[0] -= written
        return written

    monkeypatch.setattr(os, "pwrite", nearly_full)
    assert read(other) == (content, b"index")
    assert other._cache.open("prod", OTHER) is None


def test_a_volume_that_is_full_is_named_when_a_bundle_is_stored(store) -> None:
    def full(_: BinaryIO) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreFull, match="Storing a bundle of prod failed: No space left"):
        store.put_bundle("prod", DIGEST, full)
    assert stored(store) == []


def test_a_bundle_in_the_cache_does_not_wait_for_another_one_that_is_fetched(store) -> None:
    store.put_bundle("prod", DIGEST, write(b"bundle"))
    with store._turns[0xAA], concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(read, store).result(PATIENCE_SECONDS) == (b"bundle", b"index")


def test_only_patches_are_deleted_as_patches(store, monkeypatch) -> None:
    """Another store may have its prefix here, and a deployment called patches."""
    store._objects.put("prod/patches/deploys/000000000001.json", b"{}")
    monkeypatch.setattr(module, "LEFTOVER_SECONDS", -1.0)
    store.may_delete("prod", ())
    assert len(stored(store, "prod/patches")) == 1


def test_the_index_says_its_size_once(store, bucket) -> None:
    store.put_bundle("prod", DIGEST, write(b"bundle"))
    proxy = bucket.proxies[1]
    other = bucket.open(proxy)
    for _ in range(3):
        assert other.has_bundle("prod", DIGEST)
    assert proxy.counts() == {LIST: 3, GET: 1}


def test_a_patch_is_read_by_another_server(store, other) -> None:
    assert other.read_patch("prod", DIGEST, OTHER) is None
    for _ in range(2):
        store.put_patch("prod", DIGEST, OTHER, b"patch")
    assert other.read_patch("prod", DIGEST, OTHER) == b"patch"
    assert other.read_patch("prod", OTHER, DIGEST) is None


# --- the log and the state --------------------------------------------------------------------------------------------


def test_looking_for_newer_entries_is_one_request(store, bucket) -> None:
    before = bucket.proxies[0].counts()
    assert store.newer("prod", 41) == []
    assert bucket.proxies[0].counts() - before == {GET: 1}


def test_many_entries_are_read_at_once_and_in_order(store, other) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda sequence: store.create_entry("prod", sequence, b"%d" % sequence), range(1, 101)))
    expected = [b"%d" % sequence for sequence in range(1, 101)]
    assert other.newer("prod", 0) == expected
    *found, missing = other.read_entries("prod", range(1, 102))
    assert found == expected
    assert isinstance(missing, StoreDamaged)


def test_what_the_store_lists_in_another_order_is_sorted(store, monkeypatch) -> None:
    for sequence in (1, 2, 3):
        store.create_entry("prod", sequence, b"%d" % sequence)
    listed = list(store._objects.list("prod/deploys"))
    monkeypatch.setattr(store._objects, "list", lambda _: iter(listed[::-1]))
    assert store.sequences("prod") == [1, 2, 3]


def test_the_tag_is_another_one_after_each_change_of_the_state(store, other) -> None:
    changes: list[Callable[[], object]] = [
        lambda: store.prepare("staging"),
        lambda: store.write_state("prod", "freeze", b"frozen"),
        lambda: store.write_state("prod", "freeze", b"frozen"),
        lambda: store.delete_state("prod", "freeze"),
        lambda: store.new_log_id("prod"),
    ]
    tags = [other.state_tag()]
    for change in changes:
        change()
        tags.append(other.state_tag())
    assert len(set(tags)) == len(tags)
    store.create_entry("prod", 1, b"one")
    store.put_bundle("prod", DIGEST, write(b"bundle"))
    store.prepare("prod")
    assert other.state_tag() == tags[-1]


def test_of_twenty_servers_that_start_on_an_empty_bucket_all_have_one_log_id(bucket) -> None:
    stores = [bucket.open() for _ in range(20)]
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        made = list(pool.map(lambda store: store.prepare("prod"), stores))
    assert made.count(True) == 1
    assert len({store.log_id("prod") for store in stores}) == 1


def test_a_start_does_not_touch_what_another_server_is_about_to_store(store, other) -> None:
    def into(out: BinaryIO) -> bytes:
        out.write(b"bundle")
        other.prepare("prod")
        return b"index"

    store.put_details("prod", 1, NONCE, b"details")
    store.put_bundle("prod", DIGEST, into)
    other.prepare("prod")
    assert read(other) == (b"bundle", b"index")
    assert other.read_details("prod", 1, NONCE) == b"details"


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_key_is_written_once_except_for_what_may_be_replaced(store, other, bucket) -> None:
    """Some stores take one write a second to a key, and a versioned bucket keeps each of them."""
    for server in (store, other):
        server.prepare("prod")
        for _ in range(2):
            server.put_bundle("prod", DIGEST, write(b"bundle"))
            server.put_patch("prod", DIGEST, OTHER, b"patch")
            server.may_delete("prod", {DIGEST, OTHER})
        server.delete_bundle("prod", DIGEST)
    store.put_details("prod", 1, NONCE, b"details")
    store.create_entry("prod", 1, b"one")
    writes = Counter(
        request.key for proxy in bucket.proxies for request in proxy.requests if request.kind in (CREATE, PUT, PARTS)
    )
    twice = {key.removeprefix(f"{bucket.prefix}/") for key, times in writes.items() if times > 1}
    assert twice <= {".dagferry/changed", "prod/log.json"}


def test_a_check_of_the_storage_writes_nothing(store, bucket) -> None:
    store.check_writable()
    before = stored(store, ".dagferry")
    requests = len(bucket.proxies[0].requests)
    store.check_writable()
    assert [request.kind for request in bucket.proxies[0].requests[requests:]] == [CREATE]
    assert stored(store, ".dagferry") == before


def test_nothing_is_written_before_the_probe_has_passed(store) -> None:
    store.probed = False
    calls: list[Callable[[], object]] = [
        lambda: store.prepare("staging"),
        lambda: store.create_entry("prod", 1, b"one"),
        lambda: store.put_details("prod", 1, NONCE, b"details"),
        lambda: store.put_bundle("prod", DIGEST, write(b"bundle")),
        lambda: store.put_patch("prod", DIGEST, OTHER, b"patch"),
        lambda: store.write_state("prod", "freeze", b"frozen"),
        lambda: store.delete_state("prod", "freeze"),
        lambda: store.new_log_id("prod"),
        lambda: store.may_delete("prod", {DIGEST}),
        store.check_writable,
    ]
    before = stored(store, "prod")
    for call in calls:
        with pytest.raises(StoreAway, match="has not answered since the server started"):
            call()
    assert stored(store, "prod") == before
    assert store.sequences("prod") == []
    store.probe()
    assert store.create_entry("prod", 1, b"one")
