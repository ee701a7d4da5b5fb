"""A verdict is bounded, whatever a checker sends."""

import json

import pytest
from pydantic import ValidationError

from dagferry_server.deploys.verdict import (
    MAX_PROBLEMS,
    MAX_TRACE_CHARACTERS,
    MAX_UNJUDGED,
    Problem,
    Unjudged,
    Verdict,
    decode_verdict,
    encode_verdict,
)
from dagferry_server.store.base import MAX_NOTE_BYTES


def problem(number: int = 0, **more) -> Problem:
    given = {"path": f"dag_{number}.py", "line": 1, "message": "it fails", "kind": "import", "trace": "t", "new": True}
    return Problem(**{**given, **more})


def test_a_verdict_is_read_as_it_was_written() -> None:
    verdict = Verdict(
        instance="c",
        base="v1",
        digest="sha256:" + "0" * 64,
        problems=[problem()],
        problem_count=1,
        new_problem_count=1,
        unjudged=[Unjudged(path="b.py", message="KeyError", names=["variable:x"])],
        seconds=1.5,
    )
    assert decode_verdict(encode_verdict(verdict)) == verdict


def test_new_problems_are_kept_before_old_ones() -> None:
    found = decode_verdict(encode_verdict(Verdict(problems=[problem(0, new=False), problem(1), problem(2)])))
    assert [each.path for each in found.problems] == ["dag_1.py", "dag_2.py", "dag_0.py"]


@pytest.mark.parametrize("text", ["x", "\x00", "ü", '"'])
def test_the_largest_verdict_fits_into_a_note(text) -> None:
    long = text * 100_000
    verdict = Verdict(
        instance=long,
        base=long,
        problems=[problem(number, path=long, message=long, trace=long) for number in range(MAX_PROBLEMS)],
        unjudged=[Unjudged(path=long, message=long, names=[long] * 20) for _ in range(MAX_UNJUDGED)],
        problem_count=MAX_PROBLEMS,
    )
    data = encode_verdict(verdict)
    assert len(data) <= MAX_NOTE_BYTES
    assert (decode_verdict(data).problem_count, len(decode_verdict(data).problems) > 0) == (MAX_PROBLEMS, True)


def test_texts_have_no_characters_that_do_harm() -> None:
    found = problem(path="a\x1b[2J.py", message="one\ntwo\u2028three\x9b", trace="one\n\ttwo\x1b]0;x\x07")
    assert (found.path, found.message) == ("a?[2J.py", "one?two?three?")
    assert found.trace == "one\n\ttwo?]0;x?"


def test_of_a_trace_the_end_is_kept() -> None:
    found = problem(trace="a" * 5000 + "the error")
    assert len(found.trace) == MAX_TRACE_CHARACTERS
    assert found.trace.endswith("the error")


@pytest.mark.parametrize(
    "body",
    [
        {"problems": [{"path": "a.py"}]},
        {"problems": [problem().model_dump()] * (MAX_PROBLEMS + 1)},
        {"unjudged": [{"path": "a", "message": "b"}] * (MAX_UNJUDGED + 1)},
        {"problems": [{**problem().model_dump(), "kind": "bad"}]},
        {"problem_count": -1},
        {"files": 10**9},
        {"seconds": -1.0},
    ],
)
def test_what_breaks_the_limits_is_invalid(body) -> None:
    with pytest.raises(ValidationError):
        decode_verdict(json.dumps(body).encode())


def test_a_problem_is_one_sentence_with_its_line_if_there_is_one() -> None:
    assert problem(7).sentence == "dag_7.py:1: it fails"
    assert problem(7, line=0).sentence == "dag_7.py: it fails"
