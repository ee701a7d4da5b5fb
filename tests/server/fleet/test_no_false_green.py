"""Whatever pods do and however they end, a fleet is never HEALTHY while one of its pods lacks the newest deploy."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dagferry_core.names import make_version
from dagferry_server.fleet.fleet import Fleet
from dagferry_server.fleet.sidecars import LOST_AFTER_SECONDS, LOST_SHOWN_SECONDS, Offer, Report, Sidecars
from dagferry_server.fleet.status import Facts, PodState, State

LONGEST_WAIT = 50.0
MAX_PODS = 5
NAMES = ("scheduler-0", "worker-0")
CLAIMS = ("above", "other log", "guessed", "nonsense")


class Pod:
    """A pod as it really is: ``live`` is the deploy it has, ``heard`` is when it last sent something or was answered.

    One of an older release has no ``volume``, and does not say of which log its version is.
    """

    def __init__(self, name: str, volume: str, now: float) -> None:
        self.name = name
        self.volume = volume
        self.live: Offer | None = None
        self.offered: Offer | None = None
        self.error = ""
        self.liar = False
        self.polls = True
        """Whether it still asks: else it is hung, or was killed."""
        self.heard = now
        self.heard_by: Fleet | None = None


class Log(NamedTuple):
    log_id: str
    versions: dict[int, str]


class AnyFleet(RuleBasedStateMachine):
    """A server, its log, and pods. Time is the test's."""

    @initialize(deploys=st.integers(0, 2))
    def start(self, deploys: int) -> None:
        self.now = 1000.0
        self.logs = 0
        self.volumes = 0
        self.pods: list[Pod] = []
        self.new_log()
        for _ in range(deploys):
            self.deploy()

    # --- the server --------------------------------------------------------------------------------------------------

    def new_log(self) -> None:
        """Another log whose versions may have the same names."""
        self.logs += 1
        self.log = Log(f"log-{self.logs}", {})
        self.run()

    def run(self) -> None:
        self.fleet = Fleet("prod", self.facts, clock=lambda: self.now)
        self.fleet.opened_log(self.head)
        self.started = self.now

    @property
    def head(self) -> int:
        return max(self.log.versions, default=0)

    @property
    def current(self) -> Offer | None:
        return Offer(self.log.log_id, self.log.versions[self.head]) if self.head else None

    def facts(self) -> Facts:
        version = self.log.versions.get(self.head, "")
        return Facts("prod", self.log.log_id, version, self.head, self.head, self.log.versions.get, "", {}, 60)

    @rule()
    def deploy(self) -> None:
        sequence = self.head + 1
        self.log.versions[sequence] = make_version(1_800_000_000 + sequence, sequence)
        self.fleet.deployed(sequence)

    @rule()
    def restart_the_server(self) -> None:
        self.run()
        for pod in self.pods:
            pod.offered = None

    @rule(deploys=st.integers(0, 2))
    def lose_the_log(self, deploys: int) -> None:
        self.new_log()
        for pod in self.pods:
            pod.offered = None
        for _ in range(deploys):
            self.deploy()

    # --- pods --------------------------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES), is_old=st.booleans())
    def add_a_pod(self, name: str, is_old: bool) -> None:
        if is_old and any((pod.name, pod.volume) == (name, "") for pod in self.pods):
            return  # two such pods of one name cannot be told apart
        if len(self.pods) < MAX_PODS:
            self.volumes += 1
            self.pods.append(Pod(name, "" if is_old else f"{self.volumes:032x}", self.now))
            self.ask(self.pods[-1])

    def ask(self, pod: Pod, claim: str | None = None, *, deregister: bool = False) -> None:
        live = claim if claim is not None else pod.live.version if pod.live else ""
        log_id = pod.live.log_id if pod.live and pod.volume and claim is None else ""
        report = Report(pod.name, "worker", live, pod.error, deregister, pod.volume, log_id)
        with self.fleet.visit(report) as visit:
            if self.current and not deregister:
                visit.offer(self.current)
                pod.offered = self.current
        pod.heard, pod.heard_by = self.now, self.fleet
        if not pod.volume and not pod.error and not pod.liar:
            # What an older release says counts because a sidecar applies what it is offered, or reports an error.
            pod.live = pod.offered or pod.live

    def following(self) -> Iterator[Pod]:
        return (pod for pod in self.pods if pod.polls and not pod.liar)

    @rule(data=st.data())
    def follow(self, data: st.DataObject) -> None:
        """A pod asks, and applies what it was offered; it says so, or it is killed before it can."""
        if found := list(self.following()):
            pod = data.draw(st.sampled_from(found))
            self.ask(pod)
            if not pod.error:
                pod.live = pod.offered
            if data.draw(st.booleans()):
                self.ask(pod)

    @rule()
    def all_follow(self) -> None:
        for pod in self.following():
            self.ask(pod)
            if not pod.error:
                pod.live = pod.offered
            self.ask(pod)

    @rule(data=st.data())
    def fail_or_recover(self, data: st.DataObject) -> None:
        if found := list(self.following()):
            pod = data.draw(st.sampled_from(found))
            pod.error = "" if pod.error else "volume_failed: full"
            self.ask(pod)

    @rule(data=st.data(), kind=st.sampled_from(CLAIMS))
    def lie(self, data: st.DataObject, kind: str) -> None:
        """A pod that has nothing claims what it was never offered."""
        if not self.pods:
            return
        pod = data.draw(st.sampled_from(self.pods))
        guessed = self.current is not None and pod.offered != self.current
        claim = {
            "above": make_version(1_900_000_000, self.head + 7),
            "other log": make_version(1_700_000_000, max(self.head, 1)),
            "guessed": self.current.version if self.current and guessed else "junk",
            "nonsense": "junk",
        }[kind]
        pod.liar, pod.polls, pod.live = True, True, None
        self.ask(pod, claim)

    @rule(data=st.data())
    def hang_or_kill(self, data: st.DataObject) -> None:
        if self.pods:
            data.draw(st.sampled_from(self.pods)).polls = False

    @rule(data=st.data())
    def say_goodbye(self, data: st.DataObject) -> None:
        if self.pods:
            pod = data.draw(st.sampled_from(self.pods))
            self.pods.remove(pod)
            self.ask(pod, deregister=True)

    @rule(data=st.data())
    def restart_a_container(self, data: st.DataObject) -> None:
        if self.pods:
            pod = data.draw(st.sampled_from(self.pods))
            pod.polls, pod.liar, pod.error = True, False, ""
            self.ask(pod)

    # --- time --------------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from((1.0, 30.0, LOST_AFTER_SECONDS, 200.0, LOST_SHOWN_SECONDS)))
    def wait(self, seconds: float) -> None:
        """Those that poll go on asking; each request waits for a while."""
        end = self.now + seconds
        while self.now < end:
            for pod in self.pods:
                if pod.polls:
                    self.ask(pod, claim="junk" if pod.liar else None)
            self.now = min(end, self.now + LONGEST_WAIT)
            self.green_is_true()

    # --- the promise -------------------------------------------------------------------------------------------------

    @invariant()
    def green_is_true(self) -> None:
        if not hasattr(self, "fleet"):
            return
        status = self.fleet.status()
        if status.state is not State.HEALTHY:
            return
        assert self.current is not None
        assert status.pods
        assert self.now - self.started >= LOST_AFTER_SECONDS
        assert all(pod.state is PodState.LIVE for pod in status.pods)
        for pod in self.pods:
            silent = self.now - pod.heard
            forgotten = silent >= LOST_AFTER_SECONDS + LOST_SHOWN_SECONDS
            if forgotten or (pod.heard_by is not self.fleet and not pod.polls):  # nobody knows it
                continue
            assert silent < LOST_AFTER_SECONDS, "it is lost"
            assert not pod.error
            assert pod.live == self.current, "it does not have it"

    @precondition(lambda self: hasattr(self, "fleet"))
    @rule()
    def green_is_reached(self) -> None:
        """Once every pod works and follows, it is green: a status that never is would keep the promise, too."""
        if not self.pods:
            return
        if not self.head:
            self.deploy()
        for pod in self.pods:
            pod.polls, pod.liar, pod.error = True, False, ""
        self.wait(LOST_AFTER_SECONDS + LOST_SHOWN_SECONDS + 1)
        self.all_follow()
        status = self.fleet.status()
        assert status.state is State.HEALTHY, status


def test_green_is_true_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sidecars, "_log", lambda *_, **__: None)  # it needs an event loop
    run_state_machine_as_test(AnyFleet, settings=settings(max_examples=300, stateful_step_count=25, deadline=None))
