"""The fleet of one deployment: its sidecars, its status, and who is notified when that changes.

All of this runs on the event loop. Nothing runs while nothing changes: a change starts a timer, and so does the moment
at which time alone may change the status. All changes within ``COALESCE_SECONDS`` are judged together, so a thousand
pods that report a new deploy cause a handful of evaluations, not a thousand.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from dagferry_runtime.logs import fields
from dagferry_server.fleet.merge import ALONE, Others, merged
from dagferry_server.fleet.parsed import Newest, Parsed, ParsedState, Times, judge_parsed
from dagferry_server.fleet.reporters import Reporters
from dagferry_server.fleet.sidecars import LOST_AFTER_SECONDS, Offer, Report, Sidecar, Sidecars, next_revision
from dagferry_server.fleet.status import Facts, State, Status, judge
from dagferry_server.fleet.waiters import Waiters

COALESCE_SECONDS = 0.2
"""How long changes are collected before they are judged; longer for more than ``USUAL_SIDECARS``, in proportion."""
USUAL_SIDECARS = 1000
FRESH_SECONDS = 1.0
"""How old the ages in a status may be. A change is never older than the answer."""
MAX_STATUS_WAITERS = 100
"""Requests that wait for another status of one deployment; further ones are answered at once."""
MAX_BECAME = 1000
"""How many deploys are remembered with the time at which they became current."""

log = logging.getLogger(__name__)


def _nothing() -> None:
    pass


class Change(NamedTuple):
    """The status before and now.

    ``converged_after`` and ``parsed_after`` are set once for each deploy: how many seconds it took until every pod had
    it, and until Airflow had read it.
    """

    before: Status
    after: Status
    converged_after: float | None
    parsed_after: float | None = None


class Visit:
    """A request by a sidecar, while it is answered; ``None`` is anybody else."""

    __slots__ = ("_sidecar",)

    def __init__(self, sidecar: Sidecar | None) -> None:
        self._sidecar = sidecar

    def must_be_offered(self, offer: Offer) -> bool:
        """Return whether the sender claims a version that this server never offered it.

        Its init container fetched it, or the server has restarted. Its claim counts after it was offered.
        """
        sidecar = self._sidecar
        return sidecar is not None and sidecar.live == offer.version and sidecar.offered != offer

    def offer(self, offer: Offer) -> None:
        """Note that the answer to the sender names this version as the current one."""
        if self._sidecar:
            self._sidecar.offered = offer
            self._sidecar.revision = next_revision()


class Fleet:
    """The fleet of one deployment. ``facts`` returns what is known of the deployment and its log.

    ``clock`` is monotonic; ``waiters`` are the requests that wait for another status.
    """

    def __init__(
        self, deployment: str, facts: Callable[[], Facts], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.clock = clock
        self.waiters = Waiters(MAX_STATUS_WAITERS)
        self.sidecars = Sidecars(deployment, self._note_own)
        self.reporters = Reporters(deployment, self._note, self._note_own)
        self.others: Callable[[], Others] = lambda: ALONE
        """Returns what the other servers know of this fleet."""
        self.on_own_change: Callable[[], None] = _nothing
        """Called when there is something new that only this server knows yet."""
        self.generation = next_revision()
        """Becomes another number when what was known is no longer true."""
        self.became: list[tuple[int, float]] = []
        """Deploys by sequence, with the time at which each became current; the first one also for all before it."""
        self._deployment = deployment
        self._facts = facts
        self._listener: Callable[[Change], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._changed_at = self.clock()
        self._known: Facts | None = None  # what ``_status`` was made of
        self._status: Status | None = None
        self._stale = False
        self.unsettled = False
        """Whether something changed that those who wait do not know yet; they will in a moment."""
        self._judged_at = 0.0
        self._size = 0  # how many pods were judged
        self._settled: Status | None = None
        self._converged = 0  # the newest deploy of which it is known how long it took
        self._measured = 0  # the newest deploy of which it is known how long Airflow took to read it
        self._parsed: tuple[str, Times] | None = None  # the version that was read last, and when
        self.open()

    def open(self) -> None:
        """Begin, or begin again: from now on pods ask for deploys, and it takes a full wait to hear them all."""
        self.all_heard_at = self.clock() + LOST_AFTER_SECONDS

    def forget(self) -> None:
        """Forget all sidecars, because the deployment was deleted, and answer all that wait for another status."""
        self.sidecars.known.clear()
        self.sidecars.ended = ()
        self.reporters.clear()
        self._parsed = None
        self.generation = next_revision()
        self.waiters.notify_all()
        self.mark()

    def first_of_all(self) -> None:
        """Note that the log is new: no pod can have asked for it before, so all are known."""
        self.all_heard_at = self.clock()

    def opened_log(self, sequence: int) -> None:
        """Note that a log was read whose newest deploy is ``sequence``; 0: it has none."""
        self.became = [(sequence, self.clock())]
        self._converged = self._measured = sequence
        self._parsed = None
        self._note_own(self.clock())

    def deployed(self, sequence: int) -> None:
        """Note that this deploy has just become the current one."""
        if not self.became or sequence > self.became[-1][0]:
            self.became = [*self.became[-MAX_BECAME + 1 :], (sequence, self.clock())]
        self._note_own(self.clock())

    # --- sidecars ----------------------------------------------------------------------------------------------------

    @contextmanager
    def visit(self, report: Report | None) -> Iterator[Visit]:
        """Record what a request reports; during the block, its sender counts as present."""
        sidecar = self.sidecars.record(report, self.clock()) if report else None
        if sidecar is None:
            yield Visit(None)
            return
        sidecar.open += 1
        try:
            yield Visit(sidecar)
        finally:
            sidecar.open -= 1
            sidecar.seen = self.clock()
            sidecar.revision = next_revision()

    # --- status ------------------------------------------------------------------------------------------------------

    def status(self) -> Status:
        """Return the status now."""
        now = self.clock()
        others = self.others()
        facts = self._facts()._replace(
            became=self.became,
            all_heard_at=min(self.all_heard_at, others.all_heard_at),
            crowded_until=max(self.sidecars.crowded_until, others.crowded_until),
            ended=self.sidecars.ended,
            partial=others.missing,
            asked=others.asked,
            answered=others.answered,
        )
        facts = facts._replace(partial=facts.partial or others.disagree(facts.deployment, facts.log_id, facts.head))
        status, stale = self._status, self._stale or facts != self._known
        if status is None or stale or now >= min(status.valid_until, self._judged_at + FRESH_SECONDS):
            self.sidecars.forget_lost(now)
            known, ended = merged(self.sidecars, others.heard, now)
            self._size = len(known)
            parsed, valid_until = self._judge_parsed(facts, now)
            status = judge(facts._replace(ended=ended), known, now)
            status = self._status = status._replace(parsed=parsed, valid_until=min(status.valid_until, valid_until))
            self._known, self._judged_at, self._stale = facts, now, False
        return status

    def _judge_parsed(self, facts: Facts, now: float) -> tuple[Parsed | None, float]:
        """Return what Airflow has read, and when time alone may change that; remember when it had."""
        reporters = self.reporters
        reporters.forget_silent(now)
        counting = reporters.counting(facts.log_id, now)
        if not counting:
            return None, math.inf
        newest = Newest(
            facts.version, facts.sequence, facts.digest, facts.deployed_at, facts.became, facts.converge_seconds
        )
        known = self._parsed[1] if self._parsed and self._parsed[0] == facts.version else None
        # One that this server does not know of may not have read it.
        unsure_until = math.inf if facts.partial else max(reporters.crowded_until, facts.all_heard_at)
        parsed, valid_until = judge_parsed(newest, counting, now, unsure_until=unsure_until, known=known)
        if parsed and parsed.version == facts.version:
            reporters.note_break(parsed.version, parsed.new_error_count)
            if parsed.times:
                self._parsed = parsed.version, parsed.times
        return parsed, valid_until

    @property
    def shown(self) -> Status | None:
        """The status when it was last asked for; safe to read from any thread."""
        return self._status

    def listen(self, listener: Callable[[Change], None]) -> None:
        """Call ``listener`` with each change of the status, changes within ``COALESCE_SECONDS`` together."""
        self._listener = listener
        self.mark()

    def mark(self) -> None:
        """Note that something changed that the status depends on."""
        self._note(self.clock())

    def close(self) -> None:
        """Answer all that wait for another status, and call the listener no more."""
        self._listener, self.unsettled = None, False
        if self._timer:
            self._timer.cancel()
        self.waiters.close()
        self.sidecars.flush()
        self.reporters.flush()

    def _note_own(self, now: float) -> None:
        self._note(now)
        self.on_own_change()

    def _note(self, now: float) -> None:
        self._changed_at = now
        self._stale = True
        self.unsettled = self._listener is not None
        pause = COALESCE_SECONDS * max(1.0, max(self._size, len(self.sidecars.known)) / USUAL_SIDECARS)
        self._settle_in(pause)

    def _settle_in(self, seconds: float) -> None:
        if not self._listener or seconds == math.inf:
            return
        loop = asyncio.get_running_loop()
        if self._timer:
            if self._timer.when() <= loop.time() + seconds:
                return
            self._timer.cancel()
        self._timer = loop.call_later(seconds, self._settle)

    def _settle(self) -> None:
        """Judge, and notify the listener and all who wait."""
        self._timer = None
        before, after = self._settled, self.status()
        self._settled, self.unsettled = after, False
        self.waiters.notify_all()
        if self._listener:
            try:
                change = Change(before or after, after, self._converged_after(after), self._parsed_after(after))
                self._listener(change)
            except Exception:
                log.exception(
                    "A change of a fleet's status could not be passed on", extra=fields(deployment=self._deployment)
                )
        self._settle_in(max(after.valid_until - self.clock(), COALESCE_SECONDS))

    def _converged_after(self, status: Status) -> float | None:
        sequence, time_ = self.became[-1] if self.became else (0, 0.0)
        if status.state is not State.HEALTHY or sequence <= self._converged:
            return None
        self._converged = sequence
        return max(self._changed_at - time_, 0.0)

    def _parsed_after(self, status: Status) -> float | None:
        parsed = status.parsed
        if parsed is None or parsed.state is not ParsedState.PARSED or parsed.sequence <= self._measured:
            return None
        self._measured = parsed.sequence
        return parsed.times.seconds if parsed.times else None
