"""The notes about candidates: what is kept, for how long, and what becomes of notes that cannot be read."""

import json

import pytest

from bucket_in_memory import Bucket, shared_store
from dagferry_server.deploys import candidates as module
from dagferry_server.deploys.candidates import (
    CANDIDATE_SECONDS,
    Candidate,
    CheckerNote,
    Notes,
    add_candidate,
    candidate_id,
    expire,
    forget_verdicts,
    read_notes,
    remove_candidate,
    spared,
    write_checker,
    write_verdict,
)
from dagferry_server.deploys.verdict import Verdict, encode_verdict
from dagferry_server.errors import TooManyUploads
from dagferry_server.store.base import CANDIDATES, MAX_NOTE_BYTES

DIGESTS = [f"sha256:{number:064x}" for number in range(10)]


@pytest.fixture
def bucket():
    return Bucket()


@pytest.fixture
def store(bucket):
    store = shared_store(bucket)
    store.prepare("prod")
    return store


def candidate(number: int, base: str = "", **more) -> Candidate:
    digest = DIGESTS[number]
    return Candidate(candidate_id("l" * 32, base, digest), base, digest, "ann", "why", 1)._replace(**more)


def verdict(of: Candidate, **more) -> bytes:
    return encode_verdict(Verdict(base=of.base, digest=of.digest, **more))


def test_the_id_follows_from_log_base_and_digest() -> None:
    ids = {candidate_id(log_id, base, digest) for log_id in ("a", "b") for base in ("", "v1") for digest in DIGESTS[:2]}
    assert len(ids) == 8
    assert candidate_id("a", "", DIGESTS[0]) in ids


def test_candidates_come_in_the_order_in_which_they_were_written(store, bucket) -> None:
    for number in (2, 0, 1):
        add_candidate(store, "prod", candidate(number))
        bucket.now += 1
    notes = read_notes(store, "prod", Notes())
    assert [each.digest for each in notes.open] == [DIGESTS[2], DIGESTS[0], DIGESTS[1]]
    assert notes.open[0] == candidate(2)


def test_a_second_one_joins_the_first(store, bucket) -> None:
    add_candidate(store, "prod", candidate(0))
    bucket.now += 60
    add_candidate(store, "prod", candidate(0, actor="bob"))
    [found] = read_notes(store, "prod", Notes()).open
    assert found.actor == "ann"
    assert store.notes("prod", CANDIDATES)[found.id + ".json"] == bucket.now - 60


def test_one_that_waits_for_long_lasts_as_long_as_a_new_one_when_another_deploy_joins(store, bucket) -> None:
    add_candidate(store, "prod", candidate(0))
    bucket.now += CANDIDATE_SECONDS - 1
    add_candidate(store, "prod", candidate(0, actor="bob"))
    bucket.now += CANDIDATE_SECONDS - 1
    assert expire(store, "prod") == 0
    [found] = read_notes(store, "prod", Notes()).open
    assert found.actor == "ann"
    assert spared(store, "prod") == {found.digest}


def test_only_what_changed_is_read_again(store, bucket) -> None:
    add_candidate(store, "prod", candidate(0))
    notes = read_notes(store, "prod", Notes())
    assert read_notes(store, "prod", notes) is notes
    bucket.now += 1
    add_candidate(store, "prod", candidate(1))
    bucket.asked.clear()
    assert len(read_notes(store, "prod", notes).candidates) == 2
    assert [key for operation, key in bucket.asked if operation == "get"] == [f"prod/candidates/{candidate(1).id}.json"]


def test_a_verdict_ends_the_wait_and_is_remembered(store) -> None:
    one = candidate(0, base="v1")
    add_candidate(store, "prod", one)
    assert spared(store, "prod") == {one.digest}
    write_verdict(store, "prod", one.id, verdict(one))
    notes = read_notes(store, "prod", Notes())
    assert notes.open == []
    assert notes.verdict_on(one.digest, "v1") == notes.verdict_on(one.digest, "v2") == notes.verdicts[one.id]
    assert notes.verdict_on(DIGESTS[1], "v1") is None
    assert spared(store, "prod") == set()


def test_of_two_verdicts_the_one_with_the_right_base_counts(store) -> None:
    for base in ("v1", "v2", "v3"):
        one = candidate(0, base=base)
        add_candidate(store, "prod", one)
        write_verdict(store, "prod", one.id, verdict(one))
    found = read_notes(store, "prod", Notes()).verdict_on(DIGESTS[0], "v2")
    assert found is not None
    assert found.base == "v2"


def test_a_check_that_failed_is_done_anew(store) -> None:
    add_candidate(store, "prod", candidate(0))
    write_verdict(store, "prod", candidate(0).id, encode_verdict(Verdict(failed="No space.")))
    assert read_notes(store, "prod", Notes()).verdict_on(DIGESTS[0], "") is None
    add_candidate(store, "prod", candidate(0))
    assert read_notes(store, "prod", Notes()).open == [candidate(0)]


def test_a_verdict_that_replaces_a_failed_one_within_a_second_is_seen(store) -> None:
    add_candidate(store, "prod", candidate(0))
    write_verdict(store, "prod", candidate(0).id, verdict(candidate(0), failed="The engine ended."))
    notes = read_notes(store, "prod", Notes())
    write_verdict(store, "prod", candidate(0).id, verdict(candidate(0), files=3))  # of another checker
    again = read_notes(store, "prod", notes)
    assert again.written == notes.written
    assert again.verdicts[candidate(0).id].files == 3


def test_only_a_verdict_that_failed_is_replaced(store) -> None:
    add_candidate(store, "prod", candidate(0))
    failed = encode_verdict(Verdict(failed="No space."))
    assert write_verdict(store, "prod", candidate(0).id, failed)
    assert write_verdict(store, "prod", candidate(0).id, verdict(candidate(0), files=3))
    for later in (failed, verdict(candidate(0), files=4)):
        assert not write_verdict(store, "prod", candidate(0).id, later)
    assert read_notes(store, "prod", Notes()).verdicts[candidate(0).id].files == 3


def test_after_an_hour_by_the_storage_s_clock_a_candidate_is_gone_with_its_verdict(store, bucket) -> None:
    add_candidate(store, "prod", candidate(0))
    bucket.now += CANDIDATE_SECONDS - 10
    write_verdict(store, "prod", candidate(0).id, verdict(candidate(0)))
    add_candidate(store, "prod", candidate(1))
    write_checker(store, "prod", CheckerNote("c", "3.3.2", "3.11", "stub", warming=False, beat="1"))
    assert expire(store, "prod") == 0
    bucket.now += 20
    assert expire(store, "prod") == 1
    notes = read_notes(store, "prod", Notes())
    assert (notes.open, notes.verdicts, len(notes.checkers)) == ([candidate(1)], {}, 1)
    assert expire(store, "staging") == 0


def test_verdicts_are_forgotten_by_their_age_with_their_candidates(store, bucket) -> None:
    assert forget_verdicts(store, "prod", 60) == 0
    for number in range(3):
        add_candidate(store, "prod", candidate(number))
    write_verdict(store, "prod", candidate(0).id, verdict(candidate(0)))
    bucket.now += 50
    write_verdict(store, "prod", candidate(1).id, verdict(candidate(1)))
    bucket.now += 20
    assert forget_verdicts(store, "prod", 60) == 1
    notes = read_notes(store, "prod", Notes())
    assert notes.candidates.keys() == {candidate(1).id, candidate(2).id}
    assert list(notes.verdicts) == [candidate(1).id]


def test_a_bundle_is_kept_for_an_hour_and_not_longer(store, bucket) -> None:
    add_candidate(store, "prod", candidate(0))
    bucket.now += CANDIDATE_SECONDS - 1
    assert spared(store, "prod") == {DIGESTS[0]}
    bucket.now += 2
    assert spared(store, "prod") == set()


def test_there_are_never_more_than_the_maximum(store, bucket, monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_CANDIDATES", 3)
    for number in range(3):
        add_candidate(store, "prod", candidate(number))
        bucket.now += 1
    with pytest.raises(TooManyUploads, match="3 deploys to prod are waiting"):
        add_candidate(store, "prod", candidate(3))
    add_candidate(store, "prod", candidate(2))  # it joins
    write_verdict(store, "prod", candidate(1).id, verdict(candidate(1)))
    add_candidate(store, "prod", candidate(3))
    assert [each.digest for each in read_notes(store, "prod", Notes()).open] == [DIGESTS[n] for n in (0, 2, 3)]
    bucket.now += CANDIDATE_SECONDS
    add_candidate(store, "prod", candidate(4))


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", json.dumps(candidate(1)._asdict()).encode()])
def test_a_candidate_that_does_not_decode_is_none(store, data) -> None:
    store.write_note("prod", CANDIDATES, candidate(0).id + ".json", data)
    assert read_notes(store, "prod", Notes()).candidates == {}
    assert spared(store, "prod") == set()


def test_a_verdict_that_does_not_decode_is_one_that_failed(store) -> None:
    add_candidate(store, "prod", candidate(0))
    store.write_note("prod", CANDIDATES, candidate(0).id + ".verdict", b"\xff")
    [found] = read_notes(store, "prod", Notes()).verdicts.values()
    assert "cannot be read" in found.failed
    add_candidate(store, "prod", candidate(0))
    assert read_notes(store, "prod", Notes()).open


def test_a_checker_that_does_not_decode_is_none(store) -> None:
    store.write_note("prod", CANDIDATES, "c" * 32 + ".checker", b"{}")
    assert read_notes(store, "prod", Notes()).checkers == {}


def test_texts_of_any_length_fit(store) -> None:
    long = "ü\n" * 100_000
    add_candidate(store, "prod", candidate(0, actor=long, description=long))
    [found] = read_notes(store, "prod", Notes()).open
    assert len(found.description) == module.MAX_DESCRIPTION_CHARACTERS
    assert len(store.read_note("prod", CANDIDATES, found.id + ".json") or b"") < MAX_NOTE_BYTES


@pytest.mark.parametrize("is_old", [False, True])
def test_a_verdict_never_outlives_its_candidate(store, bucket, monkeypatch, is_old) -> None:
    """It would judge the next candidate of the same content, which nobody would check any more."""
    add_candidate(store, "prod", candidate(0))
    write_verdict(store, "prod", candidate(0).id, verdict(candidate(0)))
    real, deleted = store.delete_note, []

    def killed_after_the_first(*note: str) -> None:
        if deleted:
            raise KeyboardInterrupt
        deleted.append(note)
        real(*note)

    monkeypatch.setattr(store, "delete_note", killed_after_the_first)
    bucket.now += CANDIDATE_SECONDS + 1
    with pytest.raises(KeyboardInterrupt):
        expire(store, "prod") if is_old else remove_candidate(store, "prod", candidate(0).id)
    monkeypatch.undo()
    add_candidate(store, "prod", candidate(0))
    notes = read_notes(store, "prod", Notes())
    assert (notes.open, notes.verdicts) == ([candidate(0)], {})


def test_what_is_removed_or_forgotten_is_gone(store) -> None:
    for number in range(2):
        add_candidate(store, "prod", candidate(number))
    remove_candidate(store, "prod", candidate(0).id)
    assert read_notes(store, "prod", Notes()).open == [candidate(1)]
    store.delete_notes("prod", CANDIDATES)
    assert store.notes("prod", CANDIDATES) == {}
