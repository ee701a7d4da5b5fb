"""A fleet: who is present, when its status is judged again, and who is told."""

import asyncio
import logging

import pytest

from dagferry_core.names import make_version
from dagferry_server.fleet import fleet as module
from dagferry_server.fleet.fleet import MAX_BECAME, Change, Fleet, Visit
from dagferry_server.fleet.sidecars import LOST_AFTER_SECONDS, LOST_SHOWN_SECONDS, Offer, Report
from dagferry_server.fleet.status import Facts, State
from running import eventually

PODS = 1000
START = 1000.0


def version(sequence: int) -> str:
    return make_version(1_800_000_000 + sequence, sequence) if sequence else ""


class Deployed:
    """A deployment with deploys, a fleet, and a monotonic clock that the test sets."""

    def __init__(self, sequence: int = 0, **changes: object) -> None:
        self.now = START
        self.sequence = sequence
        self.changes = changes
        self.known = {number: version(number) for number in range(1, 2 * MAX_BECAME)}
        self.fleet = Fleet("prod", self._facts, clock=lambda: self.now)
        self.fleet.opened_log(sequence)
        self.now += LOST_AFTER_SECONDS

    def _facts(self) -> Facts:
        facts = Facts("prod", "log", version(self.sequence), self.sequence, self.sequence, self._version, "", {}, 60)
        return facts._replace(**self.changes)

    def _version(self, sequence: int) -> str | None:
        return self.known.get(sequence)

    @property
    def offer(self) -> Offer:
        return Offer("log", version(self.sequence))

    def deploy(self) -> None:
        self.sequence += 1
        self.fleet.deployed(self.sequence)

    def ask(self, instance: str = "pod-0", live: int | None = None, volume: str = "a", error: str = "") -> None:
        """Ask as a sidecar does that has ``live``, and be told of the newest deploy."""
        with self.fleet.visit(report(instance, live, volume, error)) as visit:
            visit.offer(self.offer)

    def follow(self, instance: str = "pod-0", volume: str = "a") -> None:
        """Ask, apply, and say so."""
        self.ask(instance, volume=volume)
        self.ask(instance, self.sequence, volume)

    @property
    def state(self) -> State:
        return self.fleet.status().state


def report(instance: str, live: int | None, volume: str = "a", error: str = "", *, deregister: bool = False) -> Report:
    return Report(instance, "worker", version(live or 0), error, deregister, volume)


class Told:
    """What a listener was told."""

    def __init__(self, fleet: Fleet) -> None:
        self.changes: list[Change] = []
        fleet.listen(self.changes.append)

    @property
    def states(self) -> list[State]:
        return [change.after.state for change in self.changes]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COALESCE_SECONDS", 0.01)


# --- evidence --------------------------------------------------------------------------------------------------------


async def test_a_pod_is_live_when_it_says_so_after_the_offer() -> None:
    deployed = Deployed(1)
    assert deployed.state is State.UNKNOWN
    deployed.ask(live=1)
    assert deployed.state is State.DEPLOYING, "it could have made that up"
    deployed.ask(live=1)
    assert deployed.state is State.HEALTHY
    deployed.deploy()
    assert deployed.state is State.DEPLOYING
    deployed.ask(live=1)
    assert deployed.state is State.DEPLOYING
    deployed.ask(live=2)
    assert deployed.state is State.HEALTHY


async def test_who_claims_what_it_was_not_offered_must_be_offered_it() -> None:
    deployed = Deployed(1)
    with deployed.fleet.visit(report("pod-0", 1)) as visit:
        assert visit.must_be_offered(deployed.offer)
        assert not visit.must_be_offered(Offer("log", version(2))), "it does not claim that one"
        visit.offer(deployed.offer)
        assert not visit.must_be_offered(deployed.offer)
        assert visit.must_be_offered(Offer("another log", version(1)))
    anybody = Visit(None)
    assert not anybody.must_be_offered(deployed.offer)
    anybody.offer(deployed.offer)


async def test_a_pod_that_ends_may_be_replaced_for_a_while_unless_its_deployment_was_deleted() -> None:
    deployed = Deployed(1, expected={"worker": 2})
    deployed.follow("pod-0")
    assert deployed.state is State.DEGRADED, "the other one never came"
    deployed.follow("pod-1")
    assert deployed.state is State.HEALTHY
    with deployed.fleet.visit(report("pod-1", 1, deregister=True)):
        pass
    assert deployed.state is State.DEPLOYING
    deployed.now += 59
    deployed.ask(live=1)
    assert deployed.state is State.DEPLOYING
    deployed.follow("pod-1", volume="b")
    assert deployed.state is State.HEALTHY
    with deployed.fleet.visit(report("pod-1", 1, "b", deregister=True)):
        pass
    deployed.now += 60
    deployed.ask(live=1)
    assert deployed.state is State.DEGRADED
    with deployed.fleet.visit(report("pod-0", 1, deregister=True)):
        pass
    deployed.fleet.forget()
    assert deployed.fleet.status().reason == "0 of 2 expected pods of worker are there."


async def test_a_pod_is_present_while_it_waits_and_lost_a_while_after_it_has_gone() -> None:
    deployed = Deployed(1)
    deployed.follow()
    with deployed.fleet.visit(report("pod-0", 1)), deployed.fleet.visit(report("pod-0", 1)):
        deployed.now += 500
        assert deployed.state is State.HEALTHY
    deployed.now += LOST_AFTER_SECONDS - 1
    assert deployed.state is State.HEALTHY
    deployed.now += 1
    assert deployed.fleet.status()[:2] == (State.DEGRADED, "pod-0 has vanished without deregistering.")
    deployed.now += LOST_SHOWN_SECONDS - 1
    assert deployed.state is State.DEGRADED
    deployed.now += 1
    assert deployed.fleet.status()[:2] == (State.UNKNOWN, "No pod follows prod, as far as this server knows.")


async def test_a_pod_whose_request_fails_was_heard_all_the_same() -> None:
    deployed = Deployed(1)
    with pytest.raises(RuntimeError), deployed.fleet.visit(report("pod-0", 1)):
        raise RuntimeError
    (sidecar,) = deployed.fleet.sidecars.known.values()
    assert sidecar.open == 0


async def test_a_goodbye_counts_though_an_earlier_request_of_the_pod_ends_later() -> None:
    deployed = Deployed(1)
    deployed.follow("pod-0")
    deployed.follow("pod-1")
    with deployed.fleet.visit(report("pod-1", 1)):
        with deployed.fleet.visit(report("pod-1", 1, deregister=True)) as visit:
            visit.offer(deployed.offer)
        assert [pod.instance for pod in deployed.fleet.status().pods] == ["pod-0"]
    assert [pod.instance for pod in deployed.fleet.status().pods] == ["pod-0"]
    assert deployed.state is State.HEALTHY


async def test_a_restarted_container_is_the_same_pod_and_a_replaced_one_is_another() -> None:
    deployed = Deployed(1)
    deployed.follow(volume="a")
    deployed.follow(volume="a")
    assert len(deployed.fleet.status().pods) == 1
    deployed.follow(volume="b")
    assert len(deployed.fleet.status().pods) == 2
    deployed.deploy()
    deployed.ask(live=1, volume="a")
    deployed.follow(volume="b")
    assert deployed.fleet.status().reason == f"pod-0 (a) has not reported {version(2)} as live yet."


async def test_for_a_full_wait_after_the_start_it_is_not_known_who_there_is() -> None:
    deployed = Deployed(1)
    deployed.now = START
    deployed.follow()
    assert deployed.state is State.UNKNOWN
    deployed.now = START + LOST_AFTER_SECONDS - 0.1
    deployed.follow()
    assert deployed.state is State.UNKNOWN
    deployed.now += 0.1
    assert deployed.state is State.HEALTHY
    deployed.fleet.open()
    assert deployed.state is State.UNKNOWN, "it begins again"
    deployed.fleet.first_of_all()
    assert deployed.state is State.HEALTHY


async def test_forgetting_for_lack_of_room_is_never_green(monkeypatch) -> None:
    monkeypatch.setattr("dagferry_server.fleet.sidecars.MAX_SIDECARS", 2)
    deployed = Deployed(1)
    deployed.ask("behind", 0)
    for name in ("a", "b"):
        deployed.follow(name)
    assert "behind" not in [pod.instance for pod in deployed.fleet.status().pods]
    assert deployed.state is State.UNKNOWN


# --- when it is judged -----------------------------------------------------------------------------------------------


async def test_a_status_is_judged_again_only_if_something_changed_or_a_second_has_passed() -> None:
    deployed = Deployed(1)
    deployed.follow()
    status = deployed.fleet.status()
    assert deployed.fleet.shown is status
    deployed.ask(live=1)
    assert deployed.fleet.status() is status
    deployed.now += 1
    assert deployed.fleet.status() is not status
    status = deployed.fleet.status()
    deployed.changes["converge_seconds"] = 61
    assert deployed.fleet.status() is not status


async def test_a_fault_or_a_moment_that_passes_is_never_hidden_by_what_was_judged_before() -> None:
    deployed = Deployed(1)
    deployed.follow()
    assert deployed.state is State.HEALTHY
    deployed.changes.update(fault="The disk is away.", version="", sequence=0)
    assert deployed.state is State.UNKNOWN
    deployed.changes.clear()
    assert deployed.state is State.HEALTHY
    deployed.now += LOST_AFTER_SECONDS - 0.5
    assert deployed.state is State.HEALTHY
    deployed.now += 0.5
    assert deployed.state is State.DEGRADED


async def test_the_times_of_deploys_are_bounded() -> None:
    deployed = Deployed(1)
    for _ in range(MAX_BECAME + 10):
        deployed.now += 1
        deployed.deploy()
    assert len(deployed.fleet.became) == MAX_BECAME
    assert deployed.fleet.became[-1] == (MAX_BECAME + 11, deployed.now)
    deployed.fleet.deployed(5)
    assert deployed.fleet.became[-1] == (MAX_BECAME + 11, deployed.now), "an older one never becomes the newest"


# --- who is told -----------------------------------------------------------------------------------------------------


async def test_a_listener_is_told_each_change_of_the_state_once(caplog) -> None:
    deployed = Deployed(0)
    told = Told(deployed.fleet)
    await eventually("the first status", lambda: told.states == [State.EMPTY])
    deployed.deploy()
    await eventually("no pod", lambda: told.states[-1] is State.UNKNOWN)
    deployed.follow()
    await eventually("health", lambda: told.states[-1] is State.HEALTHY)
    assert told.changes[-1].before.state is State.UNKNOWN
    deployed.ask(live=1, error="e: 1")
    await eventually("the error", lambda: told.states[-1] is State.DEGRADED)
    assert told.changes[-1].after.reason == "pod-0 reports an error: e: 1."
    deployed.ask(live=1)
    await eventually("its end", lambda: told.states[-1] is State.HEALTHY)
    count = len(told.changes)
    for _ in range(5):
        deployed.ask(live=1)
        await asyncio.sleep(0.02)
    assert len(told.changes) == count, "nothing changed"
    assert caplog.records == [] or all(record.levelno < logging.ERROR for record in caplog.records)


async def test_a_listener_is_told_what_time_alone_changes() -> None:
    deployed = Deployed(1)
    deployed.follow()
    told = Told(deployed.fleet)
    await eventually("health", lambda: told.states[-1:] == [State.HEALTHY])
    # Its timer was set on the real clock: as if the pod were about to be lost.
    deployed.fleet._settle_in(0.02)
    deployed.now += LOST_AFTER_SECONDS
    await eventually("the loss", lambda: told.states[-1] is State.DEGRADED)


async def test_the_timer_is_set_for_the_moment_at_which_time_alone_changes_the_status(monkeypatch) -> None:
    deployed = Deployed(1)
    deployed.follow()
    deployed.now += LOST_AFTER_SECONDS - 0.05
    told = Told(deployed.fleet)
    await eventually("health", lambda: told.states[-1:] == [State.HEALTHY])
    deployed.now += 0.05
    await eventually("the loss", lambda: told.states[-1] is State.DEGRADED)


async def test_a_listener_that_fails_is_logged_and_told_again(caplog) -> None:
    deployed = Deployed(1)
    calls = []

    def fail(change: Change) -> None:
        calls.append(change)
        raise RuntimeError("broken")

    deployed.fleet.listen(fail)
    await eventually("the first", lambda: len(calls) == 1)
    deployed.follow()
    await eventually("the second", lambda: len(calls) == 2)
    assert [record.message for record in caplog.records if record.levelno == logging.ERROR] == [
        "A change of a fleet's status could not be passed on"
    ] * 2


async def test_how_long_a_deploy_took_to_converge_is_told_once_for_each() -> None:
    deployed = Deployed(1)
    deployed.follow("a")
    deployed.follow("b")
    told = Told(deployed.fleet)
    await eventually("health", lambda: told.states[-1:] == [State.HEALTHY])
    assert told.changes[-1].converged_after is None, "it was made before the start"
    deployed.deploy()
    deployed.ask("a", 1)
    deployed.ask("b", 1)
    await eventually("the deploy", lambda: told.states[-1] is State.DEPLOYING)
    deployed.now += 2
    deployed.ask("a", 2)
    deployed.now += 1.5
    deployed.ask("b", 2)
    deployed.now += 100 - LOST_AFTER_SECONDS  # it is judged later than it happened
    await eventually("health", lambda: told.states[-1] is State.HEALTHY)
    assert told.changes[-1].converged_after == pytest.approx(3.5)
    deployed.ask("a", 2, error="e: 1")
    await eventually("the error", lambda: told.states[-1] is State.DEGRADED)
    deployed.ask("a", 2)
    await eventually("health", lambda: told.states[-1] is State.HEALTHY)
    assert [change.converged_after for change in told.changes if change.converged_after is not None] == [3.5]


async def test_nobody_is_told_after_the_end() -> None:
    deployed = Deployed(1)
    told = Told(deployed.fleet)
    waiting = asyncio.create_task(deployed.fleet.waiters.wait(60))
    await eventually("the first", lambda: told.changes)
    waiting.cancel()
    deployed.follow()
    deployed.fleet.close()
    count = len(told.changes)
    deployed.deploy()
    await asyncio.sleep(0.05)
    assert len(told.changes) == count
    assert not await deployed.fleet.waiters.wait(60), "nobody waits any more"


# --- a thousand pods -------------------------------------------------------------------------------------------------


async def test_a_thousand_pods_that_report_at_once_wake_nobody_a_thousand_times(monkeypatch) -> None:
    monkeypatch.setattr(module, "COALESCE_SECONDS", 0.2)
    judged = []

    def counting(*given: object):
        judged.append(1)
        return judge(*given)

    judge = module.judge
    monkeypatch.setattr(module, "judge", counting)
    deployed = Deployed(1)
    woken = 0

    async def watch() -> None:
        nonlocal woken
        while await deployed.fleet.waiters.wait(60):
            woken += 1

    watcher = asyncio.create_task(watch())
    for number in range(PODS):
        deployed.follow(f"pod-{number:04}")
    told = Told(deployed.fleet)
    await eventually("health", lambda: told.states[-1:] == [State.HEALTHY])
    assert len(told.changes[-1].after.pods) == PODS
    before_judged, before_woken = len(judged), woken
    started = asyncio.get_running_loop().time()
    deployed.deploy()
    for number in range(PODS):
        deployed.ask(f"pod-{number:04}", 1)
        deployed.ask(f"pod-{number:04}", 2)
        if number % 100 == 0:
            await asyncio.sleep(0)
    await eventually("health", lambda: told.changes[-1].converged_after is not None)
    await eventually("woken", lambda: woken > before_woken)  # the listener is called before it runs
    windows = (asyncio.get_running_loop().time() - started) / 0.2 + 1
    assert told.states[-1] is State.HEALTHY
    assert len(judged) - before_judged <= windows
    assert 1 <= woken - before_woken <= windows
    deployed.fleet.close()
    await watcher


async def test_more_pods_are_judged_less_often(monkeypatch) -> None:
    monkeypatch.setattr(module, "USUAL_SIDECARS", 2)
    pauses: list[float] = []
    deployed = Deployed(1)
    monkeypatch.setattr(deployed.fleet, "_settle_in", pauses.append)
    for number in range(4):
        deployed.ask(f"pod-{number}")
    assert pauses == pytest.approx([0.01, 0.01, 0.015, 0.02])
