"""What another server says is kept on this server's clock, and what it said stays when it is gone."""

from types import SimpleNamespace

import pytest

from dagferry_server.fleet.fleet import Fleet
from dagferry_server.fleet.sidecars import LOST_AFTER_SECONDS, LOST_SHOWN_SECONDS, Report
from dagferry_server.fleet.status import Facts
from dagferry_server.peers.knowledge import Knowledge
from dagferry_server.peers.wire import News

ONE, OTHER = "1" * 32, "2" * 32
POD = ("worker-0", "a")


class Here:
    """A server that hears others. Its clock says 1,000 when theirs say 0."""

    def __init__(self) -> None:
        self.now = 1000.0
        facts = Facts("prod", "log", "v1", 1, 1, lambda _: "v1", "", {}, 60)
        self.fleet = Fleet("prod", lambda: facts, clock=lambda: self.now)
        self.deployments = {"prod": SimpleNamespace(name="prod", fleet=self.fleet)}
        self.knowledge = Knowledge(self.deployments, lambda: self.now)

    def hear(self, server: str = ONE, sent: float = 0.0, *, late: float = 0.0, **more: object) -> bool:
        self.now = 1000.0 + sent + late
        pods, ended = more.pop("pods", []), more.pop("ended", [])
        told = {"log_id": "log", "head": 1, "generation": 1, "heard_in": -50.0 - sent, "crowded_for": -1000.0 - sent}
        told |= {"pods": pods, "ended": ended, **more.pop("deployment", {})}
        news = {
            "server": server,
            "sent": sent,
            "revision": 1,
            "change": 1,
            "whole": True,
            "deployments": {"prod": told},
        }
        return self.knowledge.apply(News.model_validate({**news, **more}), self.now)

    @property
    def pods(self) -> dict:
        return {key: pod for heard in self.knowledge.others("prod", 2, 2, "").heard for key, pod in heard.known.items()}


def row(name: str = "worker-0", *, ago: float = 0.0, first: float = 9.0, is_open: bool = False, live: str = "v1"):
    return [name, "a", "worker", live, "log", "", -1, -1, ago, ago, first, is_open]


@pytest.fixture
def here() -> Here:
    return Here()


async def test_times_are_those_of_this_server_and_a_late_answer_changes_none(here) -> None:
    here.hear(pods=[row(ago=2.0)], full=True)
    assert (here.pods[POD].reported, here.pods[POD].first_seen) == (998.0, 991.0)
    here.hear(sent=10.0, late=5.0, pods=[row(ago=1.0)])
    assert here.pods[POD].reported == 1009.0, "the quickest answer tells the difference of the clocks"
    assert here.knowledge.others("prod", 2, 2, "").all_heard_at == 950.0


async def test_a_server_answers_when_it_has_told_all_and_again_after_a_failure(here) -> None:
    here.hear(pods=[row("a")], full=True, more=True)
    assert not here.knowledge.servers[ONE].answers
    here.hear(pods=[row("b")])
    server = here.knowledge.servers[ONE]
    assert (server.answers, server.since.revision, len(here.pods)) == (True, 1, 2)
    here.knowledge.failed(ONE)
    assert (server.answers, server.since, len(here.pods)) == (False, None, 2)
    here.hear(pods=[row("b")], full=True)
    assert server.answers
    assert list(here.pods) == [("b", "a")], "that was all"
    here.knowledge.failed("nobody")


async def test_a_pod_that_waits_on_a_server_that_fails_was_last_seen_with_its_last_answer(here) -> None:
    here.hear(sent=5.0, pods=[row(ago=4.0, is_open=True)], full=True)
    assert here.pods[POD].open == 1
    here.knowledge.failed(ONE)
    assert (here.pods[POD].open, here.pods[POD].seen) == (0, 1005.0)


async def test_a_server_that_leaves_leaves_its_pods(here) -> None:
    here.hear(pods=[row(), row("worker-1")], ended=[["e1", "worker-2", "a", "worker", 1.0, 9.0]], full=True)
    here.hear(OTHER, pods=[], full=True)
    here.knowledge.leave(ONE)
    assert list(here.knowledge.servers) == [OTHER]
    left = here.knowledge.left["prod"]
    assert (len(left.known), list(left.ended), all(pod.revision for pod in left.known.values())) == (2, ["e1"], True)
    assert here.knowledge.newest("prod", POD) is left.known[POD]
    # Another server has heard one of them since, and this one the other.
    here.hear(OTHER, sent=20.0, pods=[row(first=29.0)])
    here.fleet.sidecars.record(Report("worker-1", "worker", "v1", "", False, "a", "log"), here.now)
    here.knowledge.forget()
    assert (left.known, list(left.ended)) == ({}, ["e1"])
    here.now += 2 * LOST_SHOWN_SECONDS
    here.knowledge.forget()
    assert here.knowledge.left == {}


async def test_what_is_lost_for_long_is_forgotten(here) -> None:
    here.hear(pods=[row()], full=True)
    here.now += LOST_AFTER_SECONDS + LOST_SHOWN_SECONDS
    here.knowledge.forget()
    assert here.pods == {}


async def test_nothing_said_before_is_true_in_another_generation(here) -> None:
    here.hear(pods=[row()], full=True)
    here.hear(deployment={"generation": 2})
    assert here.pods == {}
    here.hear(pods=[row()], deployment={"generation": 2})
    here.hear(deployments={}, gone=["prod"])
    assert here.pods == {}


async def test_an_end_elsewhere_removes_an_older_record_here_and_no_newer_one(here) -> None:
    here.fleet.sidecars.record(Report("worker-0", "worker", "v1", "", False, "a", "log"), 999.0)
    here.hear(ended=[["e1", "worker-0", "a", "worker", 2.0, None]], full=True)
    assert POD in here.fleet.sidecars.known, "it ended at 998"
    here.hear(ended=[["e2", "worker-0", "a", "worker", 0.5, None]])
    assert POD not in here.fleet.sidecars.known
    assert [(one.id, one.came) for one in here.fleet.sidecars.ended] == [("e2", 999.0)]


async def test_only_a_server_that_misses_none_has_heard_every_pod(here) -> None:
    here.hear(full=True, whole=False)
    assert here.knowledge.others("prod", 2, 2, "").all_heard_at == float("inf")
    here.hear(whole=True)
    assert here.knowledge.others("prod", 2, 2, "").all_heard_at == 950.0


async def test_a_pod_that_a_server_forgot_for_lack_of_room_may_be_there(here) -> None:
    here.hear(full=True, deployment={"crowded_for": 100.0})
    assert here.knowledge.others("prod", 2, 2, "").crowded_until == 1100.0


async def test_ages_alone_are_no_news(here) -> None:
    judged = []
    here.fleet.mark = lambda: judged.append(1)
    here.hear(pods=[row()], full=True)
    judged.clear()
    assert here.hear(sent=5.0, pods=[row(first=14.0)]) is False
    assert judged == []
    here.hear(sent=6.0, pods=[row(first=15.0, live="v0")])
    assert judged == [1]


async def test_how_many_trees_tasks_use_is_told_beside_the_rows_and_a_change_is_news(here) -> None:
    judged = []
    here.fleet.mark = lambda: judged.append(1)
    here.hear(pods=[row("worker-1"), row()], deployment={"in_use": [[1, 2], [7, 9]]}, full=True)
    assert (here.pods["worker-1", "a"].in_use, here.pods[POD].in_use) == (0, 2)
    judged.clear()
    here.hear(sent=1.0, pods=[row(first=10.0)], deployment={"in_use": [[0, 1]]})
    assert (here.pods[POD].in_use, judged) == (1, [1])


@pytest.mark.parametrize("where", ["here", OTHER])
async def test_a_pod_that_moves_back_and_says_what_it_said_there_before_is_judged_again(here, where) -> None:
    here.hear(pods=[row()], full=True)
    here.hear(OTHER, full=True)
    if where == "here":
        here.now += 2.0
        here.fleet.sidecars.record(Report("worker-0", "worker", "v1", "no_space: full", False, "a", "log"), here.now)
    else:
        here.hear(OTHER, sent=2.0, pods=[row(live="v0")])
    judged = []
    here.fleet.mark = lambda: judged.append(1)
    here.hear(sent=5.0, pods=[row(first=14.0)])
    assert judged == [1]


async def test_a_pod_that_was_lost_is_judged_again_when_it_is_back(here) -> None:
    here.hear(pods=[row()], full=True)
    judged = []
    here.fleet.mark = lambda: judged.append(1)
    here.hear(sent=LOST_AFTER_SECONDS, pods=[row()])
    assert judged == [1]


async def test_a_fleet_is_judged_again_when_another_server_has_forgotten_it(here) -> None:
    here.hear(pods=[row()], full=True)
    judged = []
    here.fleet.mark = lambda: judged.append(1)
    here.hear(deployments={}, gone=["prod"])
    assert judged == [1]


def reported(*, ago: float = 1.0, **more: object) -> dict[str, object]:
    parsed = {"version": "v1", "sequence": 1, "digest": "d", "files": 1, "recorded": 1}
    row = {"component": "bundle", "instance": "a", "id": "0" * 32, "log_id": "log", "heard": ago, "came": 9.0}
    return {**row, "complete": 4.0, "complete_at": 7.0, "parsed": parsed, **more}


async def test_what_was_reported_of_airflow_to_another_server_counts_here(here) -> None:
    here.hear(deployment={"reports": [reported()]})
    [said] = here.fleet.reporters.counting("log", here.now)
    assert (said.heard_at, said.came_at, said.complete_since, said.complete_at) == (999.0, 991.0, 996.0, 7.0)
    assert not said.own
    here.knowledge.leave(ONE)
    assert here.fleet.reporters.counting("log", here.now) == [said], "it counts as long as if it had been sent here"
    here.hear(OTHER, sent=1.0, deployment={"reports": [reported(ago=0.0, left=True)]})
    assert here.fleet.reporters.counting("log", here.now) == []


async def test_what_is_reported_of_a_deployment_that_is_not_known_yet_is_not_kept(here) -> None:
    here.deployments.clear()
    here.hear(deployment={"reports": [reported()]})
    assert here.fleet.reporters.known == {}
