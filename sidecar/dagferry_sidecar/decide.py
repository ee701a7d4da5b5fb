"""What a sidecar does next: a pure function, (state, event) → (state, action). No I/O, no clock, no randomness.

The rules of docs/explanation/how-a-swap-works.md that are decided here:

- A patch that does not fit is followed at once by the whole bundle. If that fails too, it is tried again after a
  growing, jittered pause, or as soon as the server has a newer deploy; never in a hot loop.
- A damaged tree is built again: by links if its files are intact, also without the server, else from the whole bundle
  of the newest deploy. If that happens again and again, the pauses between two repairs grow.
- A server that lacks the live deploy, and shares its store with others, may just be behind. It is asked again, and that
  is an error only after ``MAX_BEHIND_SECONDS``.
- Fresh files are touched again 10 s and 60 s after the swap, also if another swap came between.
- ``--once`` ends with 0 when it is done, or when the server cannot be asked and an intact tree is there; else it tries
  until the timeout, and ends with the exit code of what went wrong.

Which deploy is applied, and how, is decided by ``dagferry_follow.choose``; when the server is polled, and for how long
it is asked to wait, by ``waiting``.
"""

import math

from dagferry_core.errors import DagferryError
from dagferry_core.protocol import NOTHING_TAG
from dagferry_follow.choose import Choice, Condition, How, Nothing, Refuse, choose, how_to_apply, whole_may_help
from dagferry_follow.defaults import TOUCH_AGAIN_SECONDS
from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import (
    AwaitingFirstDeploy,
    LogRewritten,
    SequenceRegressed,
    ServerUnreachable,
    TreeDamaged,
)
from dagferry_follow.witness import MAX_BEHIND_SECONDS, Stated, rewritten
from dagferry_sidecar.pace import backoff, touch_due
from dagferry_sidecar.state import (
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
from dagferry_sidecar.waiting import (
    after_answer,
    after_failure,
    after_interruption,
    after_not_modified,
    is_interruption,
    longest_wait,
    polls_without_wait,
)


def decide(  # noqa: PLR0911 - one way out for each event
    state: State, event: Event, now: float, jitter: float
) -> tuple[State, Action]:
    """Return what is known after ``event`` and what to do; ``jitter`` is a random number from 0 to 1."""
    match event:
        case Started():
            return _next(_started(state, event, now), now)
        case Changed():
            return _changed(state, event.deploy, event.stated, now)
        case NotModified():
            state = _not_modified(after_not_modified(state, now, jitter), event.stated)
            return (state, Exit(0)) if state.rules.once else (state._replace(checked_at=now), Check())
        case Checked():
            return _next(_checked(state, event, now), now)
        case PollFailed():
            return _poll_failed(state, event.error, now, jitter)
        case ApplyFailed():
            return _apply_failed(state, event, now, jitter)
        case Published():
            state = _published(state, event, now, jitter)
            done = state.rules.once and state.reached and not state.pending
            return (state, Exit(0)) if done else _next(state, now)
        case Done():
            return _next(state, now)


def _next(state: State, now: float) -> tuple[State, Action]:
    """Return the first of these that is due: a touch, a repair by links, the pending deploy, a poll; else sleep."""
    state, touch = touch_due(state, now)
    if touch:
        return state, touch
    repair_at = state.repairs.not_before
    if now >= state.retry_at:
        # With --once a repair is tried once: if it fails, the server must be polled all the same.
        may_repair = now >= repair_at and not (state.rules.once and state.apply_failures)
        if state.live and state.condition is Condition.UNEXPECTED and may_repair:
            return state, Apply(state.live, How.SAME)
        # With --once nothing else asks whether there is a newer deploy by now, so that comes before another attempt.
        asks_first = state.rules.once and state.apply_failures
        if state.pending and not state.poll_failures and not asks_first:
            return state, _apply(state, state.pending)
    damaged = state.condition is not Condition.INTACT
    moments = [due for due, _ in state.touches]
    moments += [moment for moment in (state.retry_at, repair_at if damaged else 0.0) if moment > now]
    if now < state.poll_at:
        return state, Sleep(min([state.poll_at, *moments]) - now)
    longest = min([float(longest_wait(state, now)), *(moment - now for moment in moments)])
    wait = 0 if polls_without_wait(state, now) else math.ceil(longest)
    return state._replace(polled_at=now, waiting=wait), Poll(state.seen, wait)


def _apply(state: State, deploy: DeployRef) -> Apply:
    return Apply(deploy, how_to_apply(state.live, state.condition, deploy, whole=state.pending_whole))


def _started(state: State, event: Started, now: float) -> State:
    state = state._replace(live=event.live, condition=event.condition, checked_at=now)
    if event.condition is not Condition.INTACT:
        state = state._replace(deploy_error=TreeDamaged(event.text))
    if _can_run(state) and state.live:
        state = state._replace(seen=state.live.version if state.live.sequence else NOTHING_TAG)
    if event.ages:
        youngest, paths = min(event.ages.values()), tuple(event.ages)
        due = tuple((now + after - youngest, paths) for after in TOUCH_AGAIN_SECONDS if after > youngest)
        state = state._replace(touches=due)
    return state


def _checked(state: State, event: Checked, now: float) -> State:
    if state.condition is Condition.CORRUPT:  # until the tree is replaced: this check does not read contents
        return state
    if event.condition is Condition.INTACT:
        if state.condition is Condition.UNEXPECTED:
            state = state._replace(condition=Condition.INTACT, deploy_error=None)
        return state
    state = state._replace(condition=event.condition, deploy_error=state.deploy_error or TreeDamaged(event.text))
    if event.condition is Condition.CORRUPT:  # poll for the newest deploy, whatever it is: it is applied as a whole
        state = state._replace(seen="", poll_at=state.poll_at if state.poll_failures else now)
    return state


def _check_or_next(state: State, now: float) -> tuple[State, Action]:
    """Check the tree although the server has no news, or does not answer; but not too often."""
    if state.rules.once or now < state.checked_at + state.rules.poll_interval:
        return _next(state, now)
    return state._replace(checked_at=now), Check()


def _can_run(state: State) -> bool:
    """Return whether a tree is published whose files are all as they should be."""
    return state.live is not None and state.condition is not Condition.CORRUPT


def _is_live(state: State, deploy: DeployRef) -> bool:
    """Compare log id and sequence; the version of a seed is known only when it is published."""
    return state.live is not None and state.live[:2] == deploy[:2]


# --- what the server answered ----------------------------------------------------------------------------------------


def _not_modified(state: State, stated: Stated | None) -> State:
    error = rewritten(state.live, stated) if state.live else None
    if error:
        state = state._replace(deploy_error=error, pending=None, pending_whole=False, apply_failures=0)
        state = state._replace(warning=error.message if state.rules.once else "")
    if state.behind_since is not None or isinstance(state.deploy_error, (SequenceRegressed, LogRewritten)):
        # The log id may have changed under the same version, as after a restore from a backup: ask for it.
        state = state._replace(seen="")
    return state


def _wait_if_behind(state: State, choice: Choice, now: float) -> tuple[State, Choice]:
    """Turn a refusal because the server is behind into a mere warning, for the first ``MAX_BEHIND_SECONDS``."""
    if not isinstance(choice, Refuse) or not choice.behind or not choice.error:
        return state._replace(behind_since=None), choice
    since = now if state.behind_since is None else state.behind_since
    state = state._replace(behind_since=since)
    if now - since >= MAX_BEHIND_SECONDS:
        return state, choice
    return state, Refuse(None, f"{choice.error.message} It shares its store with others and may be behind.")


def _changed(state: State, deploy: DeployRef, stated: Stated | None, now: float) -> tuple[State, Action]:
    deploy = deploy.known_as(state.live)
    whole = state.pending_whole and deploy == state.pending
    choice = choose(state.live, state.condition, deploy, state.rules.when_empty, whole=whole, stated=stated)
    state, choice = _wait_if_behind(state, choice, now)
    how = None if isinstance(choice, (Refuse, Nothing)) else choice.how
    error = choice.error if isinstance(choice, Refuse) else None
    if how and now < state.repairs.not_before and _is_live(state, deploy):
        state = state._replace(pending=deploy, retry_at=max(state.retry_at, state.repairs.not_before))
    too_early = deploy == state.pending and now < state.retry_at and not isinstance(choice, Refuse)
    applies = how is not None and not too_early
    # Servers that contradict each other, or ignore If-None-Match, must cause no hot loop of polls or swaps.
    other_log = state.live is not None and state.live.log_id != deploy.log_id
    waits_for_first = isinstance(error, AwaitingFirstDeploy) and not state.seen  # it has not been asked to wait yet
    # A server offers the live deploy once, before this pod counts as one that has it.
    is_offered = isinstance(choice, Nothing) and deploy == state.live and not state.waiting
    state = after_answer(state, now, early=other_log or not (applies or waits_for_first or is_offered))
    state = state._replace(seen=deploy.version or NOTHING_TAG)
    state = state._replace(warning="" if isinstance(choice, Nothing) else choice.warning)
    if too_early:
        return _check_or_next(state, now)
    if deploy != state.pending or isinstance(choice, Refuse):
        state = state._replace(pending=None, pending_whole=False, apply_failures=0, retry_at=now)
    if how:
        return state, Apply(deploy, how)
    if error or state.condition is Condition.INTACT:
        state = state._replace(deploy_error=error)
    if not state.rules.once:
        return _check_or_next(state, now)
    if _can_run(state):
        return state, Exit(0)
    return _retry_once(state, state.error, now, now + state.rules.poll_interval)


def _poll_failed(state: State, error: DagferryError, now: float, jitter: float) -> tuple[State, Action]:
    if is_interruption(state, error, now):
        return _check_or_next(after_interruption(state, now, jitter), now)
    state = after_failure(state, error, now, jitter)
    if not state.rules.once:
        return _check_or_next(state, now)
    if _can_run(state):
        return state._replace(warning=f"{error.message.rstrip('.')}. The live tree stays."), Exit(0)
    return _retry_once(state, error, now, state.poll_at)


# --- the result of applying a deploy ---------------------------------------------------------------------------------


def _published(state: State, event: Published, now: float, jitter: float) -> State:
    repaired = _is_live(state, event.deploy)
    repairs = state.repairs.after_publish(repaired=repaired, now=now, first=state.rules.poll_interval, jitter=jitter)
    state = state._replace(live=event.deploy, condition=Condition.INTACT, repairs=repairs)
    caught_up = state.pending is None or _is_live(state, state.pending)
    if caught_up:
        state = state._replace(pending=None, pending_whole=False, apply_failures=0, retry_at=now, deploy_error=None)
    if not repaired:
        state = state._replace(was_early=False)  # a server that had news may answer early
    if event.fresh:
        due = tuple((now + after, event.fresh) for after in TOUCH_AGAIN_SECONDS)
        state = state._replace(touches=state.touches + due)
    return state


def _apply_failed(state: State, event: ApplyFailed, now: float, jitter: float) -> tuple[State, Action]:
    deploy, how = event.action
    if isinstance(event.error, TreeDamaged):
        state = state._replace(condition=Condition.CORRUPT)
    if whole_may_help(how, event.error):
        state = state._replace(pending_whole=True)
        return state, _apply(state, deploy)
    is_repair = deploy == state.live and state.pending is not None
    failures = state.apply_failures + 1
    state = state._replace(
        pending=state.pending if is_repair else deploy,
        apply_failures=failures,
        retry_at=now + backoff(state, failures, jitter),
        deploy_error=event.error,
        # A server that cannot make the patch in time has the whole bundle.
        pending_whole=state.pending_whole
        or (how is How.PATCH and failures > 1 and isinstance(event.error, ServerUnreachable)),
    )
    if state.rules.once and deploy == state.live and state.condition is Condition.UNEXPECTED:
        return _next(state._replace(pending=None), now)  # its files are intact, so a pod may start
    if state.rules.once:
        return _retry_once(state, event.error, now, state.retry_at)
    if state.condition is Condition.CORRUPT and state.live and state.live.sequence and deploy != state.live:
        return state, Apply(state.live, How.WHOLE)  # the newest cannot be applied: repair what was live before
    return _next(state, now)


def _retry_once(state: State, error: DagferryError | None, now: float, at: float) -> tuple[State, Action]:
    """With ``--once``: start again at ``at``, or give up when the timeout is over."""
    if now >= state.rules.deadline:
        return state, Exit(error.exit_code if error else TreeDamaged.exit_code)
    at = min(at, state.rules.deadline)
    return state._replace(poll_at=at, retry_at=at, seen=""), Sleep(at - now)
