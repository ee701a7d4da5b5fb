"""What one deployment knows of its import checks, and who is notified of a change."""

import asyncio

from dagferry_server.deploys.candidates import Candidate, Notes
from dagferry_server.deploys.checkers import AWAY_SECONDS, Greeting
from dagferry_server.deploys.checking import MAX_REFUSED, MAX_SHOWN_PROBLEMS, Checking, Refused
from dagferry_server.deploys.verdict import Problem, Verdict

ONE = Candidate("1" * 32, "", "sha256:" + "1" * 64, "ann", "", 1)


class Site:
    def __init__(self) -> None:
        self.now, self.marks = 1000.0, 0
        self.checking = Checking(self._mark, lambda: self.now)

    def _mark(self) -> None:
        self.marks += 1


async def test_another_candidate_wakes_checkers_and_deploys_and_the_status() -> None:
    site = Site()
    revision = site.checking.revision
    waits = [asyncio.create_task(waiters.wait(60)) for waiters in (site.checking.polls, site.checking.uploads)]
    await asyncio.sleep(0)
    site.checking.replace(Notes({}, {ONE.id: ONE}))
    assert await asyncio.gather(*waits) == [True, True]
    assert site.marks == 1
    assert site.checking.revision is not revision


def test_the_same_notes_change_nothing() -> None:
    site = Site()
    site.checking.replace(site.checking.notes)
    site.checking.replace(Notes({"x": 1.0}))
    assert site.marks == 0


def test_it_is_known_since_when_a_candidate_is_there() -> None:
    site = Site()
    site.checking.replace(Notes({}, {ONE.id: ONE}))
    site.now += 5
    site.checking.replace(Notes({}, {ONE.id: ONE}, {ONE.id: Verdict()}))
    assert site.checking.first_seen == {ONE.id: 1000.0}
    site.checking.replace(Notes())
    assert site.checking.first_seen == {}


def test_by_default_a_checker_makes_warnings_and_a_setting_wins() -> None:
    site = Site()
    assert site.checking.policy(None) == "off"
    with site.checking.checkers.visit(Greeting("a")):
        assert [site.checking.policy(wanted) for wanted in (None, "off", "block")] == ["warn", "off", "block"]


def test_a_checker_that_falls_silent_is_something_to_show() -> None:
    site = Site()
    with site.checking.checkers.visit(Greeting("a")):
        site.checking.recheck()
    marks = site.marks
    site.checking.recheck()
    assert site.marks == marks
    site.now += AWAY_SECONDS
    site.checking.recheck()
    assert (site.marks, site.checking.connected) == (marks + 1, 0)


def test_the_newest_refused_candidates_are_remembered_with_their_first_problems() -> None:
    site = Site()
    problems = [Problem(path=f"{number}.py", message="m", kind="import", new=True) for number in range(9)]
    for number in range(MAX_REFUSED + 3):
        site.checking.refuse(Refused("ann", number, problems))
    assert [each.created for each in site.checking.refused] == list(range(MAX_REFUSED + 2, 2, -1))
    assert len(site.checking.refused[0].problems) == MAX_SHOWN_PROBLEMS


async def test_nobody_waits_any_more_when_it_is_closed() -> None:
    site = Site()
    with site.checking.held():
        assert site.checking.waiting == 1
    wait = asyncio.create_task(site.checking.uploads.wait(60))
    await asyncio.sleep(0)
    site.checking.close()
    assert await wait
    assert not await site.checking.uploads.wait(60)


def test_a_bundle_is_needed_until_the_last_of_those_who_wait_for_it_is_done() -> None:
    checking = Site().checking
    with checking.needing(ONE.digest):
        assert checking.needed == {ONE.digest}
        with checking.needing(ONE.digest):
            pass
        assert checking.needed == {ONE.digest}
    assert checking.needed == set()
