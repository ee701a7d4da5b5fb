"""What every store promises. Each implementation runs through all of it."""

import concurrent.futures
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from dagferry_server.errors import BundleGone, DeploymentNotFound, StoreDamaged
from dagferry_server.store.base import Store
from dagferry_server.store.local import LocalStore

DIGEST = "sha256:" + "a" * 64
NONCE = "0123456789abcdef"
OTHER = "sha256:" + "b" * 64


def local(folder: Path) -> Store:
    return LocalStore(str(folder))


@pytest.fixture(params=[local])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    """Open the store; a second call opens the same one again."""
    return lambda: request.param(tmp_path)


@pytest.fixture
def store(make: Callable[[], Store]) -> Store:
    store = make()
    store.prepare("prod")
    return store


def write(content: bytes, index: bytes = b"index") -> Callable[[BinaryIO], bytes]:
    def into(out: BinaryIO) -> bytes:
        out.write(content)
        return index

    return into


def read(store: Store, digest: str) -> tuple[bytes, bytes]:
    with store.open_bundle("prod", digest) as source:
        return source.read(0, source.size), source.encoded_index


def test_a_new_log_has_an_id_and_nothing_else(store) -> None:
    assert store.log_id("prod")
    assert store.sequences("prod") == []
    assert store.bundles("prod") == {}


def test_the_log_id_stays_until_it_is_renewed(store, make) -> None:
    first = store.log_id("prod")
    again = make()
    again.prepare("prod")
    assert again.log_id("prod") == first
    renewed = again.new_log_id("prod")
    assert renewed != first
    assert make().log_id("prod") == renewed


def test_two_deployments_are_apart(store) -> None:
    store.prepare("staging")
    assert store.log_id("staging") != store.log_id("prod")
    store.create_entry("prod", 1, b"one")
    store.put_bundle("prod", DIGEST, write(b"bundle"))
    assert store.sequences("staging") == []
    assert store.bundles("staging") == {}
    assert not store.has_bundle("staging", DIGEST)


def test_an_entry_is_read_as_it_was_written(store, make) -> None:
    assert store.create_entry("prod", 1, b"one")
    assert store.create_entry("prod", 2, b"two")
    assert store.sequences("prod") == [1, 2]
    assert make().read_entry("prod", 2) == b"two"


def test_a_taken_sequence_stays_as_it_is(store) -> None:
    assert store.create_entry("prod", 1, b"one")
    assert not store.create_entry("prod", 1, b"another")
    assert store.read_entry("prod", 1) == b"one"


def test_the_same_entry_again_is_the_writer_s_own_whose_answer_got_lost(store) -> None:
    assert store.create_entry("prod", 1, b"one with a nonce")
    assert store.create_entry("prod", 1, b"one with a nonce")


def test_newer_entries_are_those_that_follow_without_a_gap(store) -> None:
    assert store.newer("prod", 0) == []
    for sequence in (1, 2, 3, 5):
        store.create_entry("prod", sequence, b"%d" % sequence)
    assert store.newer("prod", 0) == [b"1", b"2", b"3"]
    assert store.newer("prod", 2) == [b"3"]
    assert store.newer("prod", 3) == []
    assert store.newer("prod", 10**12 - 1) == []


def test_details_are_read_as_they_were_written_and_are_no_entries(store, make) -> None:
    store.put_details("prod", 1, NONCE, b"details")
    assert store.sequences("prod") == []
    store.create_entry("prod", 1, b"one")
    again = make()
    again.prepare("prod")
    assert again.read_details("prod", 1, NONCE) == b"details"
    assert again.sequences("prod") == [1]
    for sequence, nonce in ((2, NONCE), (1, "f" * 16)):
        with pytest.raises(StoreDamaged):
            again.read_details("prod", sequence, nonce)


def test_deleted_details_are_gone(store) -> None:
    store.put_details("prod", 1, NONCE, b"details")
    for _ in range(2):
        store.delete_details("prod", 1, NONCE)
    with pytest.raises(StoreDamaged):
        store.read_details("prod", 1, NONCE)


@pytest.mark.parametrize("nonce", ["", "x" * 16, "../../../etc/pas", "a" * 15, "A" * 16])
def test_a_nonce_that_is_none_never_reaches_the_storage(store, nonce) -> None:
    with pytest.raises(ValueError, match="nonce"):
        store.put_details("prod", 1, nonce, b"")
    for call in (store.read_details, store.delete_details):
        with pytest.raises(ValueError, match="nonce"):
            call("prod", 1, nonce)


def test_of_twenty_who_write_the_same_sequence_one_wins(store) -> None:
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        won = list(pool.map(lambda number: store.create_entry("prod", 1, b"%d" % number), range(20)))
    assert won.count(True) == 1
    assert store.read_entry("prod", 1) == b"%d" % won.index(True)


def test_an_entry_that_is_not_there_cannot_be_read(store) -> None:
    with pytest.raises(StoreDamaged):
        store.read_entry("prod", 7)


def test_a_bundle_is_read_as_it_was_written(store, make) -> None:
    store.put_bundle("prod", DIGEST, write(b"bundle", b"beside"))
    assert store.has_bundle("prod", DIGEST)
    assert store.bundles("prod") == {DIGEST: len(b"bundle" + b"beside")}
    assert read(make(), DIGEST) == (b"bundle", b"beside")


def test_a_bundle_may_be_put_again(store) -> None:
    store.put_bundle("prod", DIGEST, write(b"damaged"))
    store.put_bundle("prod", DIGEST, write(b"whole", b"new"))
    assert read(store, DIGEST) == (b"whole", b"new")


def test_a_bundle_whose_writing_failed_never_was(store) -> None:
    def fail(out: BinaryIO) -> bytes:
        out.write(b"half")
        raise RuntimeError("the power is gone")

    with pytest.raises(RuntimeError):
        store.put_bundle("prod", DIGEST, fail)
    assert not store.has_bundle("prod", DIGEST)
    assert store.bundles("prod") == {}


def test_a_bundle_that_is_not_there_is_gone(store) -> None:
    with pytest.raises(BundleGone):
        store.open_bundle("prod", DIGEST)


def test_a_deleted_bundle_is_gone_but_for_those_who_have_it_open(store) -> None:
    store.put_bundle("prod", DIGEST, write(b"bundle"))
    store.put_bundle("prod", OTHER, write(b"other"))
    with store.open_bundle("prod", DIGEST) as source:
        store.delete_bundle("prod", DIGEST)
        assert not store.has_bundle("prod", DIGEST)
        assert list(store.bundles("prod")) == [OTHER]
        assert source.read(0, source.size) == b"bundle"
    store.delete_bundle("prod", DIGEST)


def test_nothing_may_be_deleted_while_a_commit_is_under_way(store, make) -> None:
    other = make()
    other.prepare("staging")
    with store.committing("prod"):
        with other.deleting("prod") as alone:
            assert not alone
        with other.deleting("staging") as alone:
            assert alone
        with other.committing("prod"):
            pass
    with other.deleting("prod") as alone:
        assert alone


@pytest.mark.parametrize("name", ["", "..", "a/b", "Prod", "x" * 64, "a\0"])
def test_a_name_that_is_none_never_reaches_the_storage(store, name) -> None:
    with pytest.raises(DeploymentNotFound):
        store.prepare(name)
    with pytest.raises(DeploymentNotFound):
        store.sequences(name)


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../etc/passwd", "a" * 64, "sha256:" + "A" * 64])
def test_a_digest_that_is_none_never_reaches_the_storage(store, digest) -> None:
    for call in (store.has_bundle, store.open_bundle, store.delete_bundle):
        with pytest.raises(ValueError, match="digest"):
            call("prod", digest)


@pytest.mark.parametrize("sequence", [0, -1, 10**12])
def test_a_sequence_that_is_none_never_reaches_the_storage(store, sequence) -> None:
    with pytest.raises(ValueError, match="sequence"):
        store.create_entry("prod", sequence, b"")


def test_it_takes_writes_and_knows_its_size(store) -> None:
    store.check_writable()
    assert store.capacity_bytes() > 0
