"""Other servers get what changed since they asked last, in pages, and nothing twice."""

import math
from types import SimpleNamespace

import pytest

from dagferry_server.fleet.fleet import Fleet
from dagferry_server.fleet.merge import Heard
from dagferry_server.fleet.report_body import ReportBody
from dagferry_server.fleet.reporters import Reported, reported
from dagferry_server.fleet.sidecars import Offer, Report, Sidecar, next_revision
from dagferry_server.fleet.status import Facts
from dagferry_server.peers import journal as module
from dagferry_server.peers.journal import Journal

NOW = 1000.0


def report(name: str, *, deregister: bool = False) -> Report:
    return Report(name, "worker", "v1", "", deregister, "a", "log")


class Told:
    """A journal of one deployment."""

    def __init__(self) -> None:
        self.now = NOW
        self.deployments = {}
        self.left: dict[str, Heard] = {}
        self.add("prod")
        self.journal = Journal(self.deployments, self.left, lambda: self.now)
        self.fleet = self.deployments["prod"].fleet
        self.fleet.sidecars.elsewhere = lambda _: None

    def add(self, name: str) -> None:
        facts = Facts(name, "log", "v1", 1, 1, lambda _: "v1", "", {}, 60)
        fleet = Fleet(name, lambda: facts, clock=lambda: self.now)
        self.deployments[name] = SimpleNamespace(name=name, log_id="log", highest=1, fleet=fleet)

    def names(self, page) -> list[str]:
        return [pod.instance for news in page.deployments.values() for pod in news.pods]


@pytest.fixture
def told() -> Told:
    return Told()


async def test_only_what_changed_is_told(told) -> None:
    told.fleet.sidecars.record(report("a"), NOW)
    first = told.journal.since(0)
    assert (told.names(first), first.more, list(first.deployments)) == (["a"], False, ["prod"])
    assert told.journal.since(first.revision).deployments == {}
    told.fleet.sidecars.record(report("b"), NOW)
    second = told.journal.since(first.revision)
    assert told.names(second) == ["b"]
    assert told.names(told.journal.since(first.revision)) == ["b"], "an answer may be lost"
    assert sorted(told.names(told.journal.since(0))) == ["a", "b"]


async def test_offers_waits_and_ends_are_changes(told) -> None:
    with told.fleet.visit(report("a")) as visit:
        page = told.journal.since(0)
        assert page.deployments["prod"].pods[0].is_open
        visit.offer(Offer("log", "v1"))
        offered = told.journal.since(page.revision)
        assert offered.deployments["prod"].offers == [("log", "v1")]
        assert (offered.deployments["prod"].pods[0].offered, offered.deployments["prod"].pods[0].confirmed) == (0, -1)
    ended = told.journal.since(offered.revision)
    assert not ended.deployments["prod"].pods[0].is_open
    told.now += 5.5
    told.fleet.sidecars.record(report("a", deregister=True), told.now)
    told.fleet.sidecars.record(report("nobody", deregister=True), told.now)
    rows = told.journal.since(ended.revision).deployments["prod"].ended
    assert [(row.instance, row.at, row.came) for row in rows] == [("a", 0.0, 5.5), ("nobody", 0.0, None)]


async def test_many_pods_come_in_pages(told, monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 3)
    for number in range(8):
        told.fleet.sidecars.record(report(str(number)), NOW)
    found, revision, pages = [], 0, 0
    while True:
        page = told.journal.since(revision)
        found += told.names(page)
        revision, pages = page.revision, pages + 1
        if not page.more:
            break
        assert len(told.names(page)) == 3
    assert (found, pages) == ([str(number) for number in range(8)], 3)


async def test_what_is_known_of_a_deployment_is_told_when_it_changes(told) -> None:
    page = told.journal.since(0)
    assert page.deployments["prod"].heard_in == told.fleet.all_heard_at - NOW
    told.deployments["prod"].highest = 2
    page = told.journal.since(page.revision)
    assert (page.deployments["prod"].head, page.deployments["prod"].pods) == (2, [])
    before = page.deployments["prod"].generation
    told.fleet.forget()
    assert told.journal.since(page.revision).deployments["prod"].generation > before


async def test_a_deployment_that_is_gone_is_told_until_it_is_back(told, monkeypatch) -> None:
    page = told.journal.since(0)
    del told.deployments["prod"]
    assert told.journal.since(page.revision).gone == ["prod"]
    told.add("prod")
    again = told.journal.since(page.revision)
    assert (again.gone, list(again.deployments)) == ([], ["prod"])
    monkeypatch.setattr(module, "MAX_GONE", 1)
    for name in ("one", "two"):
        told.add(name)
        told.journal.since(0)
        del told.deployments[name]
        told.journal.since(0)
    assert told.journal.since(0).gone == ["two"]


async def test_pods_of_a_server_that_is_gone_are_told_unless_this_one_has_heard_them_since(told) -> None:
    left = told.left["prod"] = Heard(is_left=True)
    for name in ("a", "b"):
        pod = left.known[name, "a"] = Sidecar(report(name), NOW)
        pod.revision = 1
    told.fleet.sidecars.record(report("a"), NOW + 1)
    names = told.names(told.journal.since(0))
    assert sorted(names) == ["a", "b"]
    assert math.isclose(told.journal.since(0).deployments["prod"].pods[0].reported, 0.0)


async def test_a_pod_that_has_moved_is_told_once_as_it_was_heard_last(told) -> None:
    left = told.left["prod"] = Heard(is_left=True)
    with told.fleet.visit(report("a")):
        told.now += 5
        left.known["a", "a"] = pod = Sidecar(report("a")._replace(error="no_space: full"), told.now)
        pod.revision = next_revision()
    [row] = told.journal.since(0).deployments["prod"].pods  # the wait on this server has ended only now
    assert (row.error, row.reported, row.first_seen) == ("no_space: full", 0.0, 5.0)


def said(instance: str, now: float = NOW, trace: str = "", **more: object) -> Reported:
    parsed = {"version": "v1", "sequence": 1, "digest": "d", "files": 1, "recorded": 1, "complete_for": 4.0}
    parsed["errors"] = [{"path": "a.py", "trace": trace}] if trace else []
    body = {"instance": instance, "id": "0" * 32, "component": "bundle", "log_id": "log", "parsed": parsed, **more}
    return reported(ReportBody.model_validate(body), now, 1_800_000_000.0)


def reports(page) -> list[str]:
    return [row.instance for news in page.deployments.values() for row in news.reports]


async def test_what_was_reported_of_airflow_is_told_each_time_it_is_heard(told) -> None:
    told.fleet.reporters.record(said("a"))
    told.now = NOW + 1
    first = told.journal.since(0)
    [row] = first.deployments["prod"].reports
    assert (row.instance, row.heard, row.came, row.complete, row.complete_at) == ("a", 1.0, 1.0, 5.0, 1_799_999_996.0)
    assert told.journal.since(first.revision).deployments == {}
    told.fleet.reporters.record(said("a", NOW + 1))
    assert reports(told.journal.since(first.revision)) == ["a"], "the others have to know that it was heard"


async def test_who_left_is_told_and_what_others_told_is_not(told) -> None:
    told.fleet.reporters.record(said("a", leaving=True))
    told.fleet.reporters.hear(said("b")._replace(own=False))
    [row] = told.journal.since(0).deployments["prod"].reports
    assert (row.instance, row.left) == ("a", True)


async def test_long_reports_take_the_place_of_several_pods(told, monkeypatch) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 4)
    told.fleet.sidecars.record(report("pod"), NOW)
    told.fleet.reporters.record(said("long", trace="x" * 4000))
    told.fleet.reporters.record(said("short"))
    first = told.journal.since(0)
    assert (told.names(first), reports(first), first.more) == (["pod"], ["long"], True)
    second = told.journal.since(first.revision)
    assert (told.names(second), reports(second), second.more) == ([], ["short"], False)
    monkeypatch.setattr(module, "MAX_ROWS", 1)
    assert reports(told.journal.since(told.journal.since(0).revision)) == ["long"], "one that is longer than a page"


async def test_how_many_trees_tasks_use_is_told_by_the_place_of_the_pod(told) -> None:
    told.fleet.sidecars.record(report("a"), NOW)
    told.fleet.sidecars.record(report("b")._replace(in_use=2), NOW)
    news = told.journal.since(0).deployments["prod"]
    assert [(news.pods[place].instance, number) for place, number in news.in_use] == [("b", 2)]
