"""Airflow has read a deploy when everybody who reports says so: judged without a server."""

import itertools
import math

import pytest

from dagferry_server.fleet.parsed import (
    LATE_SECONDS,
    Newest,
    Parsed,
    ParsedState,
    ReporterState,
    Times,
    judge_parsed,
)
from dagferry_server.fleet.report_body import KEPT_ERRORS, ParsedBody
from dagferry_server.fleet.reporters import SILENT_SECONDS, Reported

NOW = 1000.0
WALL = 1_800_000_000.0
OLD, NEW, OTHER = "20261120T064501Z-000041", "20261120T064501Z-000042", "20261120T064501Z-000040"
DIGEST = "sha256:new"
NEWEST = Newest(NEW, 42, DIGEST, int(WALL) - 10, [(40, 100.0), (41, 900.0), (42, NOW - 10)], 60)


def said(number: int = 0, version: str = NEW, complete: float | None = 4.0, **more) -> Reported:
    """What a dag processor says, ``complete`` seconds after it had recorded all; it was heard a second ago."""
    fields = {"came_at": 0.0, "heard_at": NOW - 1}
    fields |= {name: more.pop(name) for name in ("came_at", "heard_at") if name in more}
    body = {"digest": DIGEST, "files": 10, "recorded": 10 if complete is not None else 5, **more}
    return Reported(
        ("dag-processor", f"dag-processor-{number}", "0" * 32),
        "log",
        ParsedBody(version=version, sequence=int(version[-6:]), **body),
        complete_since=None if complete is None else NOW - complete,
        complete_at=None if complete is None else WALL - complete,
        **fields,
    )


def judged(*reports: Reported, now: float = NOW, newest: Newest = NEWEST, **options) -> Parsed:
    found, _ = judge_parsed(newest, reports, now, **options)
    assert found is not None
    return found


def states(parsed: Parsed) -> list[str]:
    return [reader.state.value for reader in parsed.reporters]


def test_nobody_says_what_airflow_has_read() -> None:
    silent = said()._replace(parsed=None)
    assert judge_parsed(NEWEST, [], NOW) == (None, math.inf)
    assert judge_parsed(NEWEST, [silent], NOW) == (None, NOW - 1 + SILENT_SECONDS)


def test_all_is_recorded() -> None:
    found = judged(said())
    assert (found.state, found.version, found.files, found.recorded) == (ParsedState.PARSED, NEW, 10, 10)
    assert found.times == Times(int(WALL) - 4, 6.0)


def test_every_reporter_has_to_have_read_it() -> None:
    found = judged(said(0), said(1, complete=None))
    assert (found.state, states(found), found.recorded, found.times) == (
        ParsedState.PARSING,
        ["parsed", "parsing"],
        5,
        None,
    )
    found = judged(said(0, complete=4.0), said(1, complete=2.0))
    assert (found.state, found.times) == (ParsedState.PARSED, Times(int(WALL) - 2, 8.0))


def test_who_does_not_say_what_airflow_has_read_is_shown_and_counts_for_nothing() -> None:
    found = judged(said(0), said(1)._replace(parsed=None))
    assert (found.state, states(found)) == (ParsedState.PARSED, ["parsed", "unknown"])
    assert found.reporters[1].version == ""


def test_a_reporter_of_an_older_version_is_not_late_at_first_and_then_stale() -> None:
    late_at = NOW - 10 + 60 + LATE_SECONDS
    reports = [said(0), said(1, OLD, heard_at=late_at - 1)]
    found, valid_until = judge_parsed(NEWEST, reports, late_at - 0.1)
    assert found is not None
    assert (found.state, states(found), found.version) == (ParsedState.PARSING, ["parsed", "parsing"], NEW)
    assert valid_until == late_at
    found = judged(*reports, now=late_at)
    assert (found.state, states(found), found.version, found.times) == (
        ParsedState.STALE,
        ["parsed", "stale"],
        NEW,
        None,
    )


def test_it_lacks_the_oldest_deploy_that_it_does_not_have() -> None:
    """Deploys in quick succession must not hide a dag processor that has read none of them."""
    assert judged(said(0, OTHER, heard_at=NOW)).state is ParsedState.PARSING
    assert judged(said(0, OTHER), now=900.0 + 60 + LATE_SECONDS).state is ParsedState.STALE


def test_one_that_has_only_just_come_is_not_late_yet() -> None:
    late = NEWEST._replace(became=[(41, 0.0), (42, 0.0)])
    assert judged(said(0, OLD), newest=late).state is ParsedState.STALE
    assert judged(said(0, OLD, came_at=NOW - 5), newest=late).state is ParsedState.PARSING


def test_of_older_versions_only_the_newest_of_them_is_shown() -> None:
    found = judged(said(0, OTHER, files=3), said(1, OLD, files=4))
    assert (found.state, found.version, found.sequence, found.files) == (ParsedState.PARSING, OLD, 41, 4)


@pytest.mark.parametrize("change", [{"digest": "sha256:old"}, {"version": "20261120T064502Z-000042"}])
def test_a_version_of_another_log_with_the_same_name_is_not_the_newest(change) -> None:
    found = judged(said(**change))
    assert (found.state, states(found)) == (ParsedState.PARSING, ["parsing"])


def test_a_version_above_the_newest_is_none_that_airflow_has_read() -> None:
    above = said(0, "20261120T064501Z-000099", digest="sha256:later")
    assert judged(above).state is ParsedState.PARSING
    assert judged(above, now=NOW - 10 + 60 + LATE_SECONDS).state is ParsedState.STALE


def test_while_the_newest_deploy_is_not_known_nothing_is_read_or_late() -> None:
    unknown = Newest("", 0, "", 0, [(0, 0.0)], 60)
    assert judged(said(), newest=unknown, now=NOW + 10_000).state is ParsedState.PARSING
    assert judged(said(version="empty-000000", digest=""), newest=unknown).state is ParsedState.PARSING


def test_nothing_is_read_while_there_may_be_a_reporter_that_is_not_known() -> None:
    found, valid_until = judge_parsed(NEWEST, [said()], NOW, unsure_until=NOW + 5)
    assert found is not None
    assert (found.state, states(found), valid_until) == (ParsedState.PARSING, ["parsed"], NOW + 5)
    assert judged(said(), unsure_until=NOW).state is ParsedState.PARSED


def test_what_was_read_stays_read_when_another_reporter_comes() -> None:
    first = Times(7, 1.5)
    assert judged(said(), known=first).times == first
    assert judged(said(complete=None), known=first).times is None


def test_a_deploy_of_before_the_server_started_is_measured_by_the_log() -> None:
    found = judged(said(complete=4.0), newest=NEWEST._replace(became=[(42, NOW - 3)], deployed_at=int(WALL) - 100))
    assert found.times == Times(int(WALL) - 4, 96.0)


def test_a_clock_that_goes_wrong_makes_no_negative_time() -> None:
    found = judged(said(complete=500.0))
    assert found.times == Times(NEWEST.deployed_at, 0.0)


def errors(*paths: str, new: bool = False, message: str = "") -> list[dict[str, object]]:
    return [{"path": path, "new": new, "message": message} for path in paths]


def test_of_several_reporters_every_import_error_is_shown_once_the_new_ones_first() -> None:
    one = said(0, errors=errors("a.py", "b.py"), error_count=2)
    other = said(1, errors=[*errors("b.py", "z.py", new=True)], error_count=30, new_error_count=2)
    found = judged(one, other)
    assert [(error.path, error.new) for error in found.errors] == [("b.py", True), ("z.py", True), ("a.py", False)]
    assert (found.error_count, found.new_error_count) == (30, 2)


def test_the_errors_of_an_older_version_are_not_those_of_the_newest() -> None:
    found = judged(said(0), said(1, OLD, errors=errors("a.py"), error_count=1))
    assert (found.errors, found.error_count) == ((), 0)


def test_only_so_many_errors_are_shown() -> None:
    paths = [f"{number:03}.py" for number in range(KEPT_ERRORS)]
    found = judged(said(0, errors=errors(*paths)), said(1, errors=errors("zzz.py", new=True)))
    assert len(found.errors) == KEPT_ERRORS
    assert found.errors[0].path == "zzz.py"


def test_hindrances_of_all_and_the_versions_of_the_one_that_is_furthest_behind() -> None:
    one = said(0, hindrances=["a", "b"], airflow="3.3.2")
    other = said(1, complete=None, hindrances=["b", "c"], airflow="2.11.2", python="3.11.7", providers={"p": "1"})
    found = judged(one, other)
    assert found.hindrances == ("a", "b", "c")
    assert (found.airflow, found.python, found.providers) == ("2.11.2", "3.11.7", {"p": "1"})


def test_how_long_ago_each_was_heard() -> None:
    [reader] = judged(said(heard_at=NOW - 12.5)).reporters
    assert (reader.instance, reader.component, reader.version) == ("dag-processor-0", "dag-processor", NEW)
    assert (reader.state, reader.silent) == (ReporterState.PARSED, 12.5)


KINDS = ("parsed", "parsing", "older", "stale", "silent")


@pytest.mark.parametrize("kinds", [*itertools.product(KINDS, repeat=3)], ids="-".join)
def test_it_is_never_read_unless_all_who_say_something_say_so(kinds) -> None:
    late = NEWEST._replace(became=[(40, -500.0), (41, -400.0), (42, NOW - 10)])
    reports = {
        "parsed": said,
        "parsing": lambda number: said(number, complete=None),
        "older": lambda number: said(number, OLD),
        "stale": lambda number: said(number, OTHER),
        "silent": lambda number: said(number)._replace(parsed=None),
    }
    found, _ = judge_parsed(late, [reports[kind](number) for number, kind in enumerate(kinds)], NOW)
    saying = {*kinds} - {"silent"}
    expected = None
    if saying:
        expected = ParsedState.STALE if "stale" in saying else ParsedState.PARSING
        expected = ParsedState.PARSED if saying == {"parsed"} else expected
    assert (found and found.state) == expected
