"""What a sidecar does next: a pure function, (state, event) → (state, action). No I/O, no clock, no chance of its own.

The rules of docs/concepts.md that are decided here:

- Within one log id it never goes to a lower sequence, nor to another content of the same one. Another log id with
  deploys is followed, with a warning; another one without deploys leaves the tree alone.
- Nothing deployed is an answer too: it is waited for the first deploy, and nothing is published meanwhile. Only with
  ``--when-empty seed`` or ``empty``, only then, and only if nothing is published, comes the seed or an empty tree.
- A patch that does not fit is followed at once by the whole bundle. What fails then is tried again with a growing,
  jittered delay, or as soon as the server has a newer deploy; never in a hot loop.
- A damaged tree is built again: by links if its files are sound, also without the server, else from the whole of what
  the server has. If that happens again and again, it pauses longer and longer.
- It waits by long-poll: ``waiting`` has the rules for that, and ``choosing`` those for which deploy is taken.
- Fresh files are touched again 10 s and 60 s after the swap, also if another swap came between.
- ``--once`` ends with 0 when it is done, or when the server cannot be asked and a whole tree is there; else it tries
  until the timeout, and ends with the exit code of what went wrong.
"""

import math

from dagferry_core.errors import DagferryError
from dagferry_follow.errors import (
    AnswerInvalid,
    AwaitingFirstDeploy,
    DigestMismatch,
    PatchMismatch,
    SequenceRegressed,
    ServerUnreachable,
    TreeDamaged,
)
from dagferry_follow.remote.server import PATCH, WHOLE
from dagferry_follow.volume.records import DeployRef
from dagferry_sidecar.choosing import is_live, refusal, take_of, wanted
from dagferry_sidecar.pace import backoff, longest_pause, touch_due
from dagferry_sidecar.state import (
    NO_VERSION,
    ODD,
    SAME,
    SOUND,
    TORN,
    Action,
    Apply,
    ApplyFailed,
    Changed,
    Check,
    Checked,
    Done,
    Event,
    Exit,
    NotModified,
    Poll,
    PollFailed,
    Published,
    Sleep,
    Started,
    State,
)
from dagferry_sidecar.waiting import away, contact, cut, is_cut, longest_wait, must_not_wait, nothing_new

TOUCH_AGAIN_SECONDS = (10.0, 60.0)
"""A parse that was under way during the swap may end after it and hide it; the longest takes 50 s by default."""


def decide(  # noqa: PLR0911 - one way out for each event
    state: State, event: Event, now: float, jitter: float
) -> tuple[State, Action]:
    """Return what is known after ``event`` and what to do; ``jitter`` is a random number from 0 to 1."""
    match event:
        case Started():
            return _next(_started(state, event, now), now)
        case Changed():
            return _answered(state, event.deploy, now)
        case NotModified():
            state = nothing_new(state, now, jitter)
            if isinstance(state.deploy_error, SequenceRegressed):
                # The log id may have changed under the same version: so a restored backup is to be followed.
                state = state._replace(seen="")
            return (state, Exit(0)) if state.rules.once else (state._replace(looked_at=now), Check())
        case Checked():
            return _next(_checked(state, event, now), now)
        case PollFailed():
            return _ask_failed(state, event.error, now, jitter)
        case ApplyFailed():
            return _take_failed(state, event, now, jitter)
        case Published():
            state = _published(state, event, now, jitter)
            return (state, Exit(0)) if state.rules.once and state.met and not state.pending else _next(state, now)
        case Done():
            return _next(state, now)


def _next(state: State, now: float) -> tuple[State, Action]:
    state, touch = touch_due(state, now)
    if touch:
        return state, touch
    if now >= state.retry_at:
        # With --once a repair is tried once: that it fails must not keep it from asking.
        repairs = now >= state.repair_at and not (state.rules.once and state.take_failures)
        if state.live and state.damage == ODD and repairs:
            return state, Apply(state.live, SAME)
        if state.pending and not state.ask_failures:
            return state, take_of(state, state.pending)
    moments = [due for due, _ in state.touches]
    moments += [moment for moment in (state.retry_at, state.repair_at if state.damage else 0.0) if moment > now]
    if now < state.ask_at:
        return state, Sleep(min([state.ask_at, *moments]) - now)
    timeouts = min([float(longest_wait(state, now)), *(moment - now for moment in moments)])
    wait = 0 if must_not_wait(state, now) else math.ceil(timeouts)
    return state._replace(asked_at=now, waiting=wait), Poll(state.seen, wait)


def _started(state: State, event: Started, now: float) -> State:
    state = state._replace(live=event.live, damage=event.damage, looked_at=now)
    if event.damage:
        state = state._replace(deploy_error=TreeDamaged(event.text))
    if state.live and state.damage != TORN:
        state = state._replace(seen=state.live.version if state.live.sequence else NO_VERSION)
    if event.ages:
        youngest, paths = min(event.ages.values()), tuple(event.ages)
        due = tuple((now + after - youngest, paths) for after in TOUCH_AGAIN_SECONDS if after > youngest)
        state = state._replace(touches=due)
    return state


def _checked(state: State, event: Checked, now: float) -> State:
    if not event.damage:
        # A torn tree stays so until it is replaced: this check does not read contents.
        return state if state.damage != ODD else state._replace(damage=SOUND, deploy_error=None)
    if state.damage == TORN:
        return state
    state = state._replace(damage=event.damage, deploy_error=state.deploy_error or TreeDamaged(event.text))
    if event.damage == TORN:  # what is the newest now? It is to be taken whole in any case
        state = state._replace(seen="", ask_at=state.ask_at if state.ask_failures else now)
    return state


def _look(state: State, now: float) -> tuple[State, Action]:
    """Look at the tree although there is no answer, or none that changes anything; but not too often."""
    if state.rules.once or now < state.looked_at + state.rules.poll_interval:
        return _next(state, now)
    return state._replace(looked_at=now), Check()


# --- the server's word -----------------------------------------------------------------------------------------------


def _answered(state: State, deploy: DeployRef, now: float) -> tuple[State, Action]:
    other_log = state.live is not None and state.live.log_id != deploy.log_id
    refused, warning = refusal(state, deploy)
    if not refused and now < state.repair_at and is_live(state, deploy) and wanted(state, deploy):
        state = state._replace(pending=deploy, retry_at=max(state.retry_at, state.repair_at))
    too_early = deploy == state.pending and now < state.retry_at
    takes = not (refused or warning or too_early) and wanted(state, deploy)
    # Servers that contradict each other, or do not heed If-None-Match, must not make a hot loop of asking or swapping.
    waits_for_first = isinstance(refused, AwaitingFirstDeploy) and not state.seen  # it has not been asked to wait yet
    state = contact(state, now, quickly=other_log or not (takes or waits_for_first))
    state = state._replace(seen=deploy.version or NO_VERSION, warning=warning)
    if too_early:
        return _look(state, now)
    if deploy != state.pending:
        state = state._replace(pending=None, pending_whole=False, take_failures=0, retry_at=now)
    if takes:
        if other_log and state.live and state.live.sequence:
            warning = f"The server has another log id, {deploy.log_id}, and deploys. They are followed."
            state = state._replace(warning=warning)
        return state, take_of(state, deploy)
    if refused or state.damage == SOUND:
        state = state._replace(deploy_error=refused)
    if not state.rules.once:
        return _look(state, now)
    if state.live and state.damage != TORN:
        return state, Exit(0)
    return _try_again(state, state.error, now, now + state.rules.poll_interval)


# --- success and failure ---------------------------------------------------------------------------------------------


def _published(state: State, event: Published, now: float, jitter: float) -> State:
    repairs = state.repairs + 1 if is_live(state, event.deploy) else 0
    if repairs and now > state.repair_at + longest_pause(state):
        repairs = 1  # it stayed whole for long enough
    repair_at = now + backoff(state, repairs, jitter) if repairs else 0.0
    state = state._replace(live=event.deploy, damage=SOUND, repairs=repairs, repair_at=repair_at)
    caught_up = state.pending is None or is_live(state, state.pending)
    if caught_up:
        state = state._replace(pending=None, pending_whole=False, take_failures=0, retry_at=now, deploy_error=None)
    if not repairs:
        state = state._replace(was_quick=False)  # a server that has news is not one that does not wait
    if event.fresh:
        due = tuple((now + after, event.fresh) for after in TOUCH_AGAIN_SECONDS)
        state = state._replace(touches=state.touches + due)
    return state


_WHOLE_HELPS = (PatchMismatch, DigestMismatch, TreeDamaged, AnswerInvalid)


def _take_failed(state: State, event: ApplyFailed, now: float, jitter: float) -> tuple[State, Action]:
    deploy, how = event.take
    if isinstance(event.error, TreeDamaged):
        state = state._replace(damage=TORN)
    if how in {PATCH, SAME} and isinstance(event.error, _WHOLE_HELPS):
        state = state._replace(pending_whole=True)
        return state, take_of(state, deploy)
    repair = deploy == state.live and state.pending is not None
    failures = state.take_failures + 1
    state = state._replace(
        pending=state.pending if repair else deploy,
        take_failures=failures,
        retry_at=now + backoff(state, failures, jitter),
        deploy_error=event.error,
        # A server that cannot make the patch in time has the whole bundle.
        pending_whole=state.pending_whole
        or (how == PATCH and failures > 1 and isinstance(event.error, ServerUnreachable)),
    )
    if state.rules.once and deploy == state.live and state.damage == ODD:  # its files are sound, so a pod may start
        return _next(state._replace(pending=None), now)
    if state.rules.once:
        return _try_again(state, event.error, now, state.retry_at)
    if state.damage == TORN and state.live and state.live.sequence and deploy != state.live:
        return state, Apply(state.live, WHOLE)  # the newest is no good: what was live before is to be whole at least
    return _next(state, now)


def _ask_failed(state: State, error: DagferryError, now: float, jitter: float) -> tuple[State, Action]:
    if is_cut(state, error, now):
        return _look(cut(state, now, jitter), now)
    state = away(state, error, now, jitter)
    if not state.rules.once:
        return _look(state, now)
    if state.live and state.damage != TORN:
        return state._replace(warning=f"{error.message.rstrip('.')}. What is published stays."), Exit(0)
    return _try_again(state, error, now, state.ask_at)


def _try_again(state: State, error: DagferryError | None, now: float, at: float) -> tuple[State, Action]:
    if now >= state.rules.deadline:
        return state, Exit(error.exit_code if error else TreeDamaged.exit_code)
    at = min(at, state.rules.deadline)
    return state._replace(ask_at=at, retry_at=at, seen=""), Sleep(at - now)
