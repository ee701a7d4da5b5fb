"""What several servers heard, merged: the same as if one server had heard all of it."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from dagferry_core.names import make_version
from dagferry_server.fleet.merge import Heard, Others, merged
from dagferry_server.fleet.sidecars import (
    LOST_AFTER_SECONDS,
    LOST_SHOWN_SECONDS,
    Ended,
    Offer,
    Report,
    Sidecar,
    Sidecars,
)
from dagferry_server.fleet.status import Facts, judge

VERSIONS = {number: make_version(1_800_000_000 + number, number) for number in range(1, 6)}
NAMES, VOLUMES, SERVERS = ("worker-0", "worker-1", "scheduler-0"), ("", "a", "b"), 3

pods = st.tuples(st.sampled_from(NAMES), st.sampled_from(VOLUMES))
events = st.lists(
    st.tuples(
        st.sampled_from(["report", "report", "report", "offer", "end", "deploy", "wait"]),
        pods,
        st.integers(0, SERVERS - 1),
        st.integers(0, 5),
        st.sampled_from(["", "", "sync_failed: no"]),
    ),
    max_size=40,
)


class Quiet(Sidecars):
    """Sidecars whose reports are not logged, for which there would have to be an event loop."""

    def _log(self, *_: object, **__: object) -> None:
        pass


class World:
    """Servers that hear from pods, and tell each other everything at once after each event."""

    def __init__(self, number: int) -> None:
        self.own = [Quiet("prod") for _ in range(number)]
        for place, sidecars in enumerate(self.own):
            if number > 1:
                sidecars.elsewhere = lambda key, place=place: self.elsewhere(place, key)

    def elsewhere(self, place: int, key):
        found = [other.known[key] for number, other in enumerate(self.own) if number != place and key in other.known]
        return max(found, key=lambda pod: pod.reported, default=None)

    def tell(self) -> None:
        for sidecars in self.own:
            for other in self.own:
                if other is not sidecars:
                    for ended in other.ended:
                        sidecars.end_elsewhere(ended)

    def heard_by(self, place: int) -> list[Heard]:
        return [heard_of(other) for number, other in enumerate(self.own) if number != place]


def heard_of(sidecars: Sidecars) -> Heard:
    heard = Heard()
    heard.known = dict(sidecars.known)
    for ended in sidecars.ended:
        heard.end(ended)
    return heard


def report(pod, live: int, error: str, *, deregister: bool = False) -> Report:
    name, volume = pod
    return Report(name, name[:-2], VERSIONS.get(live, ""), error, deregister, volume, "log" if live else "")


def status_of(sidecars, ended, head: int, became, *, now: float, expected):
    version = VERSIONS.get(head, "")
    facts = Facts("prod", "log", version, head, head, VERSIONS.get, "", expected, 60, became=became, ended=ended)
    return judge(facts, sidecars, now)


def shown(status):
    """All of a status but the pods that are lost for so long that they are forgotten at any moment."""
    return status.state, status.reason, status.pods


@settings(max_examples=300, deadline=None)
@given(events, st.dictionaries(st.sampled_from(["worker", "scheduler"]), st.integers(0, 3)))
def test_whichever_server_hears_what_all_show_what_one_server_would(happened, expected) -> None:
    one, several = World(1), World(SERVERS)
    now, head, became = 1000.0, 1, [(1, 1000.0)]
    for kind, pod, place, number, error in happened:
        now += 1.0
        if kind == "deploy" and head < max(VERSIONS):
            head += 1
            became.append((head, now))
        elif kind == "wait":
            now += 20.0 * number
        elif kind in {"report", "end"}:
            heard = report(pod, min(number, head), error, deregister=kind == "end")
            one.own[0].record(heard, now)
            several.own[place].record(heard, now)
        elif kind == "offer":
            offer = Offer("log", VERSIONS[head])
            if known := one.own[0].known.get(pod):
                known.offered = offer
                there = [sidecars.known[pod] for sidecars in several.own if pod in sidecars.known]
                max(there, key=lambda each: each.reported).offered = offer  # the server that it asked last answers
        several.tell()
        for sidecars in (*one.own, *several.own):
            sidecars.forget_lost(now)
        wanted = status_of(one.own[0].known.values(), one.own[0].ended, head, became, now=now, expected=expected)
        for mine, own in enumerate(several.own):
            found, ended = merged(own, several.heard_by(mine), now)
            got = status_of(found, ended, head, became, now=now, expected=expected)
            assert shown(got) == shown(wanted), (mine, kind, pod, place)


@settings(max_examples=200, deadline=None)
@given(events, st.randoms(use_true_random=False))
def test_the_order_of_the_servers_and_repeated_news_make_no_difference(happened, chance: random.Random) -> None:
    several = World(SERVERS)
    now = 1000.0
    for kind, pod, place, number, error in happened:
        now += 5.0
        if kind in {"report", "end"}:
            several.own[place].record(report(pod, number, error, deregister=kind == "end"), now)
    heard = several.heard_by(0)
    found, ended = merged(several.own[0], heard, now)
    shuffled = [*heard, *several.heard_by(0)]
    chance.shuffle(shuffled)
    again, ended_again = merged(several.own[0], shuffled, now)
    wanted = status_of(found, ended, 5, [(1, 0.0)], now=now, expected={"worker": 2})
    assert shown(status_of(again, ended_again, 5, [(1, 0.0)], now=now, expected={"worker": 2})) == shown(wanted)


def test_a_pod_that_deregistered_where_nobody_knew_it_is_gone_and_replaced_everywhere() -> None:
    several = World(2)
    several.own[0].record(report(("worker-0", "a"), 1, ""), 1000.0)
    several.own[1].record(report(("worker-0", "a"), 1, "", deregister=True), 1001.0)
    for mine in (0, 1):
        found, ended = merged(several.own[mine], several.heard_by(mine), 1002.0)
        assert found == []
        assert [(one.component, one.came) for one in ended] == [("worker", 1000.0)]
    # A pod that nobody ever heard of has no replacement on its way.
    several.own[1].record(report(("made-up-0", "b"), 1, "", deregister=True), 1003.0)
    assert len(merged(several.own[0], several.heard_by(0), 1004.0)[1]) == 1


def test_an_older_end_does_not_remove_a_pod_that_came_back_elsewhere() -> None:
    several = World(2)
    several.own[0].record(report(("worker-0", "a"), 1, ""), 1000.0)
    several.own[0].record(report(("worker-0", "a"), 1, "", deregister=True), 1001.0)
    several.own[1].record(report(("worker-0", "a"), 1, ""), 1002.0)
    several.tell()
    found, _ = merged(several.own[0], several.heard_by(0), 1003.0)
    assert [pod.reported for pod in found] == [1002.0]


def test_another_server_that_knows_a_newer_deploy_or_another_log_is_right() -> None:
    others = Others(heads=[("log", 3), ("", 0)])
    assert others.disagree("prod", "log", 3) == ""
    assert "knows deploy 3 of prod" in others.disagree("prod", "log", 2)
    assert "another log id" in others.disagree("prod", "new log", 3)


def test_what_is_lost_for_long_is_forgotten() -> None:
    heard = Heard()
    heard.known["worker-0", "a"] = Sidecar(report(("worker-0", "a"), 1, ""), 1000.0)
    heard.end(Ended("worker", 1000.0, 900.0, ("worker-1", "a"), "1"))
    forgotten_at = 1000.0 + LOST_AFTER_SECONDS + LOST_SHOWN_SECONDS
    heard.forget(forgotten_at - 1)
    assert list(heard.known) == [("worker-0", "a")]
    assert merged(Quiet("prod"), [heard], forgotten_at)[0] == []
    heard.forget(forgotten_at)
    assert heard.known == {}
    assert heard.ends
    heard.forget(1000.0 + 2 * LOST_SHOWN_SECONDS)
    assert (heard.ended, heard.ends) == ({}, {})


def test_a_pod_that_came_to_a_server_before_the_news_of_it_is_as_old_as_it_is() -> None:
    several = [Quiet("prod"), Quiet("prod")]
    several[0].record(report(("worker-0", "a"), 1, ""), 1000.0)
    several[1].record(report(("worker-0", "a"), 2, ""), 1001.0)
    several[0].known["worker-0", "a"].open = 1  # its old connection was not closed yet
    for mine, other in ((0, 1), (1, 0)):
        [pod], _ = merged(several[mine], [heard_of(several[other])], 1002.0)
        assert (pod.first_seen, pod.reported, pod.live, pod.open) == (1000.0, 1001.0, VERSIONS[2], 1)


def test_an_end_at_the_moment_of_the_last_report_removes_the_pod() -> None:
    several = World(2)
    several.own[0].record(report(("worker-0", "a"), 1, ""), 1000.0)
    several.own[1].record(report(("worker-0", "a"), 1, "", deregister=True), 1000.0)
    assert merged(several.own[0], several.heard_by(0), 1001.0)[0] == []


def test_an_end_removes_an_older_record_of_the_pod_and_no_newer_one() -> None:
    heard, pod = Heard(), ("worker-0", "a")
    heard.known[pod] = Sidecar(report(pod, 1, ""), 1000.0)
    heard.end(Ended("worker", 1000.0, 900.0, pod, "1"))
    assert heard.known == {}
    heard.known[pod] = Sidecar(report(pod, 1, ""), 1002.0)
    heard.end(Ended("worker", 1001.0, 900.0, pod, "2"))
    assert list(heard.known) == [pod]
