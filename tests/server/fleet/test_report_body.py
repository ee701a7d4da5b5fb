"""Reports are bounded, cleaned, and read whichever release sent them: see tests/golden/README.md."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from dagferry_core.protocol import MAX_REPORT_BYTES, MAX_REPORTED_ERRORS, MAX_REPORTED_VERSIONS, MAX_TRACE_BYTES
from dagferry_server.fleet.report_body import KEPT_ERRORS, ReportBody

GOLDEN = sorted((Path(__file__).parents[2] / "golden").glob("reports*/*.json"))
ID = "0" * 32
PARSED = {"version": "v", "sequence": 1, "digest": "d", "files": 1, "recorded": 1}


def body(**more: object) -> dict[str, object]:
    return {"instance": "a", "id": ID, "component": "bundle", "log_id": "log", **more}


def read(**more: object) -> ReportBody:
    return ReportBody.model_validate_json(json.dumps(body(**more)))


def read_parsed(**more: object) -> ReportBody:
    return read(parsed={**PARSED, **more})


def test_there_are_golden_reports() -> None:
    assert {path.parent.name for path in GOLDEN} >= {"reports1"}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_report_of_an_older_release_is_read_as_it_was(path) -> None:
    sent = json.loads(path.read_bytes())
    found = ReportBody.model_validate_json(path.read_bytes()).model_dump(mode="json")

    def same(was: object, now: object) -> bool:
        if isinstance(was, dict) and isinstance(now, dict):
            return all(same(value, now.get(name)) for name, value in was.items())
        if isinstance(was, list) and isinstance(now, list):
            return len(was) == len(now) and all(same(*pair) for pair in zip(was, now, strict=True))
        return was == now

    assert same(sent, found)


def test_what_is_missing_has_a_default_and_what_is_unknown_is_ignored() -> None:
    found = read(later={"a": 1})
    assert (found.leaving, found.versions, found.leases, found.parsed) == (False, [], None, None)
    found = read_parsed(later=1)
    assert found.parsed is not None
    assert (found.parsed.complete_for, found.parsed.errors, found.parsed.airflow) == (None, [], "")


def test_of_lists_that_are_too_long_the_first_entries_stay() -> None:
    errors = [{"path": f"{number}.py"} for number in range(MAX_REPORTED_ERRORS)]
    found = read_parsed(
        errors=[*errors, "what is beyond is not even looked at"],
        hindrances=["x"] * 99,
        providers={str(number): "1" for number in range(999)},
        parse_seconds={"total": 1, "longest": 1, "slowest": [{"path": "a.py", "seconds": 1}] * 99},
    ).parsed
    assert found is not None
    assert found.parse_seconds is not None
    assert [len(each) for each in (found.errors, found.hindrances, found.providers, found.parse_seconds.slowest)] == [
        MAX_REPORTED_ERRORS,
        10,
        200,
        5,
    ]
    many = ["v"] * 999
    found_lists = read(versions=many, leases={"versions": many})
    assert found_lists.leases is not None
    assert len(found_lists.versions) == len(found_lists.leases.versions) == MAX_REPORTED_VERSIONS


def test_texts_are_bounded_and_cleaned() -> None:
    hostile = "\x1b[2J\u202e<script>" + "x" * 9999
    found = read(
        instance=hostile,
        log_id=hostile,
        parsed={
            **PARSED,
            **dict.fromkeys(("version", "digest", "airflow", "python"), hostile),
            "errors": [{"path": hostile, "message": hostile, "trace": "a\n" + hostile}],
            "hindrances": [hostile],
            "providers": {hostile: hostile},
        },
    )
    text = found.model_dump_json()
    assert "\\u001b" not in text
    assert len(text) < 10_000
    assert found.parsed is not None
    assert len(found.parsed.errors[0].trace.encode()) == MAX_TRACE_BYTES
    assert found.instance.startswith("?[2J\u202e<script>x")


def test_the_errors_that_matter_most_are_kept_and_the_counts_fit() -> None:
    old = [{"path": f"old{number}.py"} for number in range(50)]
    new = [{"path": f"new{number}.py", "new": True} for number in range(3)]
    parsed = read_parsed(errors=[*old, *new], error_count=1).parsed
    assert parsed is not None
    kept = parsed.kept()
    assert [error.path for error in kept.errors[:4]] == ["new0.py", "new1.py", "new2.py", "old0.py"]
    assert (len(kept.errors), kept.error_count, kept.new_error_count) == (KEPT_ERRORS, 53, 3)


def test_the_longest_report_that_is_described_fits() -> None:
    errors = [{"path": "p" * 200, "message": "m" * 200, "trace": "t" * 1900, "new": True}] * MAX_REPORTED_ERRORS
    assert len(json.dumps(body(parsed={**PARSED, "errors": errors}))) < MAX_REPORT_BYTES


@pytest.mark.parametrize(
    "change",
    [
        {"files": -1},
        {"files": 1.5},
        {"files": "1"},
        {"files": True},
        {"files": 10**10},
        {"sequence": 2**63},
        {"complete_for": -0.1},
        {"complete_for": "1"},
        {"complete_for": 10**400},
        {"errors": [{"message": "no path"}]},
        {"errors": [{"path": "a.py", "new": "yes"}]},
        {"errors": {"a.py": "x"}},
        {"version": None},
        {"providers": ["a"]},
        {"providers": {"a": 1}},
    ],
)
def test_anything_else_is_refused(change) -> None:
    with pytest.raises(ValidationError):
        read_parsed(**change)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_refused(number) -> None:
    text = json.dumps(body(parsed={**PARSED, "complete_for": 0})).replace(
        '"complete_for": 0', f'"complete_for": {number}'
    )
    with pytest.raises(ValidationError):
        ReportBody.model_validate_json(text)
