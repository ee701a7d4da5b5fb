"""How long the server is asked to wait, and when it is polled again. As pure as ``decide``.

Rules:

- A server that is unreachable for a moment, as in a restart, is polled every half second or so for a minute. After
  that, and after any other failure, the pauses grow.
- An interrupted wait does not count as a failure if the server answers the next poll: a proxy in between has a shorter
  timeout. If that happens twice in a row, or a wait is not answered at all, shorter waits are asked for, for an hour.
- Where even waits of 2 s do not work, the sidecar polls without waits for a while.
"""

from dagferry_core.errors import DagferryError
from dagferry_follow.errors import ProxyFailed, ServerRefused, ServerUnreachable
from dagferry_sidecar.pace import backoff
from dagferry_sidecar.state import State

RESTART_SECONDS = 60.0
"""How long a server that is unreachable may just be restarting."""
RESTART_PAUSE_SECONDS = 0.75
FIRST_PAUSE_SECONDS = 0.1
SPREAD_SECONDS = 0.5
"""Over how long the next polls of sidecars are spread that were all disconnected at the same moment."""
MIN_INTERRUPTED_SECONDS = 2.0
"""A wait that ends sooner with an error is a failure."""
LATE_SECONDS = 5.0
"""No server answers a wait later than this after its end."""
MAX_INTERRUPTED_WAITS = 2
"""After so many in a row shorter waits are asked for."""
SHORTER_WAIT_SHARE = 0.75
"""How long the next waits are, as a share of the time after which the last one was interrupted."""
WAIT_LIMIT_SECONDS = 3600.0
"""How long shorter waits are asked for."""
MIN_WAIT_SECONDS = 2
MAX_FAILED_WAITS = 3
NO_WAITS_SECONDS = 300.0
"""How long the sidecar polls without waits, where they are interrupted at once or fail so many times in a row."""

_GATEWAY = frozenset({408, 502, 503, 504})
"""What a proxy answers that timed out or lost its server."""


def polls_without_wait(state: State, now: float) -> bool:
    """Return whether the server should answer at once."""
    return state.rules.once or not state.reached or not state.seen or now < state.no_waits_until


def longest_wait(state: State, now: float) -> int:
    """Return for how many seconds at most the server is asked to wait."""
    return min(state.rules.poll_wait, state.wait_limit) if now < state.wait_limit_until else state.rules.poll_wait


def after_answer(state: State, now: float, *, early: bool) -> State:
    """Note that the server answered. ``early``: before it had to, so it must not be polled again at once."""
    state = _learn_from_interruptions(state, now)
    polls = early or state.rules.poll_wait == 0 or now < state.no_waits_until
    return state._replace(
        reached=True,
        poll_failures=0,
        poll_at=state.polled_at + state.rules.poll_interval if polls else now,
        failed_waits=0 if state.waiting else state.failed_waits,
        interrupted_waits=0 if state.waiting else state.interrupted_waits,
        interrupted_after=0.0,
        contact_error=None,
    )


def after_not_modified(state: State, now: float, jitter: float) -> State:
    """Note that the server has no news. It may say so early once, as it does when it stops."""
    early = now - state.polled_at < min(state.waiting, state.rules.poll_interval) / 2
    stops = early and not state.was_early
    was_early = early if state.waiting else state.was_early
    state = after_answer(state, now, early=early)._replace(was_early=was_early)
    return state._replace(poll_at=now + _spread(state, jitter)) if stops else state


def is_interruption(state: State, error: DagferryError, now: float) -> bool:
    """Return whether ``error`` ended a wait that something between the server and the sidecar may have interrupted."""
    if not state.waiting or now - state.polled_at < MIN_INTERRUPTED_SECONDS:
        return False
    return isinstance(error, ServerUnreachable) or _is_from_gateway(error)


def after_interruption(state: State, now: float, jitter: float) -> State:
    """Note that a wait was interrupted; the next poll shows whether the server is there."""
    return state._replace(
        reached=False,
        poll_at=now + _spread(state, jitter),
        interrupted_waits=state.interrupted_waits + 1,
        interrupted_after=now - state.polled_at,
        interrupted_wait=state.waiting,
    )


def after_failure(state: State, error: DagferryError, now: float, jitter: float) -> State:
    """Note that the server could not be asked."""
    since = state.unreachable_since if state.poll_failures else now
    slow = state.slow_failures if state.poll_failures else 0
    if _may_be_restarting(error) and now - since < RESTART_SECONDS:
        pause = min(RESTART_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(state.poll_failures, 30))
        pause = min(pause, state.rules.poll_interval) * (0.5 + jitter / 2)
    else:
        slow += 1
        pause = backoff(state, slow, jitter)
    state = state._replace(
        reached=False,
        poll_failures=state.poll_failures + 1,
        slow_failures=slow,
        unreachable_since=since,
        poll_at=now + pause,
        interrupted_after=0.0,
        contact_error=error,
    )
    if state.waiting:
        state = state._replace(failed_waits=state.failed_waits + 1)
        if state.failed_waits >= MAX_FAILED_WAITS:
            state = _without_waits(state, now)
    return state


def _learn_from_interruptions(state: State, now: float) -> State:
    """Return what follows from a wait that was interrupted although the server is there."""
    unanswered = state.interrupted_after >= state.interrupted_wait + LATE_SECONDS
    if not state.interrupted_after or (state.interrupted_waits < MAX_INTERRUPTED_WAITS and not unanswered):
        return state
    limit = int(min(SHORTER_WAIT_SHARE * state.interrupted_after, state.interrupted_wait / 2))
    if limit < MIN_WAIT_SECONDS:
        return _without_waits(state, now)
    return state._replace(wait_limit=limit, wait_limit_until=now + WAIT_LIMIT_SECONDS, interrupted_waits=0)


def _without_waits(state: State, now: float) -> State:
    return state._replace(no_waits_until=now + NO_WAITS_SECONDS, failed_waits=MAX_FAILED_WAITS - 1)


def _spread(state: State, jitter: float) -> float:
    return min(SPREAD_SECONDS, state.rules.poll_interval) * jitter


def _may_be_restarting(error: DagferryError) -> bool:
    return isinstance(error, (ServerUnreachable, ProxyFailed)) or _is_from_gateway(error)


def _is_from_gateway(error: DagferryError) -> bool:
    return isinstance(error, ServerRefused) and error.answered in _GATEWAY
