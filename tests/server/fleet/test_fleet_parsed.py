"""What Airflow has read is part of a fleet's status: who is told, when it is judged again, and what is remembered."""

import asyncio

import pytest

from dagferry_core.names import make_version
from dagferry_server.fleet import fleet as module
from dagferry_server.fleet.fleet import Change, Fleet
from dagferry_server.fleet.merge import Others
from dagferry_server.fleet.parsed import ParsedState
from dagferry_server.fleet.report_body import ReportBody
from dagferry_server.fleet.reporters import SILENT_SECONDS, reported
from dagferry_server.fleet.sidecars import LOST_AFTER_SECONDS, Report
from dagferry_server.fleet.status import Facts
from running import eventually

START, WALL = 1000.0, 1_800_000_000.0


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COALESCE_SECONDS", 0.01)


def _unknown(_: int) -> None:
    """No version of the log is in memory."""


class Deployed:
    """A deployment with deploys, a fleet, and a clock that the test sets."""

    def __init__(self, sequence: int = 1) -> None:
        self.now = START
        self.sequence = sequence
        self.log_id = "log"
        self.fleet = Fleet("prod", self._facts, clock=lambda: self.now)
        self.fleet.opened_log(sequence)
        self.now += LOST_AFTER_SECONDS

    @property
    def version(self) -> str:
        return make_version(int(WALL) + self.sequence, self.sequence)

    def _facts(self) -> Facts:
        facts = Facts("prod", self.log_id, self.version, self.sequence, self.sequence, _unknown, "", {}, 60)
        return facts._replace(digest=f"d{self.sequence}", deployed_at=int(WALL + START))

    def deploy(self) -> None:
        self.sequence += 1
        self.fleet.deployed(self.sequence)

    def report(self, instance: str = "a", **more: object) -> None:
        parsed = {"version": self.version, "sequence": self.sequence, "digest": f"d{self.sequence}"}
        parsed |= {"files": 1, "recorded": 1, "complete_for": 0.0, **more}
        body = {"instance": instance, "id": "0" * 32, "component": "bundle", "log_id": self.log_id, "parsed": parsed}
        self.fleet.reporters.record(reported(ReportBody.model_validate(body), self.now, WALL + self.now))

    @property
    def state(self) -> ParsedState | None:
        parsed = self.fleet.status().parsed
        return parsed and parsed.state


async def test_it_is_judged_again_with_each_report_and_each_deploy() -> None:
    deployed = Deployed()
    assert deployed.state is None
    deployed.report()
    assert deployed.state is ParsedState.PARSED
    deployed.deploy()
    assert deployed.state is ParsedState.PARSING
    deployed.report(recorded=0, complete_for=None)
    assert deployed.state is ParsedState.PARSING
    deployed.report()
    assert deployed.state is ParsedState.PARSED


async def test_who_is_not_heard_any_more_no_longer_counts() -> None:
    deployed = Deployed()
    deployed.report(recorded=0, complete_for=None)
    deployed.now += 60
    deployed.report("b")
    assert deployed.state is ParsedState.PARSING
    deployed.now += SILENT_SECONDS - 60
    assert deployed.state is ParsedState.PARSED
    deployed.now += 60
    assert deployed.state is None
    assert deployed.fleet.reporters.known == {}


async def test_a_server_that_has_just_started_has_not_heard_every_reporter() -> None:
    deployed = Deployed()
    deployed.now = START
    deployed.report()
    assert deployed.state is ParsedState.PARSING
    deployed.now += LOST_AFTER_SECONDS
    assert deployed.state is ParsedState.PARSED
    new = Deployed()
    new.now = START
    new.fleet.first_of_all()
    new.report()
    assert new.state is ParsedState.PARSED, "of a new log, nobody can have reported before"


async def test_while_a_server_is_missing_nobody_knows_every_reporter() -> None:
    deployed = Deployed()
    deployed.report()
    deployed.fleet.others = lambda: Others(missing="One does not answer.")
    assert deployed.state is ParsedState.PARSING


async def test_a_change_is_told_once_with_the_time_that_it_took(monkeypatch) -> None:
    deployed = Deployed()
    changes: list[Change] = []
    deployed.fleet.listen(changes.append)
    deployed.report()
    await eventually("it is told", lambda: not deployed.fleet.unsettled)
    deployed.deploy()
    deployed.now += 12.5
    deployed.report(complete_for=2.0)
    waiting = asyncio.ensure_future(deployed.fleet.waiters.wait(20))
    assert await waiting, "who waits for another status is told"
    deployed.report("b")
    await eventually("it is told", lambda: not deployed.fleet.unsettled)
    assert [change.parsed_after for change in changes if change.parsed_after is not None] == [10.5]
    parsed = deployed.fleet.status().parsed
    assert parsed is not None
    assert parsed.times is not None
    assert (parsed.times.seconds, parsed.times.parsed_at) == (10.5, int(WALL + deployed.now - 2)), (
        "the first one counts"
    )
    deployed.fleet.close()


async def test_which_deploys_brought_import_errors_is_remembered_until_the_deployment_is_deleted() -> None:
    deployed = Deployed()
    deployed.report(errors=[{"path": "a.py", "new": True}])
    assert deployed.state is ParsedState.PARSED
    broken = deployed.version
    deployed.deploy()
    assert deployed.state is ParsedState.PARSING
    assert deployed.fleet.reporters.breaks == {broken: 1}, "it says nothing of the next one"
    deployed.fleet.forget()
    assert (deployed.state, deployed.fleet.reporters.breaks) == (None, {})


async def test_of_another_log_nothing_is_known() -> None:
    deployed = Deployed()
    deployed.report(complete_for=5.0)
    assert deployed.state is ParsedState.PARSED
    deployed.log_id = "another"
    deployed.fleet.opened_log(1)
    assert deployed.state is None
    deployed.now += LOST_AFTER_SECONDS
    deployed.report()
    parsed = deployed.fleet.status().parsed
    assert parsed is not None
    assert parsed.times is not None
    assert parsed.times.parsed_at == int(WALL + deployed.now), "not that of the version with the same name"


async def test_reports_that_say_the_same_do_not_judge_a_large_fleet(monkeypatch) -> None:
    deployed = Deployed()
    for number in range(1000):
        with deployed.fleet.visit(Report(f"pod-{number}", "worker", deployed.version, "", False, "a")):
            pass
    deployed.report()
    status = deployed.fleet.status()
    for _ in range(50):
        deployed.report(complete_for=1.0, parse_seconds={"total": 3.0})
        assert deployed.fleet.status() is status
