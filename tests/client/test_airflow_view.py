"""What a status says about Airflow is shown in lines: what is wrong first, and what is new is said to be."""

import pytest

from dagferry_client.airflow_view import airflow_lines, in_short
from dagferry_client.api import Status
from dagferry_client.decode import decode
from dagferry_client.describe import text_of
from dagferry_client.output import MAX_LISTED
from recorded_answers import STATUS, VERSION, checker, import_check, import_failure, logged, parsed, reporter

OLDER = logged(41)["version"]
BUILT = f"({VERSION}; Airflow 3.3.2, Python 3.11.7)"


def lines(**changed: object) -> list[str]:
    status = decode(Status, {**STATUS, **changed})
    return ["".join(map(text_of, line)) for line in airflow_lines(status, 100.0)]


def test_what_nothing_reports_has_no_line() -> None:
    assert lines() == []
    assert in_short(decode(Status, STATUS)) == []


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, "parsed, 120 DAG files, 200 DAGs, 0 import errors, 4.1 s after the deploy"),
        ({"files": 1, "dags": 1, "seconds": None}, "parsed, 1 DAG file, 1 DAG, 0 import errors"),
        ({"error_count": 2, "new_error_count": 1, "seconds": 2}, None),
        ({"state": "parsing", "recorded": 7}, "parsing, 7 of 120 DAG files, 0 import errors"),
        ({"state": "stale", "recorded": 7, "mixed": 2}, "stale, 7 of 120 DAG files, 2 mixed, 0 import errors"),
    ],
)
def test_one_sentence_says_how_far_airflow_is(changed, says) -> None:
    says = says or "parsed, 120 DAG files, 200 DAGs, 2 import errors (1 new), 2.0 s after the deploy"
    assert lines(parsed=parsed(**changed))[0] == f"Airflow: {says} {BUILT}"
    assert in_short(decode(Status, {**STATUS, "parsed": parsed(**changed)})) == [f"Airflow: {says}."]


def test_what_is_not_known_of_airflow_itself_is_left_out() -> None:
    assert lines(parsed=parsed(airflow="", python=""))[0].endswith(f" ({VERSION})")
    assert lines(parsed=parsed(python=""))[0].endswith(f" ({VERSION}; Airflow 3.3.2)")


def test_import_errors_reporters_that_are_behind_and_delays_are_listed() -> None:
    errors = [import_failure(), import_failure("b.py", new=False)]
    behind = [reporter(), reporter("dag-processor-1", version=OLDER, state="stale"), reporter("x", version="")]
    read = parsed(error_count=2, new_error_count=1, errors=errors, reporters=behind, hindrances=["It waits."])
    assert lines(parsed=read)[1:] == [
        "  etl.py: NameError: rate (new)",
        "  b.py: NameError: rate",
        f"  dag-processor-1 is at {OLDER} (stale)",
        "  x is at no version (parsed)",
        "  Delayed: It waits.",
    ]


@pytest.mark.parametrize(("number", "more"), [(21, "  and 1 more import error"), (25, "  and 5 more import errors")])
def test_of_many_import_errors_some_are_listed(number, more) -> None:
    found = lines(parsed=parsed(error_count=number, errors=[import_failure()] * number))
    assert len(found) == MAX_LISTED + 2
    assert found[-1] == more


def test_versions_in_use_are_listed_newest_first() -> None:
    many = {"versions": {logged(number)["version"]: ["a"] for number in range(1, 31)}, "holders": 1}
    [line] = lines(leases=many)
    assert line.startswith(f"Kept for DAG runs: {logged(30)['version']}, {logged(29)['version']}, ")
    assert line.endswith(" and 10 more")


def test_the_import_check_says_who_checks_and_what_was_refused() -> None:
    problems = [
        {"path": "a.py", "line": 3, "message": "No module named 'x'", "kind": "import"},
        {"path": "c.py", "line": 0, "message": "It ended the process.", "kind": "exit"},
    ]
    refused = [{"actor": f"token:{number}", "created": number, "problems": problems} for number in range(40, 45)]
    checking = [{"id": "0" * 32, "base": VERSION, "digest": "sha256:1", "actor": "token:ci", "created": 97}]
    found = lines(import_check=import_check(refused=refused, checking=checking, mismatch="Airflow runs 3.3.1."))
    assert found[:6] == [
        "Import check: block, by checker-0 (Airflow 3.3.2, Python 3.11.7)",
        "  Airflow runs 3.3.1.",
        "  Checking what token:ci sent 3 s ago",
        "  Refused what token:44 sent 56 s ago:",
        "    a.py:3: No module named 'x'",
        "    c.py: It ended the process.",
    ]
    assert len(found) == 12, "the three newest ones"


def test_what_waits_for_a_checker_is_not_said_to_be_checked_while_there_is_none() -> None:
    waiting = [{"id": "0" * 32, "base": VERSION, "digest": "sha256:1", "actor": "token:ci", "created": 97}]
    found = lines(import_check=import_check(checkers=[], checking=waiting))
    assert found[-1] == "  Not checked yet: what token:ci sent 3 s ago"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"policy": "warn", "checkers": []}, "warn, no checker is connected"),
        ({"checkers": [checker(connected=False)]}, "block, no checker is connected"),
        ({"checkers": [], "away": "closed"}, "block, no checker is connected, so deploys are refused"),
        ({"checkers": [], "policy": "warn", "away": "closed"}, "warn, no checker is connected"),
        ({"checkers": [checker(warming=True)]}, "block, by checker-0 (Airflow 3.3.2, Python 3.11.7, not ready yet)"),
    ],
)
def test_it_says_whether_deploys_are_checked_now(changed, says) -> None:
    assert lines(import_check=import_check(**changed)) == [f"Import check: {says}"]
