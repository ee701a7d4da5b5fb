"""What a sidecar does next: a pure function, (state, event) → (state, action). No I/O, no clock, no chance of its own.

The rules of docs/concepts.md that are decided here:

- Within one log id it never goes to a lower sequence, nor to another content of the same one. Another log id with
  deploys is followed, with a warning; another one without deploys leaves the tree alone.
- Nothing deployed is an answer too: only then, and only if nothing is published, comes the seed or an empty tree.
- A patch that does not fit is followed at once by the whole bundle. What fails then is tried again with a growing,
  jittered delay, or as soon as the server has a newer deploy; never in a hot loop.
- A damaged tree is built again: by links if its files are sound, also without the server, else from the whole of what
  the server has. If that happens again and again, it pauses longer and longer.
- It waits by long-poll. Where waiting does not work, because something between cuts it or answers at once, it polls.
- Fresh files are touched again 10 s and 60 s after the swap, also if another swap came between.
- ``--once`` ends with 0 when it is done, or when the server cannot be asked and a whole tree is there; else it tries
  until the timeout, and ends with the exit code of what went wrong.
"""

import math

from dagferry_core.errors import (
    AnswerInvalid,
    DagferryError,
    DigestMismatch,
    PatchMismatch,
    SequenceRegressed,
    ServerUnreachable,
    TreeDamaged,
)
from dagferry_core.fetch import PATCH, WHOLE
from dagferry_core.records import DeployRef
from dagferry_sidecar.pace import backoff, longest_pause, touch_due
from dagferry_sidecar.state import (
    NO_VERSION,
    ODD,
    SAME,
    SEED,
    SOUND,
    TORN,
    Action,
    Answered,
    Ask,
    AskFailed,
    Check,
    Checked,
    Done,
    Event,
    Exit,
    NothingNew,
    Published,
    Sleep,
    Started,
    State,
    Take,
    TakeFailed,
)

TOUCH_AGAIN_SECONDS = (10.0, 60.0)
"""A parse that was under way during the swap may end after it and hide it; the longest takes 50 s by default."""
MAX_CUT_WAITS = 3
PLAIN_SECONDS = 300.0
"""After so many waits in a row that did not come to their end, it polls for so long before it waits again."""


def decide(  # noqa: PLR0911 - one way out for each event
    state: State, event: Event, now: float, chance: float
) -> tuple[State, Action]:
    """Return what is known after ``event`` and what to do; ``chance`` is a random number from 0 to 1."""
    match event:
        case Started():
            return _next(_started(state, event, now), now)
        case Answered():
            return _answered(state, event.deploy, now)
        case NothingNew():
            soon = min(state.waiting, state.rules.poll_interval) / 2
            state = _contact(state, now, quickly=now - state.asked_at < soon)
            if isinstance(state.deploy_error, SequenceRegressed):
                # The log id may have changed under the same version: so a restored backup is to be followed.
                state = state._replace(seen="")
            return (state, Exit(0)) if state.rules.once else (state._replace(looked_at=now), Check())
        case Checked():
            return _next(_checked(state, event, now), now)
        case AskFailed():
            return _ask_failed(state, event.error, now, chance)
        case TakeFailed():
            return _take_failed(state, event, now, chance)
        case Published():
            state = _published(state, event, now, chance)
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
            return state, Take(state.live, SAME)
        if state.pending and not state.ask_failures:
            return state, _take(state, state.pending)
    moments = [due for due, _ in state.touches]
    moments += [moment for moment in (state.retry_at, state.repair_at if state.damage else 0.0) if moment > now]
    if now < state.ask_at:
        return state, Sleep(min([state.ask_at, *moments]) - now)
    patience = min([float(state.rules.poll_wait), *(moment - now for moment in moments)])
    wait = 0 if _must_not_wait(state, now) else math.ceil(patience)
    return state._replace(asked_at=now, waiting=wait), Ask(state.seen, wait)


def _must_not_wait(state: State, now: float) -> bool:
    return state.rules.once or not state.met or not state.seen or now < state.plain_until


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


def _contact(state: State, now: float, *, quickly: bool) -> State:
    """Note that the server answered. ``quickly``: before it had to, so it is not to be asked again at once."""
    polls = quickly or state.rules.poll_wait == 0 or now < state.plain_until
    return state._replace(
        met=True,
        ask_failures=0,
        ask_at=state.asked_at + state.rules.poll_interval if polls else now,
        cut_waits=0 if state.waiting else state.cut_waits,
        contact_error=None,
    )


def _answered(state: State, deploy: DeployRef, now: float) -> tuple[State, Action]:
    other_log = state.live is not None and state.live.log_id != deploy.log_id
    refusal, warning = _refusal(state, deploy)
    if not refusal and now < state.repair_at and _is_live(state, deploy) and _wanted(state, deploy):
        state = state._replace(pending=deploy, retry_at=max(state.retry_at, state.repair_at))
    too_early = deploy == state.pending and now < state.retry_at
    takes = not (refusal or warning or too_early) and _wanted(state, deploy)
    # Servers that contradict each other, or do not heed If-None-Match, must not make a hot loop of asking or swapping.
    state = _contact(state, now, quickly=not takes or other_log)
    state = state._replace(seen=deploy.version or NO_VERSION, warning=warning)
    if too_early:
        return _look(state, now)
    if deploy != state.pending:
        state = state._replace(pending=None, pending_whole=False, take_failures=0, retry_at=now)
    if takes:
        if other_log and state.live and state.live.sequence:
            warning = f"The server has another log id, {deploy.log_id}, and deploys. They are followed."
            state = state._replace(warning=warning)
        return state, _take(state, deploy)
    if refusal or state.damage == SOUND:
        state = state._replace(deploy_error=refusal)
    if not state.rules.once:
        return _look(state, now)
    if state.damage != TORN:
        return state, Exit(0)
    return _try_again(state, state.error, now, now + state.rules.poll_interval)


def _refusal(state: State, deploy: DeployRef) -> tuple[DagferryError | None, str]:
    """Return the error or the warning that keeps a deploy from being taken."""
    live = state.live
    if live is None:
        lost = bool(state.damage) and deploy.sequence == 0
        return None, "Nothing is deployed, and what is published cannot be checked. It is left alone." if lost else ""
    if live.sequence and live.log_id != deploy.log_id and deploy.sequence == 0:
        return None, f"The server has another log id, {deploy.log_id}, and no deploys. The tree is left alone."
    if live.sequence == 0 or live.log_id != deploy.log_id:
        return None, ""
    text = ""
    if deploy.sequence < live.sequence:
        text = f"The server offers deploy {deploy.sequence} after {live.sequence} was taken."
    elif deploy.sequence == live.sequence and deploy != live:
        text = f"The server offers another deploy {deploy.sequence} than the one that was taken."
    return (SequenceRegressed(text) if text else None), ""


def _wanted(state: State, deploy: DeployRef) -> bool:
    if state.live is None or state.damage == TORN:
        return True
    if deploy.sequence == 0:
        return False  # the seed is published already
    return deploy != state.live


def _is_live(state: State, deploy: DeployRef) -> bool:
    """Tell by log id and sequence; the version of a seed is known only when it is published."""
    return state.live is not None and state.live[:2] == deploy[:2]


def _take(state: State, deploy: DeployRef) -> Take:
    live = state.live
    if deploy.sequence == 0:
        return Take(deploy, SEED)
    if live is None or state.damage == TORN or state.pending_whole:
        return Take(deploy, WHOLE)
    if live.digest == deploy.digest:
        return Take(deploy, SAME)
    return Take(deploy, PATCH if live.sequence else WHOLE)


# --- success and failure ---------------------------------------------------------------------------------------------


def _published(state: State, event: Published, now: float, chance: float) -> State:
    repairs = state.repairs + 1 if _is_live(state, event.deploy) else 0
    if repairs and now > state.repair_at + longest_pause(state):
        repairs = 1  # it stayed whole for long enough
    repair_at = now + backoff(state, repairs, chance) if repairs else 0.0
    state = state._replace(live=event.deploy, damage=SOUND, repairs=repairs, repair_at=repair_at)
    caught_up = state.pending is None or _is_live(state, state.pending)
    if caught_up:
        state = state._replace(pending=None, pending_whole=False, take_failures=0, retry_at=now, deploy_error=None)
    if event.fresh:
        due = tuple((now + after, event.fresh) for after in TOUCH_AGAIN_SECONDS)
        state = state._replace(touches=state.touches + due)
    return state


_WHOLE_HELPS = (PatchMismatch, DigestMismatch, TreeDamaged, AnswerInvalid)


def _take_failed(state: State, event: TakeFailed, now: float, chance: float) -> tuple[State, Action]:
    deploy, how = event.take
    if isinstance(event.error, TreeDamaged):
        state = state._replace(damage=TORN)
    if how in {PATCH, SAME} and isinstance(event.error, _WHOLE_HELPS):
        state = state._replace(pending_whole=True)
        return state, _take(state, deploy)
    repair = deploy == state.live and state.pending is not None
    failures = state.take_failures + 1
    state = state._replace(
        pending=state.pending if repair else deploy,
        take_failures=failures,
        retry_at=now + backoff(state, failures, chance),
        deploy_error=event.error,
        pending_whole=state.pending_whole
        or (how == PATCH and failures > 1 and isinstance(event.error, ServerUnreachable)),
    )
    if state.rules.once and deploy == state.live and state.damage == ODD:  # its files are sound, so a pod may start
        return _next(state._replace(pending=None), now)
    if state.rules.once:
        return _try_again(state, event.error, now, state.retry_at)
    if state.damage == TORN and state.live and state.live.sequence and deploy != state.live:
        return state, Take(state.live, WHOLE)  # the newest is no good: what was live before is to be whole at least
    return _next(state, now)


def _ask_failed(state: State, error: DagferryError, now: float, chance: float) -> tuple[State, Action]:
    failures = state.ask_failures + 1
    state = state._replace(
        met=False, ask_failures=failures, ask_at=now + backoff(state, failures, chance), contact_error=error
    )
    if state.waiting:
        state = state._replace(cut_waits=state.cut_waits + 1)
        if state.cut_waits >= MAX_CUT_WAITS:
            state = state._replace(plain_until=now + PLAIN_SECONDS, cut_waits=MAX_CUT_WAITS - 1)
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
