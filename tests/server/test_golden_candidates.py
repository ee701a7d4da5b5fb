"""What checkers and servers of then send each other, and what they store, is understood: see tests/golden/README.md."""

import json
from pathlib import Path
from typing import Any

import pytest

import goldens
from bucket_in_memory import Bucket, shared_store
from dagferry_server.deploys.candidates import Notes, candidate_id, read_notes
from dagferry_server.deploys.import_verdict import judge_verdict
from dagferry_server.deploys.verdict import Verdict, encode_verdict
from dagferry_server.errors import ImportCheckRefused
from dagferry_server.http.handlers.candidates import CandidatesAnswer, VerdictBody
from dagferry_server.store.base import CANDIDATES

GOLDEN = Path(__file__).parent.parent / "golden" / "candidates1"


def golden(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text())


@pytest.mark.parametrize("name", ["listed.json", "listed-empty.json"])
def test_a_list_has_all_that_a_checker_of_then_reads(name) -> None:
    was = golden(name)
    assert goldens.holds(json.loads(CandidatesAnswer(**was).model_dump_json()), was)


def test_a_verdict_of_then_is_read_and_stored() -> None:
    was = golden("verdict.json")
    body = VerdictBody.model_validate_json((GOLDEN / "verdict.json").read_bytes())
    assert goldens.holds(json.loads(encode_verdict(body)), was)


def test_a_check_that_failed_is_understood() -> None:
    assert VerdictBody.model_validate_json((GOLDEN / "failed.json").read_bytes()).failed


def test_a_refusal_has_all_that_a_client_of_then_reads() -> None:
    with pytest.raises(ImportCheckRefused) as caught:
        judge_verdict("prod", "block", Verdict(**golden("verdict.json")), None)
    assert goldens.holds(goldens.wordless(caught.value.as_dict()), goldens.wordless(golden("refused.json")))


def test_the_notes_of_then_are_read() -> None:
    store = shared_store(Bucket())
    store.prepare("prod")
    was, listed = golden("note.json"), golden("listed.json")
    assert was["id"] == candidate_id(listed["log_id"], was["base"], was["digest"])
    store.write_note("prod", CANDIDATES, was["id"] + ".json", (GOLDEN / "note.json").read_bytes())
    store.write_note("prod", CANDIDATES, "c" * 32 + ".checker", (GOLDEN / "note.checker").read_bytes())
    notes = read_notes(store, "prod", Notes())
    assert [each._asdict() for each in notes.open] == [was]
    assert [each._asdict() for each in notes.checkers.values()] == [golden("note.checker")]
    store.write_note("prod", CANDIDATES, was["id"] + ".verdict", (GOLDEN / "verdict.json").read_bytes())
    found = read_notes(store, "prod", notes).verdict_on(was["digest"], was["base"])
    assert found is not None
    assert found.new_problem_count == 1
