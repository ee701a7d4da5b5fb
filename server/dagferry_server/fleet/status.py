"""Whether every pod has the newest deploy live: a pure function of the known sidecars, the deploy log and the clock.

It never shows a false green. ``HEALTHY`` needs evidence from each pod since the deploy: the server offered it exactly
this version of this log, and afterwards it reported it as live, without an error. Everything else is another state:

- ``EMPTY``: nothing is deployed.
- ``UNKNOWN``: the newest deploy cannot be read, not every pod can have been heard yet, no pod is known, a server that
  may know of more pods does not answer, or a pod has a deploy that another server may have made just now.
- ``DEGRADED``: a pod reports an error, vanished, claims a version that this log does not have, or lacks a deploy for
  longer than ``converge_seconds``; or there are fewer pods of a component than expected, with those that deregistered
  within ``converge_seconds`` and were not replaced since; or the store has lost the bundle of the newest deploy.
- ``DEPLOYING``: some pods lack the newest deploy, or are being replaced, none for longer than that.

Ages are on a monotonic clock. What changes because time passes, changes at ``valid_until``.
"""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from dagferry_core.names import version_sequence
from dagferry_follow.errors import AwaitingFirstDeploy
from dagferry_server.fleet.parsed import Parsed
from dagferry_server.fleet.sidecars import LOST_AFTER_SECONDS, LOST_SHOWN_SECONDS, MAX_SIDECARS, Ended, Offer, Sidecar

MAX_NAMED = 3
"""How many pods a reason names."""
SHOWN_ID_CHARACTERS = 8
"""How much of the id on a pod's volume is shown. All of it lets its holder report as this pod."""
_TOO_EARLY = f"The server has not run for {LOST_AFTER_SECONDS:.0f} s yet, so it may not know all pods."
_HAS = ("has", "have")


class State(str, Enum):
    """The state of a fleet."""

    EMPTY = "EMPTY"
    UNKNOWN = "UNKNOWN"
    DEPLOYING = "DEPLOYING"
    HEALTHY = "HEALTHY"
    DEGRADED = "DEGRADED"


class PodState(str, Enum):
    """The state of one pod."""

    LIVE = "live"
    """It has the newest deploy live."""
    BEHIND = "behind"
    FAILING = "failing"
    """It reports an error."""
    LOST = "lost"
    """It vanished without deregistering."""
    CLAIMS_UNKNOWN = "claims_unknown"
    """It claims a version that this log does not have, or that it was never offered."""


class Facts(NamedTuple):
    """What is known of a deployment, and from ``became`` on, since when and by whom.

    ``version`` and ``sequence`` are those of the current deploy, empty and 0 if there is none; ``head`` is the highest
    sequence of the log. ``version_of`` returns the version of a sequence, if it is known. ``fault`` says why the newest
    deploy is not known; it is empty if it is. ``became`` has the sequences of deploys in ascending order, each with the
    time at which it became current here; the first one stands for everything before it.
    """

    deployment: str
    log_id: str
    version: str
    sequence: int
    head: int
    version_of: Callable[[int], str | None]
    fault: str
    expected: Mapping[str, int]
    converge_seconds: int
    lost_bundle: str = ""
    """Which bundle the store has lost, if it has lost that of the current deploy."""
    became: Sequence[tuple[int, float]] = ()
    all_heard_at: float = 0.0
    """When every pod there is has been heard: one full wait after the server opened the log."""
    crowded_until: float = 0.0
    """Until then a pod that was forgotten for lack of room may still be there."""
    ended: Sequence[Ended] = ()
    """The pods that deregistered last."""
    partial: str = ""
    """Why other servers may know of pods, or of a deploy, that is not known here; empty if none does."""
    asked: int = 1
    answered: int = 1
    """How many servers were asked, this one included, and how many of them answered."""
    shared: bool = False
    """Whether other servers use the same store, so that there may be newer deploys that this one does not know yet."""
    digest: str = ""
    deployed_at: int = 0
    """The content of the current deploy, and when it was made, in seconds since the epoch."""


class Pod(NamedTuple):
    """One pod; ``lag`` is for how many seconds it has lacked a deploy, ``silent`` how long ago it was seen.

    ``in_use`` is how many of its old trees tasks use.
    """

    instance: str
    id: str
    component: str
    live: str
    error: str
    state: PodState
    silent: float
    lag: float
    in_use: int = 0


class Status(NamedTuple):
    """The state of a fleet, and one plain sentence why. ``valid_until`` is when time alone may change it.

    ``parsed`` is what Airflow has read, ``None`` if nobody reports it: the state does not depend on it.
    """

    state: State
    reason: str
    pods: tuple[Pod, ...]
    valid_until: float
    asked: int = 1
    answered: int = 1
    parsed: Parsed | None = None

    @property
    def counts(self) -> Mapping[PodState, int]:
        """How many pods there are of each state."""
        return Counter(pod.state for pod in self.pods)


def judge(facts: Facts, sidecars: Iterable[Sidecar], now: float) -> Status:
    """Return the status of a deployment's fleet at ``now``, on the clock of the sidecars."""
    current = Offer(facts.log_id, facts.version) if facts.version else None
    moments = [facts.all_heard_at, facts.crowded_until]
    ended = [one for one in facts.ended if one.at + facts.converge_seconds > now]
    if facts.expected:
        moments += [one.at + facts.converge_seconds for one in ended]
    known = list(sidecars)
    replaced = _replaced(known, ended)
    pods, late, ahead = [], [], []
    for sidecar in known:
        state = _state_of(sidecar, facts, current, now)
        lacks_since = _lacks_since(sidecar, facts, current)
        pod = Pod(
            sidecar.instance,
            sidecar.volume[:SHOWN_ID_CHARACTERS],
            sidecar.component,
            sidecar.live,
            sidecar.error,
            state,
            0.0 if sidecar.open else now - sidecar.seen,
            0.0 if lacks_since is None else now - lacks_since,
            sidecar.in_use,
        )
        pods.append(pod)
        if state is PodState.CLAIMS_UNKNOWN and _may_be_ahead(sidecar, facts):
            ahead.append(pod)
        lost_at = sidecar.lost_at(now)
        moments += [lost_at, lost_at + LOST_SHOWN_SECONDS]
        if lacks_since is not None and (state is PodState.BEHIND or _awaits_confirmation(pod, current)):
            late_at = lacks_since + facts.converge_seconds
            moments.append(late_at)
            if late_at <= now:
                late.append(pod)
    pods.sort()
    late.sort()
    valid_until = min((moment for moment in moments if moment > now), default=math.inf)
    ahead.sort()
    judged = _judged(facts, pods, late, replaced, now, ahead=ahead)
    return Status(*judged, tuple(pods), valid_until, facts.asked, facts.answered)


def _replaced(known: Sequence[Sidecar], ended: Sequence[Ended]) -> Mapping[str, int]:
    """Return how many pods of each component are probably on their way, because as many have ``ended``.

    Each that came since the first of them ended is a replacement that is here, also if it has ended again: else one
    container that restarts would hide that another pod never comes.
    """
    began: dict[str, float] = {}
    for one in ended:
        began.setdefault(one.component, one.at)
    came = [(pod.component, pod.first_seen) for pod in known] + [(one.component, one.came) for one in ended]
    return Counter(one.component for one in ended) - Counter(
        component for component, at in came if at > began.get(component, math.inf)
    )


def _state_of(sidecar: Sidecar, facts: Facts, current: Offer | None, now: float) -> PodState:
    if sidecar.is_lost(now):
        return PodState.LOST
    if sidecar.error and not _awaits_first(sidecar):
        return PodState.FAILING
    if current and sidecar.confirmed == current:
        return PodState.LIVE
    if current and sidecar.live == current.version:
        return PodState.CLAIMS_UNKNOWN
    return PodState.BEHIND if _is_in_log(sidecar, facts) else PodState.CLAIMS_UNKNOWN


def _awaits_first(sidecar: Sidecar) -> bool:
    """Return whether a pod only says that it waits for the first deploy, which does not count as a failure.

    One that has a deploy live waits for no first one, whatever it says.
    """
    return sidecar.live in _NO_DEPLOY and sidecar.error.partition(":")[0] == AwaitingFirstDeploy.code


def _is_in_log(sidecar: Sidecar, facts: Facts) -> bool:
    sequence = _sequence_of(sidecar.live)
    if sequence == 0:
        return True
    if sequence is None or sequence > facts.head or sidecar.log_id not in {"", facts.log_id}:
        return False
    return facts.version_of(sequence) in {None, sidecar.live}


def _may_be_ahead(sidecar: Sidecar, facts: Facts) -> bool:
    """Return whether a pod may have a deploy of this log that another server made. If not, the pod reports an error."""
    return facts.shared and sidecar.log_id == facts.log_id and (_sequence_of(sidecar.live) or 0) > facts.head


def _sequence_of(live: str) -> int | None:
    """Return the sequence that a version carries, 0 for a pod that has no deploy live, ``None`` for anything else."""
    if live in _NO_DEPLOY:
        return 0
    try:
        return version_sequence(live)
    except ValueError:
        return None


_NO_DEPLOY = frozenset({"", "seed", "empty"})
"""What a pod reports that has nothing live, or what its sidecar publishes until the first deploy."""


def _lacks_since(sidecar: Sidecar, facts: Facts, current: Offer | None) -> float | None:
    """Return since when a pod has lacked a deploy: since the oldest one that it lacks became current, or it was new.

    ``None``: it lacks none.
    """
    if current is None or sidecar.confirmed == current:
        return None
    has = facts.sequence - 1 if sidecar.live == current.version else _sequence_of(sidecar.live) or 0
    place = bisect_right(facts.became, (has, math.inf))
    return max(facts.became[place][1], sidecar.first_seen) if place < len(facts.became) else None


def _awaits_confirmation(pod: Pod, current: Offer | None) -> bool:
    """Return whether a pod claims the newest deploy and was not offered it yet, as when its init container was."""
    return pod.state is PodState.CLAIMS_UNKNOWN and current is not None and pod.live == current.version


def _judged(
    facts: Facts,
    pods: Sequence[Pod],
    late: Sequence[Pod],
    replaced: Mapping[str, int],
    now: float,
    *,
    ahead: Sequence[Pod],
) -> tuple[State, str]:
    """Return the first state for which there is a reason: ``HEALTHY`` is what is left."""
    name, version = facts.deployment, facts.version
    behind = [pod for pod in pods if pod.state is not PodState.LIVE]
    missing = _missing(facts, pods)
    every = "The only pod has" if len(pods) == 1 else f"All {len(pods)} pods have"
    reasons = (
        (State.UNKNOWN, f"Which deploy of {name} is the newest is not known. {facts.fault}" if facts.fault else ""),
        (State.EMPTY, "" if version else f"Nothing was deployed to {name} yet."),
        (State.UNKNOWN, _TOO_EARLY if now < facts.all_heard_at else ""),
        (State.DEGRADED, _wrong(facts, pods, late, ahead, replaced)),
        (State.UNKNOWN, facts.partial),
        (State.UNKNOWN, _newer(facts, pods, ahead)),
        (State.UNKNOWN, f"More than {MAX_SIDECARS} pods follow {name}." if now < facts.crowded_until else ""),
        (State.DEPLOYING, f"{missing}; others have ended only just." if missing else ""),
        (State.UNKNOWN, "" if pods else f"No pod follows {name}, as far as this server knows."),
        (State.DEPLOYING, f"{_Names(pods).of(behind, *_HAS)} not reported {version} as live yet." if behind else ""),
        (State.HEALTHY, f"{every} {version} live."),
    )
    return next((state, reason) for state, reason in reasons if reason)


def _newer(facts: Facts, pods: Sequence[Pod], ahead: Sequence[Pod]) -> str:
    """Return which pods have a deploy that this server does not know yet; empty if none has."""
    if not ahead:
        return ""
    claim = _Names(pods).of(ahead, "claims", "claim")
    return f"{claim} to have {ahead[0].live} live, which another server may have made. This one knows {facts.head}."


def _wrong(
    facts: Facts, pods: Sequence[Pod], late: Sequence[Pod], ahead: Sequence[Pod], replaced: Mapping[str, int]
) -> str:
    """Return what is wrong with the fleet, the worst first; empty if nothing is."""
    if facts.lost_bundle:
        return facts.lost_bundle
    if facts.partial:
        # Pods that seem to be lost, late or missing may be all right on a server that does not answer.
        return _failing(pods)
    return _claiming(facts, pods, ahead) or _failing(pods) or _lagging(facts, pods, late, replaced)


def _claiming(facts: Facts, pods: Sequence[Pod], ahead: Sequence[Pod]) -> str:
    current = Offer(facts.log_id, facts.version)
    unknown = [pod for pod in _those(pods, PodState.CLAIMS_UNKNOWN) if not _awaits_confirmation(pod, current)]
    unknown = [pod for pod in unknown if pod not in ahead]
    if not unknown:
        return ""
    live = unknown[0].live
    is_above = (_sequence_of(live) or 0) > facts.head
    why = f"is above the head of this deploy log, {facts.head}" if is_above else "is not in this deploy log"
    return f"{_Names(pods).of(unknown, 'claims', 'claim')} to have {live} live, which {why}."


def _failing(pods: Sequence[Pod]) -> str:
    failing = _those(pods, PodState.FAILING)
    if not failing:
        return ""
    return f"{_Names(pods).of(failing, 'reports', 'report')} an error: {failing[0].error.rstrip('.')}."


def _lagging(facts: Facts, pods: Sequence[Pod], late: Sequence[Pod], replaced: Mapping[str, int]) -> str:
    names = _Names(pods)
    if lost := _those(pods, PodState.LOST):
        return f"{names.of(lost, *_HAS)} vanished without deregistering."
    if late:
        return f"{names.of(late, *_HAS)} lacked the newest deploy for more than {facts.converge_seconds} s."
    missing = _missing(facts, pods, replaced)
    return f"{missing}." if missing else ""


def _missing(facts: Facts, pods: Sequence[Pod], replaced: Mapping[str, int] | None = None) -> str:
    """Return of which component there are too few pods, even if the ``replaced`` are counted; empty if of none."""
    there = Counter(pod.component for pod in pods)
    for component, number in facts.expected.items():
        if there[component] + (replaced or {}).get(component, 0) < number:
            are = "is" if there[component] == 1 else "are"
            return f"{there[component]} of {number} expected pods of {component} {are} there"
    return ""


def _those(pods: Iterable[Pod], state: PodState) -> list[Pod]:
    return [pod for pod in pods if pod.state is state]


class _Names:
    """How pods are named in a reason: with the ids on their volumes where several have one name."""

    def __init__(self, pods: Iterable[Pod]) -> None:
        self._times = Counter(pod.instance for pod in pods)

    def of(self, pods: Sequence[Pod], one: str, several: str) -> str:
        """Return the names of the first pods, how many more there are, and the verb that fits."""
        shown = [self._name(pod) for pod in pods[:MAX_NAMED]]
        if len(pods) == 1:
            return f"{shown[0]} {one}"
        more = [f"{len(pods) - MAX_NAMED} more"] if len(pods) > MAX_NAMED else []
        *first, last = [*shown, *more]
        return f"{', '.join(first)} and {last} {several}"

    def _name(self, pod: Pod) -> str:
        return f"{pod.instance} ({pod.id or 'without id'})" if self._times[pod.instance] > 1 else pod.instance
