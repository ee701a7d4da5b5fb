"""What each reporter said last is remembered for a while, wherever it said so, and only so many of them."""

import logging

import pytest

from dagferry_server.fleet import reporters as module
from dagferry_server.fleet.report_body import ReportBody
from dagferry_server.fleet.reporters import MAX_BREAKS, MAX_REPORTERS, SILENT_SECONDS, Reported, Reporters, reported

NOW, WALL = 1000.0, 1_800_000_000.0
PARSED = {"version": "v1", "sequence": 1, "digest": "d", "files": 2, "recorded": 2, "complete_for": 0.0}


class Known:
    """Reporters, and how often they said that something is different."""

    def __init__(self) -> None:
        self.changes: list[str] = []
        self.reporters = Reporters(
            "prod", lambda _: self.changes.append("heard"), lambda _: self.changes.append("told")
        )

    def counting(self, now: float = NOW, log_id: str = "log") -> list[str]:
        return [said.key[1] for said in self.reporters.counting(log_id, now)]


@pytest.fixture
def known() -> Known:
    return Known()


def said(instance: str = "a", now: float = NOW, *, leaving: bool = False, log_id: str = "log", **more) -> Reported:
    parsed = {**PARSED, **more} if more.pop("parsed", True) is not None else None
    body = {"instance": instance, "id": "0" * 32, "component": "bundle", "log_id": log_id, "leaving": leaving}
    return reported(ReportBody.model_validate({**body, "parsed": parsed}), now, WALL + now)


def elsewhere(report: Reported) -> Reported:
    """The same, told to another server."""
    return report._replace(own=False)


async def test_who_reports_counts_until_it_was_not_heard_for_long(known, caplog) -> None:
    caplog.set_level(logging.INFO)
    assert known.reporters.record(said("b"))
    assert known.reporters.record(said("a", NOW + 10))
    assert known.counting(NOW + SILENT_SECONDS - 0.1) == ["a", "b"]
    assert known.counting(NOW + SILENT_SECONDS) == ["a"]
    known.reporters.forget_silent(NOW + SILENT_SECONDS)
    assert [key[1] for key in known.reporters.known] == ["a"]
    assert [record.getMessage() for record in caplog.records] == [
        "Reporter came",
        "Reporter came",
        "Reporter not heard any more",
    ]


async def test_who_leaves_does_not_count_and_may_come_back(known) -> None:
    known.reporters.record(said())
    known.reporters.record(said(leaving=True, now=NOW + 1))
    assert known.counting(NOW + 1) == []
    known.reporters.record(said(now=NOW + 2))
    assert known.counting(NOW + 2) == ["a"]
    assert known.changes == ["told"] * 3


async def test_a_report_about_another_log_does_not_count(known) -> None:
    known.reporters.record(said())
    assert known.counting(log_id="another") == []


async def test_only_what_the_status_depends_on_is_a_change(known) -> None:
    known.reporters.record(said())
    known.reporters.record(said(now=NOW + 30, complete_for=30.0, parse_seconds={"total": 9.0}))
    assert known.changes == ["told"]
    known.reporters.record(said(now=NOW + 31, recorded=1, complete_for=None))
    known.reporters.record(said(now=NOW + 32, recorded=1, complete_for=None, errors=[{"path": "a.py"}]))
    assert known.changes == ["told"] * 3


async def test_what_is_not_recorded_completely_is_not_complete_whatever_is_said() -> None:
    assert said(complete_for=5.0).complete_since == NOW - 5
    assert said(complete_for=5.0).complete_at == WALL + NOW - 5
    assert said(complete_for=5.0, recorded=1).complete_since is None
    assert said(complete_for=None).complete_since is None


async def test_the_moment_of_completion_stays_the_first_that_was_told(known) -> None:
    """Each report takes another time to arrive; that must change nothing."""
    known.reporters.record(said(complete_for=5.0))
    known.reporters.record(said(now=NOW + 30, complete_for=34.9))
    [kept] = known.reporters.known.values()
    assert (kept.complete_since, kept.complete_at, kept.came_at) == (NOW - 5, WALL + NOW - 5, NOW)
    known.reporters.record(said(now=NOW + 40, complete_for=1.0, version="v2"))
    [kept] = known.reporters.known.values()
    assert kept.complete_since == NOW + 39
    known.reporters.record(said(now=NOW + 50, complete_for=None, version="v2"))
    known.reporters.record(said(now=NOW + 60, complete_for=2.0, version="v2"))
    [kept] = known.reporters.known.values()
    assert kept.complete_since == NOW + 58


async def test_what_another_server_was_told_counts_if_it_is_newer(known) -> None:
    known.reporters.record(said())
    known.reporters.hear(elsewhere(said(now=NOW - 1, recorded=0, complete_for=None)))
    assert known.changes == ["told"]
    known.reporters.hear(elsewhere(said(now=NOW + 1)))
    assert known.changes == ["told"], "it says the same"
    assert list(known.reporters.own()) == [], "the other server tells it from now on"
    known.reporters.hear(elsewhere(said(now=NOW + 2, leaving=True)))
    assert (known.changes, known.counting(NOW + 2)) == (["told", "heard"], [])
    known.reporters.record(said(now=NOW + 3))
    assert [report.key[1] for report in known.reporters.own()] == ["a"]


async def test_there_is_room_for_so_many_and_a_further_one_is_not_remembered(known) -> None:
    for number in range(MAX_REPORTERS):
        assert known.reporters.record(said(f"r{number}"))
    known.changes.clear()
    assert not known.reporters.record(said("more", NOW + 1))
    assert not known.reporters.record(said("yet more", NOW + 2))
    assert (known.reporters.crowded_until, known.changes) == (NOW + 2 + SILENT_SECONDS, ["told"])
    assert known.reporters.record(said("r0", NOW + 2)), "those who are known stay"
    known.reporters.hear(elsewhere(said("elsewhere", NOW + 3)))
    assert known.reporters.crowded_until == NOW + 3 + SILENT_SECONDS
    known.reporters.record(said("r1", NOW + 4, leaving=True))
    assert known.reporters.record(said("more", NOW + 5)), "one has left"
    assert known.reporters.record(said("late", NOW + SILENT_SECONDS)), "others are not heard any more"
    assert len(known.reporters.known) <= MAX_REPORTERS


async def test_clear_forgets_all(known) -> None:
    known.reporters.record(said())
    known.reporters.note_break("v1", 2)
    known.reporters.clear()
    assert (known.reporters.known, known.reporters.breaks) == ({}, {})


async def test_which_versions_brought_errors_is_remembered_and_logged_once(known, caplog) -> None:
    known.reporters.note_break("v1", 0)
    assert known.reporters.breaks == {}
    known.reporters.note_break("v1", 2)
    known.reporters.note_break("v1", 1)
    known.reporters.note_break("v1", 3)
    assert known.reporters.breaks == {"v1": 3}
    [line] = caplog.records
    assert (line.getMessage(), line.fields["version"], line.fields["errors"]) == ("New import errors", "v1", 2)
    for number in range(MAX_BREAKS):
        known.reporters.note_break(f"w{number}", 1)
    assert len(known.reporters.breaks) == MAX_BREAKS
    assert "v1" not in known.reporters.breaks


async def test_a_flood_of_reporters_does_not_flood_the_log(known, caplog, monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_LINES", 3)
    caplog.set_level(logging.INFO)
    several = Known().reporters
    for _ in range(5):
        several.record(said())
        several.record(said(leaving=True))
    several.flush()
    assert [record.getMessage() for record in caplog.records] == [
        "Reporter came",
        "Reporter left",
        "Reporter came",
        "Reporters not logged",
    ]
    assert caplog.records[-1].fields["suppressed"] == 7
