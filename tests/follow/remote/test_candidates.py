"""The requests of a checker: what an answer must look like, and what gone candidates mean."""

import json
from typing import Any

import pytest

from dagferry_core import protocol
from dagferry_follow.errors import AnswerInvalid, ServerRefused
from dagferry_follow.remote.candidates import Candidate, CheckServer, LiveDeploy, read_candidates
from fake_candidates import FakeServer
from http_candidates import HttpCandidates

DIGEST = "sha256:" + "a" * 64
VERSION = "20261120T064501Z-000001"
ID = "0" * 32
ANSWER: dict[str, Any] = {
    "log_id": "log",
    "live": {"version": VERSION, "digest": DIGEST},
    "candidates": [{"id": ID, "base": VERSION, "digest": DIGEST, "created": 1.5}],
}


@pytest.fixture
def site():
    made = HttpCandidates(FakeServer())
    yield made
    made.stop()


def client(site: HttpCandidates) -> CheckServer:
    return CheckServer(site.url, "prod", "checker-0", agent="test")


def test_an_answer_lists_candidates_and_what_is_live() -> None:
    found = read_candidates(json.dumps(ANSWER).encode(), '"t"')
    assert found == ('"t"', "log", LiveDeploy(VERSION, DIGEST), (Candidate(ID, VERSION, DIGEST),))
    assert read_candidates(json.dumps({**ANSWER, "live": None, "more": 1}).encode(), "").live is None


@pytest.mark.parametrize(
    "changed",
    [
        {"candidates": None},
        {"candidates": [{"id": "../x", "base": "", "digest": DIGEST}]},
        {"candidates": [{"id": ID, "base": "", "digest": "sha256:x"}]},
        {"candidates": [ID]},
        {"live": {"version": "../../x", "digest": DIGEST}},
        {"live": {"version": VERSION, "digest": "x"}},
        {"live": "x"},
        {"log_id": 5},
    ],
)
def test_an_answer_of_another_form_is_an_error(changed) -> None:
    with pytest.raises(AnswerInvalid):
        read_candidates(json.dumps({**ANSWER, **changed}).encode(), "")


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b"[" * 100_000])
def test_so_is_one_that_is_no_json_object(body) -> None:
    with pytest.raises(AnswerInvalid):
        read_candidates(body, "")


def test_an_unchanged_list_is_no_news(site) -> None:
    site.state.upload({"a.py": b""})
    server = client(site)
    found = server.candidates("", 0, {protocol.AIRFLOW: "3.3.2"})
    assert found
    assert len(found.candidates) == 1
    assert server.candidates(found.tag, 0, {}) is None
    assert site.headers[0][protocol.AIRFLOW] == "3.3.2"
    assert site.headers[0][protocol.INSTANCE] == "checker-0"
    server.close()


def test_a_verdict_is_sent_and_one_for_a_gone_candidate_is_dropped(site) -> None:
    candidate = site.state.upload({"a.py": b""})
    server = client(site)
    assert server.verdict(candidate.id, {"problems": [], "text": "é\u2028"})
    assert site.state.verdicts == [(candidate.id, {"problems": [], "text": "é\u2028"})]
    assert not server.verdict(candidate.id, {})
    assert server.candidate(candidate.id, "") is None
    server.close()


def test_other_refusals_are_errors(site) -> None:
    server = client(site)
    for ask in (lambda: server.verdict(ID, {}), lambda: server.candidate(ID, ""), lambda: server.candidates("", 0, {})):
        site.refuse = 1
        with pytest.raises(ServerRefused, match="503"):
            ask()
    server.close()


def test_a_checker_that_ends_says_so(site) -> None:
    server = client(site)
    server.leave({protocol.AIRFLOW: "3.3.2"})
    assert site.state.left
    assert site.headers[0][protocol.DEREGISTER] == "1"
    server.close()
