"""A deploy is parsed when Airflow says so of all of its files, or of a newer one; its new import errors are named."""

import pytest

from clocks import Clock
from dagferry_client import wait_parsed
from dagferry_client.airflow_state import ImportFailure, Parsed
from dagferry_client.api import Api, Status
from dagferry_client.decode import decode
from dagferry_client.deploy_log import Deployed
from dagferry_client.errors import (
    ConnectionLost,
    ImportErrorsFound,
    ImportErrorsUnknown,
    NotParsed,
    RequestNotAllowed,
    ServerUnavailable,
)
from dagferry_client.wait_parsed import NO_REPORT_SECONDS, ParseWait, line_of, older_errors, parsed_sentence
from recorded_answers import DEPLOYED, STATUS, VERSION, import_failure, logged, parsed, reporter

OURS = decode(Deployed, {**DEPLOYED, "added_paths": ["new.py"], "changed_paths": ["helper.py", "changed.py"]})
OLDER = {"version": logged(41)["version"], "sequence": 41}
NEWER = {"version": logged(43)["version"], "sequence": 43}
PARSING = parsed(state="parsing", recorded=118, mixed=1, parsed_at=None, seconds=None)
BROKEN = {"error_count": 1, "new_error_count": 1, "errors": [import_failure()]}


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(wait_parsed, "time", clock)
    return clock


@pytest.fixture
def waited(clock):
    """Wait while the server says that this is parsed, one after another and then the last one without an end."""

    def wait(*answers, seconds: float = 120, ours: Deployed = OURS) -> tuple[Parsed, list[str]]:
        left, said, asked = list(answers), [], []
        wait.said = said

        class Scripted(Api):
            def __init__(self) -> None:
                """Without a server."""

            def status(self, deployment: str, *, tag: str = "", wait: int = 0, **_: object):
                asked.append(deployment)
                answer = left.pop(0) if len(left) > 1 else left[0]
                if isinstance(answer, Exception):
                    raise answer
                if tag and len(asked) > len(answers):
                    clock.now += wait  # nothing changes any more
                    return None, tag
                return decode(Status, {**STATUS, "parsed": answer}), f'"{len(asked)}"'

        waiting = ParseWait(Scripted(), "prod", ours)
        wait.waiting = waiting
        return waiting.wait(seconds, said.append), said

    return wait


def test_a_version_that_is_parsed_is_the_end(waited, clock) -> None:
    found, said = waited(parsed())
    assert (found.version, said, clock.now) == (VERSION, [], 0)


def test_so_is_a_newer_one(waited) -> None:
    found, said = waited(parsed(**OLDER), parsed(**NEWER))
    assert found.version == NEWER["version"]
    assert said == [f"Airflow is at {OLDER['version']} still."]


def test_the_way_there_is_said_once_for_each_change(waited) -> None:
    _, said = waited(None, parsed(**OLDER), PARSING, PARSING, {**PARSING, **BROKEN}, parsed())
    assert said == [
        f"Nothing reports yet that Airflow parses {VERSION}.",
        f"Airflow is at {OLDER['version']} still.",
        "Parsing: 118 of 120 DAG files.",
        "Parsing: 118 of 120 DAG files, 1 new import error.",
    ]


def test_an_error_of_a_parse_that_is_not_the_last_one_does_not_count(waited) -> None:
    found, _ = waited({**PARSING, **BROKEN}, parsed())
    assert found.new_error_count == 0


def test_new_import_errors_end_it_with_8(waited) -> None:
    both = {**BROKEN, "error_count": 3, "errors": [import_failure(), import_failure("b.py", new=False)]}
    with pytest.raises(ImportErrorsFound) as caught:
        waited(parsed(**both))
    assert caught.value.exit_code == 8
    assert caught.value.message == (
        f"Airflow has parsed {VERSION} of prod, with 1 new import error. 2 older import errors beside them."
    )
    assert [(one["path"], one["line"]) for one in caught.value.details["problems"]] == [("etl.py", 3)]
    assert waited.waiting.parsed.error_count == 3


def test_older_import_errors_are_a_success_and_are_said(waited) -> None:
    found, _ = waited(parsed(error_count=2, errors=[import_failure(name, new=False) for name in ("b.py", "c.py")]))
    assert parsed_sentence(found).startswith("Parsed: 120 files, 200 DAGs, 0 new import errors (2 older), 4.1 s after")
    assert older_errors(found, OURS) == [f"Older import error: {name}: NameError: rate" for name in ("b.py", "c.py")]


def test_older_errors_that_are_not_listed_are_counted() -> None:
    found = decode(Parsed, parsed(error_count=3, errors=[import_failure("b.py", new=False)]))
    assert older_errors(found, OURS) == ["Older import error: b.py: NameError: rate", "and 2 more"]


OLD = [import_failure(f"old_{number:02}.py", new=False) for number in range(20)]
MANY_PATHS = [f"dag_{number:03}.py" for number in range(200)]


def deploy_of(**changed: object) -> Deployed:
    return decode(Deployed, {**DEPLOYED, "added": 0, "changed": 0, "added_paths": [], "changed_paths": [], **changed})


@pytest.mark.parametrize(
    ("errors", "ours", "says"),
    [
        (25, deploy_of(changed=1, changed_paths=["z.py"]), "the server lists only 20 of 25 import errors."),
        (21, deploy_of(added=1, added_paths=["z.py"]), "the server lists only 20 of 21 import errors."),
        (
            20,
            deploy_of(changed=201, changed_paths=MANY_PATHS, cut=True),
            "the server lists only 200 of 201 files that it adds or changes.",
        ),
        (
            25,
            deploy_of(added=300, added_paths=MANY_PATHS, changed=1, changed_paths=["z.py"], cut=True),
            "the server lists only 20 of 25 import errors and 201 of 301 files that it adds or changes.",
        ),
    ],
)
def test_what_is_not_listed_may_be_an_error_of_this_deploy_and_is_no_success(waited, errors, ours, says) -> None:
    with pytest.raises(ImportErrorsUnknown) as caught:
        waited(parsed(error_count=errors, errors=OLD), ours=ours)
    assert (caught.value.exit_code, caught.value.code, caught.value.is_known) == (7, "import_errors_unknown", False)
    assert caught.value.message == (
        f"Airflow has parsed {VERSION} of prod, without a new import error, but whether an older one is in a file of "
        f"this deploy is not known: {says}"
    )


@pytest.mark.parametrize(
    ("errors", "ours"),
    [
        ([], deploy_of(changed=201, changed_paths=MANY_PATHS, cut=True)),
        (OLD, deploy_of(changed=200, changed_paths=MANY_PATHS)),
        (OLD, deploy_of(changed=1, changed_paths=["z.py"], removed=201, removed_paths=MANY_PATHS, cut=True)),
    ],
)
def test_what_is_cut_without_an_error_that_it_could_hide_is_a_success(waited, errors, ours) -> None:
    found, _ = waited(parsed(error_count=len(errors), errors=errors), ours=ours)
    assert found.version == VERSION


@pytest.mark.parametrize("ours", [deploy_of(unchanged=True), deploy_of(removed=1, removed_paths=["z.py"])])
def test_a_deploy_that_adds_and_changes_no_file_has_none_of_the_older_errors(waited, ours) -> None:
    found, _ = waited(parsed(error_count=25, errors=OLD), ours=ours)
    assert found.error_count == 25


def test_an_error_that_is_listed_fails_a_deploy_whatever_is_not(waited) -> None:
    mine = import_failure("z.py", new=False)
    with pytest.raises(ImportErrorsFound, match=r"with 1 import error in files of this deploy\. 24 older"):
        waited(
            parsed(error_count=25, errors=[mine, *OLD[1:]]), ours=deploy_of(changed=2, changed_paths=["y.py", "z.py"])
        )


def test_errors_that_airflow_knows_fail_the_deploy_of_their_files(waited) -> None:
    known = [import_failure(path, new=False) for path in ("new.py", "changed.py", "b.py")]
    with pytest.raises(ImportErrorsFound) as caught:
        waited(parsed(error_count=3, errors=known))
    assert caught.value.message == (
        f"Airflow has parsed {VERSION} of prod, with 2 import errors in files of this deploy. "
        "1 older import error beside them."
    )
    assert [one["path"] for one in caught.value.details["problems"]] == ["new.py", "changed.py"]
    assert older_errors(waited.waiting.parsed, OURS) == ["Older import error: b.py: NameError: rate"]
    with pytest.raises(ImportErrorsFound, match="1 new import error and 2 older ones in files of this deploy"):
        waited(parsed(error_count=4, new_error_count=1, errors=[import_failure(), *known]))


def test_one_of_each_is_in_the_singular_and_an_unknown_time_is_left_out() -> None:
    assert parsed_sentence(decode(Parsed, parsed(files=1, dags=1, seconds=None))) == (
        "Parsed: 1 file, 1 DAG, 0 new import errors."
    )


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (PARSING, "118 of 120 DAG files recorded, 1 of the others read while the files were swapped."),
        ({**PARSING, **OLDER, "state": "parsed"}, f"It is at {OLDER['version']} still."),
        (
            {
                **PARSING,
                "state": "stale",
                "reporters": [
                    reporter(),
                    reporter("dag-processor-1", state="stale", version=OLDER["version"]),
                    reporter("dag-processor-2", state="parsing", version=""),
                ],
            },
            f"Behind: dag-processor-1 (stale, {OLDER['version']}), dag-processor-2 (parsing, no version).",
        ),
        (
            {
                **PARSING,
                "parse_seconds": {"total": 40.1, "longest": 6.0, "slowest": [{"path": "a.py", "seconds": 6.0}]},
            },
            "Its last parse of all files took 40 s, a.py the longest (6 s).",
        ),
        (
            {**PARSING, "hindrances": ["[core] min_serialized_dag_update_interval is 30: set it to 0."]},
            "Settings of Airflow that delay it: [core] min_serialized_dag_update_interval is 30: set it to 0.",
        ),
    ],
)
def test_what_is_not_parsed_in_time_says_what_is_missing(waited, clock, answer, says) -> None:
    with pytest.raises(NotParsed) as caught:
        waited(answer, seconds=70)
    assert (caught.value.exit_code, caught.value.code, caught.value.is_known) == (7, "not_parsed", False)
    assert f"{VERSION} is live in prod, but Airflow has not parsed it after 70 s: " in caught.value.message
    assert says in caught.value.message
    assert clock.now == 70


def test_errors_of_this_version_are_named_although_not_all_is_parsed_in_time(waited) -> None:
    with pytest.raises(ImportErrorsFound, match=r"Airflow has parsed 118 of 120 DAG files of .* in 70 s, with 1 new"):
        waited({**PARSING, **BROKEN}, seconds=70)


def test_errors_of_an_older_version_are_not_this_deploy_s(waited) -> None:
    with pytest.raises(NotParsed):
        waited({**parsed(**OLDER), **BROKEN}, seconds=70)


def test_where_nothing_reports_the_wait_ends_early_and_says_what_to_do(waited, clock) -> None:
    with pytest.raises(NotParsed, match="nothing reports what Airflow has parsed") as caught:
        waited(None, seconds=3600)
    assert "live-parsed-checked.md#who-reports-it" in caught.value.hint
    assert clock.now == NO_REPORT_SECONDS


def test_a_short_wait_is_not_longer_where_nothing_reports(waited, clock) -> None:
    with pytest.raises(NotParsed):
        waited(None, seconds=5)
    assert clock.now == 5


def test_a_report_that_went_away_is_waited_for_to_the_end(waited, clock) -> None:
    with pytest.raises(NotParsed, match=r"118 of 120 .* No DAG processor reports any more\.$") as caught:
        waited(PARSING, None, seconds=300)
    assert clock.now == 300
    assert "runs" in caught.value.hint


def test_a_server_that_is_away_for_a_while_is_asked_again(waited, clock) -> None:
    found, _ = waited(ConnectionLost("It is away."), ServerUnavailable("It starts.", retry_after=0), parsed())
    assert (found.version, clock.now) == (VERSION, 2)


def test_a_server_that_stays_away_is_the_error(waited) -> None:
    with pytest.raises(ConnectionLost):
        waited(PARSING, ConnectionLost("It is away."), seconds=5)


def test_a_refusal_ends_the_wait_at_once(waited, clock) -> None:
    with pytest.raises(RequestNotAllowed):
        waited(RequestNotAllowed("No."))
    assert clock.now == 0


def test_the_line_is_that_which_the_trace_names_last_in_the_file() -> None:
    trace = 'File "/d/a.py", line 3\n  File "/d/a.py", line 7\n  File "/d/lib/b.py", line 9\n'
    assert line_of(ImportFailure("a.py", "No.", trace)) == 7
    assert line_of(ImportFailure("c.py", "No.", trace)) == 0
