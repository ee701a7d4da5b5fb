"""What the status of a fleet is, given what is known: each way a fleet can be broken, and never a false green."""

import math
from collections.abc import Callable, Mapping

import pytest

from dagferry_server.fleet.sidecars import LOST_AFTER_SECONDS, LOST_SHOWN_SECONDS, Ended, Offer, Report, Sidecar
from dagferry_server.fleet.status import Facts, Pod, PodState, State, Status, judge

V1, V2, V3 = ("20261120T064501Z-000001", "20261120T064601Z-000002", "20261120T064701Z-000003")
VERSIONS = {1: V1, 2: V2, 3: V3}
OTHERS_V3 = "20201120T064701Z-000003"
ABOVE = "20261120T064801Z-000004"
NOW = 10_000.0
STARTED = 1000.0
CONVERGE = 60
BECAME = ((2, STARTED), (3, NOW - 10))
"""Deploy 2 was the newest when the server started, and deploy 3 was made 10 s ago."""

FACTS = Facts(
    deployment="prod",
    log_id="log",
    version=V3,
    sequence=3,
    head=3,
    version_of=VERSIONS.get,
    fault="",
    expected={},
    converge_seconds=CONVERGE,
    became=BECAME,
    all_heard_at=STARTED + LOST_AFTER_SECONDS,
)
EMPTY = FACTS._replace(version="", sequence=0, head=0, became=((0, STARTED),))


def sidecar(
    instance: str = "worker-0",
    live: str = V3,
    *,
    confirmed: bool | Offer = True,
    error: str = "",
    volume: str = "0123456789abcdef",
    component: str = "worker",
    seen: float = NOW - 1,
    first_seen: float = STARTED,
    waits: bool = False,
    log_id: str = "log",
) -> Sidecar:
    """A pod that has the newest deploy live, unless told otherwise."""
    found = Sidecar(Report(instance, component, live, error, False, volume, log_id), first_seen)
    found.seen = seen
    found.open = int(waits)
    found.confirmed = confirmed if isinstance(confirmed, Offer) else Offer("log", live) if confirmed else None
    return found


def judged(*sidecars: Sidecar, facts: Facts = FACTS, now: float = NOW, **changes: object) -> Status:
    return judge(facts._replace(**changes), sidecars, now)


def only(status: Status) -> Pod:
    (pod,) = status.pods
    return pod


# --- green -----------------------------------------------------------------------------------------------------------


def test_a_fleet_is_healthy_when_every_pod_has_the_newest_deploy_live() -> None:
    assert judged(sidecar())[:2] == (State.HEALTHY, f"The only pod has {V3} live.")
    status = judged(sidecar(), sidecar("scheduler", component="scheduler"))
    assert status[:2] == (State.HEALTHY, f"All 2 pods have {V3} live.")
    assert status.counts == {PodState.LIVE: 2}


def test_pods_are_shown_by_name_with_what_they_said() -> None:
    status = judged(
        sidecar("b", live=V2, error="volume_failed: full", seen=NOW - 7), sidecar("a", waits=True, seen=NOW - 40)
    )
    assert status.pods == (
        Pod("a", "01234567", "worker", V3, "", PodState.LIVE, 0.0, 0.0),
        Pod("b", "01234567", "worker", V2, "volume_failed: full", PodState.FAILING, 7.0, 10.0),
    )


# --- each broken fleet -----------------------------------------------------------------------------------------------

late = {"became": ((2, STARTED), (3, NOW - CONVERGE))}
soon = {"became": ((2, STARTED), (3, NOW - CONVERGE + 0.1))}
BROKEN: Mapping[str, tuple[list[Sidecar], Mapping[str, object], State, str]] = {
    "a pod behind": (
        [sidecar(), sidecar("worker-1", V2)],
        soon,
        State.DEPLOYING,
        f"worker-1 has not reported {V3} as live yet.",
    ),
    "a pod behind for too long": (
        [sidecar(), sidecar("worker-1", V2)],
        late,
        State.DEGRADED,
        "worker-1 has lacked the newest deploy for more than 60 s.",
    ),
    "a pod without any deploy": (
        [sidecar(), sidecar("worker-1", "", first_seen=NOW - 59)],
        late,
        State.DEPLOYING,
        f"worker-1 has not reported {V3} as live yet.",
    ),
    "a pod that keeps its seed": (
        [sidecar(), sidecar("worker-1", "seed", first_seen=NOW - 60)],
        late,
        State.DEGRADED,
        "worker-1 has lacked the newest deploy for more than 60 s.",
    ),
    "a pod that is hung, with a request that waits": (
        [sidecar(), sidecar("worker-1", V2, waits=True, seen=NOW - 1000)],
        late,
        State.DEGRADED,
        "worker-1 has lacked the newest deploy for more than 60 s.",
    ),
    "a pod gone without a goodbye, with the newest deploy": (
        [sidecar(), sidecar("worker-1", seen=NOW - LOST_AFTER_SECONDS)],
        {},
        State.DEGRADED,
        "worker-1 has vanished without deregistering.",
    ),
    "pods gone without a goodbye, with an older deploy": (
        [sidecar(f"worker-{number}", V2, seen=NOW - 500) for number in range(5)],
        {},
        State.DEGRADED,
        "worker-0, worker-1, worker-2 and 2 more have vanished without deregistering.",
    ),
    "a pod that reports an error, with the newest deploy": (
        [sidecar(), sidecar("worker-1", error="volume_failed: No space left.")],
        {},
        State.DEGRADED,
        "worker-1 reports an error: volume_failed: No space left.",
    ),
    "pods that report an error": (
        [sidecar("worker-1", V2, error="a: 1"), sidecar("worker-2", V2, error="b: 2")],
        {},
        State.DEGRADED,
        "worker-1 and worker-2 report an error: a: 1.",
    ),
    "two pods with one name, one of them behind": (
        [sidecar("worker-0", volume="aaaaaaaaaaaa"), sidecar("worker-0", V2, volume="bbbbbbbbbbbb")],
        {},
        State.DEPLOYING,
        f"worker-0 (bbbbbbbb) has not reported {V3} as live yet.",
    ),
    "two pods with one name, one of an older release": (
        [sidecar("worker-0"), sidecar("worker-0", V2, volume="")],
        {},
        State.DEPLOYING,
        f"worker-0 (without id) has not reported {V3} as live yet.",
    ),
    "a pod of another log, with a version of that": (
        [sidecar(), sidecar("worker-1", OTHERS_V3, confirmed=False, log_id="")],
        {},
        State.DEGRADED,
        f"worker-1 claims to have {OTHERS_V3} live, which is not in this deploy log.",
    ),
    "a pod of another log, with an older version of the same name": (
        [sidecar(), sidecar("worker-1", V2, confirmed=False, log_id="other")],
        {},
        State.DEGRADED,
        f"worker-1 claims to have {V2} live, which is not in this deploy log.",
    ),
    "a pod of another log, with a version of the same name as the newest": (
        [sidecar(), sidecar("worker-1", V3, confirmed=Offer("other", V3), log_id="other")],
        {},
        State.DEPLOYING,
        f"worker-1 has not reported {V3} as live yet.",
    ),
    "a claim above the log's head": (
        [sidecar(), sidecar("worker-1", ABOVE, confirmed=False), sidecar("worker-2", ABOVE, confirmed=False)],
        {},
        State.DEGRADED,
        f"worker-1 and worker-2 claim to have {ABOVE} live, which is above the head of this deploy log, 3.",
    ),
    "a claim of something that is no version": (
        [sidecar(), sidecar("worker-1", "latest", confirmed=False)],
        {},
        State.DEGRADED,
        "worker-1 claims to have latest live, which is not in this deploy log.",
    ),
    "a claim of the newest deploy by a pod that was never offered it": (
        [sidecar(), sidecar("worker-1", confirmed=False)],
        soon,
        State.DEPLOYING,
        f"worker-1 has not reported {V3} as live yet.",
    ),
    "a claim of the newest deploy by a pod that was not offered it for long": (
        [sidecar(), sidecar("worker-1", confirmed=False)],
        late,
        State.DEGRADED,
        "worker-1 has lacked the newest deploy for more than 60 s.",
    ),
    "fewer pods than expected": (
        [sidecar(), sidecar("scheduler", component="scheduler")],
        {"expected": {"scheduler": 1, "worker": 2}},
        State.DEGRADED,
        "1 of 2 expected pods of worker is there.",
    ),
    "no pod of those expected": (
        [],
        {"expected": {"scheduler": 1}},
        State.DEGRADED,
        "0 of 1 expected pods of scheduler are there.",
    ),
    "fewer than expected, because one ended a moment ago": (
        [sidecar()],
        {"expected": {"worker": 2}, "ended": (Ended("worker", NOW - CONVERGE + 0.1),)},
        State.DEPLOYING,
        "1 of 2 expected pods of worker is there; others have ended only just.",
    ),
    "no pod of those expected, because all ended a moment ago": (
        [],
        {"expected": {"worker": 2}, "ended": (Ended("worker", NOW - 2), Ended("worker", NOW - 1))},
        State.DEPLOYING,
        "0 of 2 expected pods of worker are there; others have ended only just.",
    ),
    "fewer than expected, because one ended long ago": (
        [sidecar()],
        {"expected": {"worker": 2}, "ended": (Ended("worker", NOW - CONVERGE),)},
        State.DEGRADED,
        "1 of 2 expected pods of worker is there.",
    ),
    "fewer than expected, of which one never came": (
        [sidecar()],
        {"expected": {"worker": 3}, "ended": (Ended("worker", NOW - 1),)},
        State.DEGRADED,
        "1 of 3 expected pods of worker is there.",
    ),
    "fewer than expected, while others end": (
        [sidecar()],
        {"expected": {"worker": 2}, "ended": (Ended("scheduler", NOW - 1),)},
        State.DEGRADED,
        "1 of 2 expected pods of worker is there.",
    ),
    "fewer than expected, of which one never came, while the container of another restarted": (
        [sidecar(first_seen=NOW - 5)],
        {"expected": {"worker": 2}, "ended": (Ended("worker", NOW - 10),)},
        State.DEGRADED,
        "1 of 2 expected pods of worker is there.",
    ),
    "fewer than expected, of which one never came, while another ends again and again": (
        [sidecar()],
        {"expected": {"worker": 3}, "ended": (Ended("worker", NOW - 30), Ended("worker", NOW - 10, NOW - 20))},
        State.DEGRADED,
        "1 of 3 expected pods of worker is there.",
    ),
    "fewer than expected, because one ended after another was replaced": (
        [sidecar(first_seen=NOW - 20)],
        {"expected": {"worker": 2}, "ended": (Ended("worker", NOW - 30), Ended("worker", NOW - 10))},
        State.DEPLOYING,
        "1 of 2 expected pods of worker is there; others have ended only just.",
    ),
    "fewer than expected, because one ended while a pod of another component came": (
        [sidecar(), sidecar("scheduler", component="scheduler", first_seen=NOW - 5)],
        {"expected": {"worker": 2}, "ended": (Ended("worker", NOW - 10),)},
        State.DEPLOYING,
        "1 of 2 expected pods of worker is there; others have ended only just.",
    ),
    "a pod behind for too long, while another is replaced": (
        [sidecar(live=V2)],
        {**late, "expected": {"worker": 2}, "ended": (Ended("worker", NOW - 1),)},
        State.DEGRADED,
        "worker-0 has lacked the newest deploy for more than 60 s.",
    ),
    "fewer than expected, because one is lost": (
        [sidecar(), sidecar("worker-1", seen=NOW - 100)],
        {"expected": {"worker": 2}},
        State.DEGRADED,
        "worker-1 has vanished without deregistering.",
    ),
    "no pod at all": ([], {}, State.UNKNOWN, "No pod follows prod, as far as this server knows."),
    "a server that has just restarted": (
        [sidecar(), sidecar("worker-1", error="e: 1")],
        {"all_heard_at": NOW + 0.1},
        State.UNKNOWN,
        "The server has not run for 75 s yet, so it may not know all pods.",
    ),
    "more pods than are remembered": (
        [sidecar()],
        {"crowded_until": NOW + 0.1},
        State.UNKNOWN,
        "More than 10000 pods follow prod.",
    ),
    "a newest deploy that cannot be read": (
        [sidecar()],
        {"fault": "The disk is away.", "version": "", "sequence": 0},
        State.UNKNOWN,
        "Which deploy of prod is the newest is not known. The disk is away.",
    ),
    "nothing deployed": ([], EMPTY._asdict(), State.EMPTY, "Nothing was deployed to prod yet."),
    "nothing deployed, and pods that wait for it": (
        [sidecar("worker-0", "", confirmed=False, error="awaiting_first_deploy: Nothing is deployed yet")],
        EMPTY._asdict(),
        State.EMPTY,
        "Nothing was deployed to prod yet.",
    ),
    "nothing deployed, right after the start": (
        [],
        {**EMPTY._asdict(), "all_heard_at": NOW + 1},
        State.EMPTY,
        "Nothing was deployed to prod yet.",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("sidecars", "changes", "state", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_fleet_is_not_green_and_the_reason_names_who(sidecars, changes, state, reason) -> None:
    status = judged(*sidecars, **changes)
    assert status[:2] == (state, reason)
    assert state is not State.HEALTHY


@pytest.mark.parametrize("rest", [1, 50])
@pytest.mark.parametrize("broken", [name for name in BROKEN if name != "no pod at all"])
def test_healthy_pods_make_no_broken_fleet_green(broken, rest) -> None:
    sidecars, changes, *_ = BROKEN[broken]
    more = [sidecar(f"other-{number}", component="other") for number in range(rest)]
    assert judged(*more, *sidecars, **changes).state is not State.HEALTHY


def test_the_worst_is_said_first() -> None:
    worst_first = [
        (sidecar("ahead", ABOVE, confirmed=False), "ahead claims"),
        (sidecar("fails", V2, error="e: 1"), "fails reports"),
        (sidecar("gone", V2, seen=0.0), "gone has vanished"),
        (sidecar("slow", V2), "slow has lacked"),
    ]
    for first in range(len(worst_first)):
        reason = judged(*(found for found, _ in worst_first[first:]), **late, expected={"x": 1}).reason
        assert reason.startswith(worst_first[first][1])
    assert judged(expected={"x": 1}).reason == "0 of 1 expected pods of x are there."


def test_the_worst_is_said_before_what_is_unknown_for_lack_of_room() -> None:
    assert judged(sidecar(error="e: 1"), crowded_until=NOW + 1).state is State.DEGRADED


# --- a pod -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (sidecar(), PodState.LIVE),
        (sidecar(live=V1), PodState.BEHIND),
        (sidecar(live=V2), PodState.BEHIND),
        (sidecar(live=""), PodState.BEHIND),
        (sidecar(live="empty"), PodState.BEHIND),
        (sidecar(confirmed=False), PodState.CLAIMS_UNKNOWN),
        (sidecar(confirmed=Offer("other", V3)), PodState.CLAIMS_UNKNOWN),
        (sidecar(live=OTHERS_V3), PodState.CLAIMS_UNKNOWN),
        (sidecar(live=ABOVE), PodState.CLAIMS_UNKNOWN),
        (sidecar(live="v1"), PodState.CLAIMS_UNKNOWN),
        (sidecar(live=V2, log_id=""), PodState.BEHIND),
        (sidecar(live=V2, log_id="other"), PodState.CLAIMS_UNKNOWN),
        (sidecar(live="seed", log_id="other"), PodState.BEHIND),
        (sidecar(error="e: 1"), PodState.FAILING),
        (sidecar(live=V2, error="e: 1"), PodState.FAILING),
        (sidecar(live=ABOVE, error="sequence_regressed: no"), PodState.FAILING),
        (sidecar(live="", error="awaiting_first_deploy: Nothing is deployed yet"), PodState.BEHIND),
        (sidecar(live="", error="awaiting_first_deployment: no"), PodState.FAILING),
        (sidecar(error="awaiting_first_deploy: Nothing is deployed yet"), PodState.FAILING),
        (sidecar(seen=NOW - LOST_AFTER_SECONDS), PodState.LOST),
        (sidecar(seen=NOW - LOST_AFTER_SECONDS, error="e: 1"), PodState.LOST),
        (sidecar(seen=NOW - LOST_AFTER_SECONDS + 0.1), PodState.LIVE),
        (sidecar(seen=NOW - 10 * LOST_AFTER_SECONDS, waits=True), PodState.LIVE),
    ],
)
def test_the_state_of_a_pod(found, state) -> None:
    assert only(judged(found)).state is state


@pytest.mark.parametrize("sequence", [1, 2])
def test_a_version_too_old_to_be_remembered_is_behind(sequence) -> None:
    facts = FACTS._replace(version_of={3: V3}.get)
    assert only(judged(sidecar(live=VERSIONS[sequence]), facts=facts)).state is PodState.BEHIND


def test_the_lag_counts_from_the_oldest_deploy_that_a_pod_lacks() -> None:
    became = ((1, 100.0), (2, NOW - 50), (3, NOW - 10))

    def lag(live: str, **more: object) -> float:
        return only(judged(sidecar(live=live, **more), became=became)).lag

    assert lag(V3) == 0
    assert lag(V2) == 10
    assert lag(V1) == 50, "not 10: another deploy does not start the minute anew"
    assert lag("", first_seen=100.0) == NOW - 100
    assert lag("", first_seen=NOW - 20) == 20, "a pod that is new"
    assert lag(V1, first_seen=NOW - 20) == 20
    assert lag(V3, confirmed=False) == 10, "it only has to confirm the newest"
    assert lag(V3, error="e: 1") == 0
    assert lag(V2, error="e: 1") == 10
    assert only(judged(sidecar(live=V3, seen=NOW - 500), became=became)).lag == 0
    assert lag(ABOVE, confirmed=False) == 0
    assert lag("latest", confirmed=False) == NOW - STARTED
    assert only(judged(sidecar(live=""), facts=EMPTY)).lag == 0


def test_deploys_in_quick_succession_do_not_hide_a_pod_that_is_stuck() -> None:
    facts = FACTS._replace(became=((1, 100.0), (2, NOW - 60), (3, NOW - 1)))
    assert judged(sidecar(live=V1), facts=facts).state is State.DEGRADED
    assert judged(sidecar(live=V2), facts=facts).state is State.DEPLOYING


def test_a_deploy_before_the_start_counts_from_the_start() -> None:
    facts = FACTS._replace(became=((3, NOW - 10),))
    assert only(judged(sidecar(live=V1), facts=facts)).lag == 10


# --- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "changes", "moment"),
    [
        (sidecar(seen=NOW - 5), {}, NOW - 5 + LOST_AFTER_SECONDS),
        (sidecar(seen=NOW - 5, waits=True), {}, NOW + LOST_AFTER_SECONDS),
        (sidecar(seen=NOW - 100), {}, NOW - 100 + LOST_AFTER_SECONDS + LOST_SHOWN_SECONDS),
        (sidecar(live=V2), {}, NOW - 10 + CONVERGE),
        (sidecar(live=V2), late, NOW - 1 + LOST_AFTER_SECONDS),
        (sidecar(confirmed=False), {}, NOW - 10 + CONVERGE),
        (sidecar(), {"all_heard_at": NOW + 3}, NOW + 3),
        (sidecar(), {"crowded_until": NOW + 4}, NOW + 4),
        (sidecar(), {"expected": {"worker": 2}, "ended": (Ended("worker", NOW - 20),)}, NOW - 20 + CONVERGE),
    ],
)
def test_a_status_says_until_when_it_holds_if_nothing_happens(found, changes, moment) -> None:
    status = judged(found, **changes)
    assert status.valid_until == pytest.approx(moment)
    before = judged(found, **changes, now=moment - 0.001)
    assert before[:2] == status[:2]


def test_without_pods_nothing_changes_by_time_alone() -> None:
    assert judged().valid_until == math.inf


def test_time_alone_changes_a_status_only_at_the_moment_that_it_says() -> None:
    """All moments at which the status changes are found by going from one ``valid_until`` to the next."""
    fleets: list[Callable[[], list[Sidecar]]] = [
        lambda: [sidecar()],
        lambda: [sidecar(live=V2), sidecar("b", seen=NOW - 40)],
        lambda: [sidecar(confirmed=False, first_seen=NOW - 3)],
    ]
    for fleet in fleets:
        found = fleet()
        status, now = judged(*found, all_heard_at=NOW + 20), NOW
        while now < NOW + 2 * LOST_AFTER_SECONDS:
            now += 0.25
            fresh = judged(*found, all_heard_at=NOW + 20, now=now)
            if now < status.valid_until:
                assert (fresh.state, fresh.reason) == (status.state, status.reason)
            else:
                status = fresh


def test_a_lost_bundle_degrades_the_fleet_though_every_pod_has_the_deploy() -> None:
    status = judged(sidecar(), lost_bundle="The store has lost the bundle of v3.")
    assert (status.state, status.reason) == (State.DEGRADED, "The store has lost the bundle of v3.")
    assert judged(sidecar(), lost_bundle="").state is State.HEALTHY


# --- several servers on one store ------------------------------------------------------------------------------------


def test_a_pod_that_has_a_newer_deploy_of_another_server_makes_the_fleet_unknown_for_a_moment_not_degraded() -> None:
    status = judged(sidecar(live=ABOVE, confirmed=False), shared=True)
    assert status[:2] == (
        State.UNKNOWN,
        f"worker-0 claims to have {ABOVE} live, which another server may have made. This one knows 3.",
    )
    assert only(status).state is PodState.CLAIMS_UNKNOWN
    assert judged(sidecar(live=ABOVE, confirmed=False)).state is State.DEGRADED, "there is no other server"


@pytest.mark.parametrize(
    "pod",
    [
        sidecar(live=ABOVE, confirmed=False, log_id="other"),
        sidecar(live=ABOVE, confirmed=False, log_id=""),
        sidecar(live=OTHERS_V3, confirmed=False),
        sidecar(live=ABOVE, confirmed=False, error="sequence_regressed: The server offers deploy 3."),
    ],
    ids=["of another log", "of an unknown log", "not above the head", "that reports an error"],
)
def test_any_other_pod_makes_it_degraded_there_too(pod) -> None:
    assert judged(pod, shared=True).state is State.DEGRADED
