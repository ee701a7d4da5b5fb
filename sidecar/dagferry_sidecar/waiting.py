"""How long the server is asked to wait, and when it is asked again. As pure as ``decide``.

Rules:

- A server that is gone for a moment, as in a restart, is asked again every half second or so for a minute. Then, and
  after any other failure, the pauses grow.
- A wait that was cut is no failure if the server answers the next question: something between has no patience for it.
  If that happens twice in a row, or a wait is not answered at all, shorter waits are asked for, for an hour.
- Where not even waits of 2 s work, it polls for a while.
"""

from dagferry_core.errors import DagferryError
from dagferry_follow.errors import ProxyFailed, ServerRefused, ServerUnreachable
from dagferry_sidecar.pace import backoff
from dagferry_sidecar.state import State

RESTART_SECONDS = 60.0
RESTART_PAUSE_SECONDS = 0.75
FIRST_PAUSE_SECONDS = 0.1
SPREAD_SECONDS = 0.5
"""Over how long those spread who were all cut off at the same moment."""
MIN_CUT_SECONDS = 2.0
"""What ends a wait sooner is a failure."""
LATE_SECONDS = 5.0
"""No server answers a wait so late."""
MAX_CUT_WAITS = 2
"""So many in a row are no accident."""
CUT_SHARE = 0.75
LEARNED_SECONDS = 3600.0
MIN_WAIT_SECONDS = 2
MAX_FAILED_WAITS = 3
PLAIN_SECONDS = 300.0
"""How long it polls, where waits are cut at once or fail so many times in a row."""

_GATEWAY = frozenset({408, 502, 503, 504})
"""What a proxy answers that lost patience or its server."""


def must_not_wait(state: State, now: float) -> bool:
    """Return whether the server is to answer at once."""
    return state.rules.once or not state.met or not state.seen or now < state.plain_until


def longest_wait(state: State, now: float) -> int:
    """Return for how many seconds at most the server is asked to wait."""
    return min(state.rules.poll_wait, state.wait_limit) if now < state.wait_limit_until else state.rules.poll_wait


def contact(state: State, now: float, *, quickly: bool) -> State:
    """Note that the server answered. ``quickly``: before it had to, so it is not to be asked again at once."""
    state = _learned(state, now)
    polls = quickly or state.rules.poll_wait == 0 or now < state.plain_until
    return state._replace(
        met=True,
        ask_failures=0,
        ask_at=state.asked_at + state.rules.poll_interval if polls else now,
        failed_waits=0 if state.waiting else state.failed_waits,
        cut_waits=0 if state.waiting else state.cut_waits,
        cut_after=0.0,
        contact_error=None,
    )


def nothing_new(state: State, now: float, jitter: float) -> State:
    """Note that the server said so. Once it may say so before its time, as it does when it stops."""
    quickly = now - state.asked_at < min(state.waiting, state.rules.poll_interval) / 2
    stops = quickly and not state.was_quick
    was_quick = quickly if state.waiting else state.was_quick
    state = contact(state, now, quickly=quickly)._replace(was_quick=was_quick)
    return state._replace(ask_at=now + _soon(state, jitter)) if stops else state


def is_cut(state: State, error: DagferryError, now: float) -> bool:
    """Return whether this is a wait that something between the server and here may have ended."""
    if not state.waiting or now - state.asked_at < MIN_CUT_SECONDS:
        return False
    return isinstance(error, ServerUnreachable) or _from_gateway(error)


def cut(state: State, now: float, jitter: float) -> State:
    """Note that a wait was cut; the next question tells whether the server is there."""
    return state._replace(
        met=False,
        ask_at=now + _soon(state, jitter),
        cut_waits=state.cut_waits + 1,
        cut_after=now - state.asked_at,
        cut_wait=state.waiting,
    )


def away(state: State, error: DagferryError, now: float, jitter: float) -> State:
    """Note that the server could not be asked."""
    since = state.away_since if state.ask_failures else now
    slow = state.slow_failures if state.ask_failures else 0
    if _passes(error) and now - since < RESTART_SECONDS:
        pause = min(RESTART_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(state.ask_failures, 30))
        pause = min(pause, state.rules.poll_interval) * (0.5 + jitter / 2)
    else:
        slow += 1
        pause = backoff(state, slow, jitter)
    state = state._replace(
        met=False,
        ask_failures=state.ask_failures + 1,
        slow_failures=slow,
        away_since=since,
        ask_at=now + pause,
        cut_after=0.0,
        contact_error=error,
    )
    if state.waiting:
        state = state._replace(failed_waits=state.failed_waits + 1)
        if state.failed_waits >= MAX_FAILED_WAITS:
            state = _plain(state, now)
    return state


def _learned(state: State, now: float) -> State:
    """Return what follows from a wait that was cut although the server is there."""
    unanswered = state.cut_after >= state.cut_wait + LATE_SECONDS
    if not state.cut_after or (state.cut_waits < MAX_CUT_WAITS and not unanswered):
        return state
    limit = int(min(CUT_SHARE * state.cut_after, state.cut_wait / 2))
    if limit < MIN_WAIT_SECONDS:
        return _plain(state, now)
    return state._replace(wait_limit=limit, wait_limit_until=now + LEARNED_SECONDS, cut_waits=0)


def _plain(state: State, now: float) -> State:
    return state._replace(plain_until=now + PLAIN_SECONDS, failed_waits=MAX_FAILED_WAITS - 1)


def _soon(state: State, jitter: float) -> float:
    return min(SPREAD_SECONDS, state.rules.poll_interval) * jitter


def _passes(error: DagferryError) -> bool:
    return isinstance(error, (ServerUnreachable, ProxyFailed)) or _from_gateway(error)


def _from_gateway(error: DagferryError) -> bool:
    return isinstance(error, ServerRefused) and error.answered in _GATEWAY
