"""What every store promises. Each implementation runs through all of it: see ``stores``."""

import concurrent.futures
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

import pytest

from dagferry_server.errors import BundleGone, DeploymentNotFound, StoreAway, StoreDamaged, StoreError
from dagferry_server.store.base import CANDIDATES, LEASES, MAX_NOTE_BYTES, MAX_STATE_BYTES, NOTE_NAMES, NoteKind, Store
from stores import PARAMETERS, LocalUnderTest, StoreUnderTest, store_under_test

DIGEST = "sha256:" + "a" * 64
NONCE = "0123456789abcdef"
OTHER = "sha256:" + "b" * 64
NOTES: dict[NoteKind, tuple[str, str]] = {
    CANDIDATES: ("c" * 32 + ".json", "d" * 32 + ".verdict"),
    LEASES: ("bundle-0", "log"),
}
"""Names of two notes of each kind."""
MAX_OVERHEAD_BYTES = 1024
"""What a store may count for a bundle beside what was written: its names, and what it knows of it."""


@pytest.fixture(params=PARAMETERS)
def under_test(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreUnderTest]:
    made = store_under_test(request.param, tmp_path)
    yield made
    made.close()


@pytest.fixture
def make(under_test: StoreUnderTest) -> Callable[[], Store]:
    """Open the store; a second call opens the same one again."""
    return under_test.open


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


def delete(store: Store, digest: str) -> None:
    """Delete a bundle as retention does, when the pause between its two passes is over."""
    for _ in range(2):
        for allowed in store.may_delete("prod", {digest}):
            store.delete_bundle("prod", allowed)


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


def test_the_deployments_are_those_that_have_data(make) -> None:
    store = make()
    assert store.deployments() == []
    for name in ("staging", "prod"):
        store.prepare(name)
    assert make().deployments() == ["prod", "staging"]


def test_what_lies_in_the_storage_and_is_not_a_deployment_is_skipped(store, under_test) -> None:
    under_test.add_foreign()
    assert store.deployments() == ["prod"]


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


def test_a_log_is_new_once(make) -> None:
    store = make()
    assert store.prepare("prod")
    assert not store.prepare("prod")
    assert not make().prepare("prod")
    assert store.prepare("staging")


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
def test_an_invalid_nonce_never_reaches_the_storage(store, nonce) -> None:
    with pytest.raises(ValueError, match="nonce"):
        store.put_details("prod", 1, nonce, b"")
    for call in (store.read_details, store.delete_details):
        with pytest.raises(ValueError, match="nonce"):
            call("prod", 1, nonce)


def test_a_record_of_the_state_is_read_as_it_was_written_last_by_another_server_too(store, make) -> None:
    assert store.read_state("prod", "freeze") is None
    store.write_state("prod", "freeze", b"first")
    store.write_state("prod", "freeze", b"second")
    again = make()
    assert again.read_state("prod", "freeze") == b"second"
    again.prepare("prod")
    assert again.read_state("prod", "freeze") == b"second"


def test_a_record_of_the_state_is_apart_from_others_and_from_the_log(store) -> None:
    store.prepare("staging")
    log_id = store.log_id("prod")
    store.write_state("prod", "log", b"no log")
    store.write_state("prod", "freeze", b"frozen")
    assert store.read_state("staging", "freeze") is None
    assert store.read_state("prod", "log") == b"no log"
    assert (store.log_id("prod"), store.sequences("prod"), store.bundles("prod")) == (log_id, [], {})
    assert store.deployments() == ["prod", "staging"]


def test_a_deleted_record_of_the_state_is_gone_and_the_others_stay(store, make) -> None:
    store.write_state("prod", "freeze", b"frozen")
    store.write_state("prod", "lifecycle", b"created")
    for _ in range(2):
        store.delete_state("prod", "freeze")
    assert make().read_state("prod", "freeze") is None
    assert make().read_state("prod", "lifecycle") == b"created"


def test_a_record_of_the_state_may_have_as_many_bytes_as_are_promised_and_no_more(store) -> None:
    most = os.urandom(MAX_STATE_BYTES)
    store.write_state("prod", "freeze", most)
    with pytest.raises(ValueError, match="larger"):
        store.write_state("prod", "freeze", most + b"x")
    assert store.read_state("prod", "freeze") == most


def test_a_record_that_is_replaced_is_read_as_the_old_one_or_the_new_one(store, make) -> None:
    contents = {bytes([letter]) * MAX_STATE_BYTES for letter in b"ab"}
    store.write_state("prod", "freeze", min(contents))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for content in sorted(contents) * 10:
            pool.submit(store.write_state, "prod", "freeze", content)
        read = [make().read_state("prod", "freeze") for _ in range(100)]
    assert set(read) <= contents


@pytest.mark.parametrize("key", ["", "..", "a/b", "Freeze", "x" * 21, "a.b", "a\0", "freeze\n"])
def test_an_invalid_name_of_a_record_never_reaches_the_storage(store, key) -> None:
    for call in (store.read_state, store.delete_state):
        with pytest.raises(ValueError, match="record"):
            call("prod", key)
    with pytest.raises(ValueError, match="record"):
        store.write_state("prod", key, b"")


def of_each_kind(test: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.parametrize("kind", NOTES)(test)


@of_each_kind
def test_a_note_is_read_as_it_was_written_last_by_another_server_too(store, make, kind) -> None:
    other, (note, another) = make(), NOTES[kind]
    assert (store.notes("prod", kind), other.read_note("prod", kind, note)) == ({}, None)
    store.write_note("prod", kind, note, b"one")
    assert other.read_note("prod", kind, note) == b"one"
    other.write_note("prod", kind, note, b"two")
    other.write_note("prod", kind, another, b"another")
    for _ in range(2):
        assert store.read_note("prod", kind, note) == b"two"
        assert sorted(store.notes("prod", kind)) == [note, another]
        make().prepare("prod")


@of_each_kind
def test_several_notes_are_read_in_the_order_in_which_they_are_named(store, kind) -> None:
    note, another = NOTES[kind]
    missing = {CANDIDATES: "e" * 32 + ".json", LEASES: "bundle-9"}[kind]
    store.write_note("prod", kind, note, b"one")
    store.write_note("prod", kind, another, b"two")
    assert store.read_notes("prod", kind, [another, missing, note]) == [b"two", None, b"one"]
    assert store.read_notes("prod", kind, []) == []


@of_each_kind
def test_a_note_has_the_time_of_the_storage_at_which_it_was_written_last(store, kind) -> None:
    note, _ = NOTES[kind]
    for _ in range(2):
        before = store.now()
        store.write_note("prod", kind, note, b"one")
        written, after = store.notes("prod", kind)[note], store.now()
        assert before - 1 <= written <= after + 1  # some storages have whole seconds


@of_each_kind
def test_a_deleted_note_is_gone_and_the_others_stay(store, make, kind) -> None:
    note, another = NOTES[kind]
    for name in (note, another):
        store.write_note("prod", kind, name, b"note")
    for _ in range(2):
        store.delete_note("prod", kind, note)
    assert list(make().notes("prod", kind)) == [another]
    assert store.read_note("prod", kind, note) is None


@of_each_kind
def test_notes_of_one_kind_of_one_deployment_are_deleted_and_no_others(store, make, kind) -> None:
    store.prepare("staging")
    store.delete_notes("prod", kind)
    for deployment in ("prod", "staging"):
        for each, names in NOTES.items():
            for name in names:
                store.write_note(deployment, each, name, b"note")
    store.delete_notes("prod", kind)
    left = {
        (deployment, each): sorted(make().notes(deployment, each))
        for deployment in ("prod", "staging")
        for each in NOTES
    }
    assert left.pop(("prod", kind)) == []
    assert left == {(deployment, each): sorted(NOTES[each]) for deployment, each in left}


@of_each_kind
def test_a_note_is_apart_from_the_log_the_bundles_and_other_deployments_and_kinds(store, make, kind) -> None:
    store.prepare("staging")
    log_id = store.log_id("prod")
    for name in NOTES[kind]:
        store.write_note("prod", kind, name, b"no log")
    make().prepare("prod")
    assert (store.log_id("prod"), store.sequences("prod"), store.bundles("prod")) == (log_id, [], {})
    assert store.deployments() == ["prod", "staging"]
    assert store.notes("staging", kind) == {}
    assert [store.notes("prod", other) for other in NOTES if other != kind] == [{}]
    assert store.read_note("prod", kind, NOTES[kind][0]) == b"no log"


@of_each_kind
def test_a_note_may_have_as_many_bytes_as_are_promised_and_no_more(store, kind) -> None:
    most, name = os.urandom(MAX_NOTE_BYTES), NOTES[kind][0]
    store.write_note("prod", kind, name, most)
    with pytest.raises(ValueError, match="is larger than"):
        store.write_note("prod", kind, name, most + b"x")
    assert list(store.notes("prod", kind)) == [name]
    assert store.read_note("prod", kind, name) == most


def test_the_holder_of_a_lease_may_have_a_hundred_characters(store) -> None:
    store.write_note("prod", LEASES, "x" * 100, b"lease")
    assert list(store.notes("prod", LEASES)) == ["x" * 100]


ID = "c" * 32 + ".json"
HOSTILE_NAMES = [
    *((LEASES, name) for name in ("", "..", "a/b", "Holder", "x" * 101, "a.b", "a\0", "holder\n", ".new-0", "a b")),
    *((CANDIDATES, name) for name in ("", "c" * 32, ID[1:], "../" + ID, "C" * 32 + ".json", ID + "/x", ID + "\n")),
]


@pytest.mark.parametrize(("kind", "name"), HOSTILE_NAMES)
def test_an_invalid_name_of_a_note_never_reaches_the_storage(store, kind, name) -> None:
    for call in (store.read_note, store.delete_note, lambda *of: store.write_note(*of, b"note")):
        with pytest.raises(ValueError, match="is not the name of a note"):
            call("prod", kind, name)
    with pytest.raises(ValueError, match="is not the name of a note"):
        store.read_notes("prod", kind, [name])
    assert store.notes("prod", kind) == {}


@of_each_kind
@pytest.mark.parametrize("name", ["../prod", "Prod", ""])
def test_the_notes_of_what_cannot_be_a_deployment_never_reach_the_storage(store, name, kind) -> None:
    note, _ = NOTES[kind]
    for call in (
        lambda: store.notes(name, kind),
        lambda: store.read_note(name, kind, note),
        lambda: store.write_note(name, kind, note, b"x"),
        lambda: store.delete_note(name, kind, note),
    ):
        with pytest.raises(DeploymentNotFound):
            call()


def test_every_kind_of_note_is_tried() -> None:
    assert NOTES.keys() == NOTE_NAMES.keys()


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


def test_the_bytes_that_a_bundle_takes_are_about_those_that_were_written(store) -> None:
    store.put_bundle("prod", DIGEST, write(bytes(100_000), bytes(1000)))
    (taken,) = store.bundles("prod").values()
    assert 100_000 <= taken <= 101_000 + MAX_OVERHEAD_BYTES


@pytest.mark.parametrize(
    ("offset", "size"),
    [(0, 6), (0, 0), (0, 3), (2, 3), (5, 1), (4, 100), (6, 0), (6, 1), (7, 5), (2**70, 1), (0, 2**70), (3, 2**40)],
)
def test_a_range_of_a_bundle_is_read_up_to_its_end_and_not_beyond(store, offset, size) -> None:
    store.put_bundle("prod", DIGEST, write(b"bundle"))
    with store.open_bundle("prod", DIGEST) as source:
        assert source.size == len(b"bundle")
        assert source.read(offset, size) == b"bundle"[offset : offset + size]


def test_a_bundle_may_be_empty(store) -> None:
    store.put_bundle("prod", DIGEST, write(b""))
    with store.open_bundle("prod", DIGEST) as source:
        assert (source.size, source.read(0, 10)) == (0, b"")


def test_several_threads_read_ranges_of_a_bundle_at_once(store) -> None:
    content = os.urandom(3_000_000)
    store.put_bundle("prod", DIGEST, write(content))
    starts = range(0, len(content), 70_001)
    with store.open_bundle("prod", DIGEST) as source, concurrent.futures.ThreadPoolExecutor(8) as pool:
        pieces = list(pool.map(lambda start: source.read(start, 70_001), starts))
    assert b"".join(pieces) == content


def test_a_file_that_a_bundle_has_for_the_kernel_to_send_holds_the_bundle_alone(store) -> None:
    store.put_bundle("prod", DIGEST, write(b"bundle"))
    with store.open_bundle("prod", DIGEST) as source:
        if source.file is None:
            pytest.skip("This store has none.")
        assert os.pread(source.file.fileno(), 100, 0) == b"bundle"


def test_a_bundle_that_is_put_again_stays_as_it_was_for_those_who_have_it_open(store) -> None:
    store.put_bundle("prod", DIGEST, write(b"before", b"index before"))
    with store.open_bundle("prod", DIGEST) as source:
        store.put_bundle("prod", DIGEST, write(b"afterwards", b"index afterwards"))
        assert (source.size, source.encoded_index) == (6, b"index before")
        assert [source.read(offset, 3) for offset in (0, 3, 6)] == [b"bef", b"ore", b""]
    assert read(store, DIGEST) == (b"afterwards", b"index afterwards")


def test_a_deleted_bundle_is_gone_but_for_those_who_have_it_open(store) -> None:
    store.put_bundle("prod", DIGEST, write(b"bundle"))
    store.put_bundle("prod", OTHER, write(b"other"))
    with store.open_bundle("prod", DIGEST) as source:
        delete(store, DIGEST)
        assert not store.has_bundle("prod", DIGEST)
        assert list(store.bundles("prod")) == [OTHER]
        assert [source.read(offset, 4) for offset in (0, 4, 8)] == [b"bund", b"le", b""]
    store.delete_bundle("prod", DIGEST)
    with pytest.raises(BundleGone):
        store.open_bundle("prod", DIGEST)


def test_nothing_may_be_deleted_while_a_commit_is_under_way(store, make) -> None:
    other = make()
    other.prepare("staging")
    if store.shared:
        pytest.skip("Several servers use it: a deletion waits instead.")
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
def test_an_invalid_name_never_reaches_the_storage(store, name) -> None:
    with pytest.raises(DeploymentNotFound):
        store.prepare(name)
    with pytest.raises(DeploymentNotFound):
        store.sequences(name)


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../etc/passwd", "a" * 64, "sha256:" + "A" * 64])
def test_an_invalid_digest_never_reaches_the_storage(store, digest) -> None:
    for call in (store.has_bundle, store.open_bundle, store.delete_bundle):
        with pytest.raises(ValueError, match="digest"):
            call("prod", digest)


@pytest.mark.parametrize("sequence", [0, -1, 10**12])
def test_an_invalid_sequence_never_reaches_the_storage(store, sequence) -> None:
    with pytest.raises(ValueError, match="sequence"):
        store.create_entry("prod", sequence, b"")


def test_it_takes_writes_and_knows_its_size(store) -> None:
    store.check_writable()
    assert (store.capacity_bytes() is None) if store.shared else store.capacity_bytes() > 0


def hold(lock: Callable[[str], AbstractContextManager[object]]) -> None:
    with lock("prod"):
        pass


CALLS: dict[str, Callable[[Store], object]] = {
    "deployments": lambda store: store.deployments(),
    "prepare": lambda store: store.prepare("prod"),
    "log_id": lambda store: store.log_id("prod"),
    "write_log_id": lambda store: store.new_log_id("prod"),
    "sequences": lambda store: store.sequences("prod"),
    "read_entry": lambda store: store.read_entry("prod", 1),
    "read an entry that was never there": lambda store: store.read_entry("prod", 2),
    "newer": lambda store: store.newer("prod", 1),
    "create_entry": lambda store: store.create_entry("prod", 2, b"two"),
    "put_details": lambda store: store.put_details("prod", 2, NONCE, b"details"),
    "read_details": lambda store: store.read_details("prod", 1, NONCE),
    "delete_details": lambda store: store.delete_details("prod", 1, NONCE),
    "bundles": lambda store: store.bundles("prod"),
    "has_bundle": lambda store: store.has_bundle("prod", DIGEST),
    "put_bundle": lambda store: store.put_bundle("prod", OTHER, write(b"nowhere")),
    "open_bundle": lambda store: store.open_bundle("prod", DIGEST),
    "open a bundle that was never there": lambda store: store.open_bundle("prod", OTHER),
    "delete_bundle": lambda store: store.delete_bundle("prod", DIGEST),
    "read_state": lambda store: store.read_state("prod", "freeze"),
    "read a record that was never there": lambda store: store.read_state("prod", "lifecycle"),
    "write_state": lambda store: store.write_state("prod", "lifecycle", b"created"),
    "delete_state": lambda store: store.delete_state("prod", "freeze"),
    "notes": lambda store: store.notes("prod", LEASES),
    "list notes that were never there": lambda store: store.notes("prod", CANDIDATES),
    "read_note": lambda store: store.read_note("prod", LEASES, "bundle-0"),
    "read a note that was never there": lambda store: store.read_note("prod", CANDIDATES, ID),
    "read several notes": lambda store: store.read_notes("prod", LEASES, ["bundle-0", "log"]),
    "write_note": lambda store: store.write_note("prod", LEASES, "another", b"lease"),
    "delete_note": lambda store: store.delete_note("prod", LEASES, "bundle-0"),
    "delete all notes": lambda store: store.delete_notes("prod", LEASES),
    "now": lambda store: store.now(),
    "committing": lambda store: hold(store.committing),
    "deleting": lambda store: hold(store.deleting),
    "check_writable": lambda store: store.check_writable(),
}


@pytest.mark.parametrize("call", CALLS)
def test_nothing_is_missing_damaged_or_done_while_the_storage_is_away(store, under_test, call) -> None:
    if store.shared and call in {"committing", "deleting", "delete_bundle"}:
        pytest.skip("It does nothing: nothing was allowed to be deleted.")
    other = under_test.open()  # which has read nothing
    log_id = store.log_id("prod")
    store.put_details("prod", 1, NONCE, b"details")
    store.create_entry("prod", 1, b"one")
    store.put_bundle("prod", DIGEST, write(b"bundle"))
    store.write_state("prod", "freeze", b"frozen")
    store.write_note("prod", LEASES, "bundle-0", b"lease")
    with under_test.away(), pytest.raises(StoreError) as caught:
        CALLS[call](other)
    assert caught.type is StoreAway
    assert store.deployments() == ["prod"]
    assert (store.log_id("prod"), store.sequences("prod")) == (log_id, [1])
    assert (store.read_entry("prod", 1), store.read_details("prod", 1, NONCE)) == (b"one", b"details")
    assert (store.read_state("prod", "freeze"), store.read_state("prod", "lifecycle")) == (b"frozen", None)
    assert (list(store.notes("prod", LEASES)), store.notes("prod", CANDIDATES)) == (["bundle-0"], {})
    assert store.read_note("prod", LEASES, "bundle-0") == b"lease"
    assert list(store.bundles("prod")) == [DIGEST]
    assert read(store, DIGEST) == (b"bundle", b"index")


def test_every_call_of_the_contract_is_tried_while_the_storage_is_away() -> None:
    not_asked = {"capacity_bytes", "may_delete", "put_patch", "read_patch", "state_tag"}
    assert Store.__abstractmethods__ - CALLS.keys() == not_asked  # on a local disk


def test_a_log_id_that_does_not_decode_is_damaged_and_not_away(store, under_test) -> None:
    under_test.damage_log_id("prod")
    with pytest.raises(StoreError) as caught:
        store.log_id("prod")
    assert caught.type is StoreDamaged
    assert store.deployments() == ["prod"]


def test_any_store_is_named_by_its_module_and_factory(tmp_path) -> None:
    assert isinstance(store_under_test("stores:LocalUnderTest", tmp_path), LocalUnderTest)


def test_a_store_that_is_not_there_is_skipped_and_a_wrong_name_is_an_error(tmp_path) -> None:
    with pytest.raises(pytest.skip.Exception, match="No module named 'no_such_module'"):
        store_under_test("no_such_module:factory", tmp_path)
    with pytest.raises(pytest.UsageError, match="'locally' is neither"):
        store_under_test("locally", tmp_path)
