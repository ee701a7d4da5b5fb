"""Follows a deployment: checks what is live, then each upload that waits for it, and sends what it found.

- Until what is live was checked once, the checker says that it is warming up: no upload waits for it.
- Before each check, and whenever the server has nothing to check, it is asked what is live in the deployments beside.
- While a check runs, the server is asked now and then: so it knows that the checker is there, and a check ends early
  if its candidate is gone.
- What became live was a candidate: its result is known, and the next candidate is compared with it.
- If the server is away, or a check cannot be done, it is tried again after the pauses of all followers. What the server
  cannot answer now does not fail the check: where deploys go live unchecked after a failed one, a busy server would
  let them do so.
"""

import math
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from dagferry_checker.beside import Beside
from dagferry_checker.checking import Checking
from dagferry_checker.engine_process import Engine, Unwanted
from dagferry_checker.fetching import SERVER_ERRORS, fetch, is_for_now
from dagferry_checker.hints import hint
from dagferry_checker.judge import Elsewhere
from dagferry_checker.live import Live
from dagferry_checker.problems import Report
from dagferry_checker.trees import TreeStore
from dagferry_checker.verdicts import bounded
from dagferry_core import protocol
from dagferry_core.errors import DagferryError
from dagferry_follow import pauses
from dagferry_follow.defaults import POLL_INTERVAL_SECONDS, POLL_WAIT_SECONDS
from dagferry_follow.errors import ServerRefused, ServerUnreachable, SyncError
from dagferry_follow.log import Log
from dagferry_follow.remote.candidates import Candidate, Candidates, CheckServer, LiveDeploy
from dagferry_runtime.lines import fields
from dagferry_runtime.signals import Stopping

PRESENCE_SECONDS = 10.0
"""How often the server is asked while a check runs: after 30 s of silence, a checker counts as away."""
AGAIN_SECONDS = 15.0
"""A candidate that is still there so long after its verdict was sent gets it again: the server may have lost it."""
RESTART_PAUSE_SECONDS = 0.75
RESTART_SECONDS = 60.0
"""For so long a server that cannot be reached may be restarting, and is tried in short pauses."""
MAX_ANSWERED = 1000
MAX_LOGGED_PROBLEMS = 20

log = Log(__name__)


class Follower:
    """A running checker. ``about`` are the headers that describe it."""

    def __init__(
        self,
        server: CheckServer,
        engine: Engine,
        store: TreeStore,
        beside: Beside,
        *,
        instance: str,
        about: Mapping[str, str],
        stopping: Stopping,
        poll_wait: int = POLL_WAIT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._server = server
        self._engine = engine
        self._store = store
        self._beside = beside
        self._elsewhere: Elsewhere = {}
        self._checking = Checking(engine, store)
        self._live = Live(server, self._checking, store)
        self._instance = instance
        self._about = dict(about)
        self._stopping = stopping
        self._poll_wait = poll_wait
        self._clock = clock
        self._sleep = sleep
        self._known: Candidates | None = None
        self._warm = False
        self._answered: OrderedDict[str, float] = OrderedDict()  # when a candidate would be answered again
        self._postponed: dict[str, int] = {}  # how often the server could not answer for a candidate
        self._asked_at = 0.0
        self._failures = 0
        self._failing_since = 0.0

    def run(self) -> None:
        """Follow until ``Stopped`` is raised."""
        while True:
            self._stopping.check()
            try:
                self.step()
            except SyncError as error:
                self._pause(error)
            else:
                if self._failures:
                    log.info("Recovered", extra=fields(instance=self._instance))
                self._failures = 0

    def leave(self) -> None:
        """Tell the server that this checker ends, if it can be reached at once."""
        try:
            self._server.leave(self._headers())
        except DagferryError as error:
            log.info("Deregistration failed: %s", error.message)

    def step(self) -> None:
        """Ask the server once, and do what there is to do first."""
        known = self._known
        idle = self._warm and known is not None and self._is_current(known) and not self._next(known)
        self._ask(self._wait(known) if idle else 0)
        self._elsewhere = self._beside.learn(self._heartbeat)
        self._store.retire(self._live.tree, self._beside.trees)
        known = self._known
        if known is None:
            return
        if not (self._warm and self._is_current(known)):
            self._check_live(known.live)
        elif candidate := self._next(known):
            self._check(candidate)

    def _wait(self, known: Candidates | None) -> int:
        """Return for how many seconds the server may hold a request: a candidate may have to be answered again."""
        again = [self._answered[one.id] for one in (known.candidates if known else ()) if one.id in self._answered]
        soonest = min(again, default=float("inf")) - self._clock()
        return self._poll_wait if soonest >= self._poll_wait else max(0, math.ceil(soonest))

    def _ask(self, wait: int) -> None:
        found = self._server.candidates(self._known.tag if self._known else "", wait, self._headers())
        self._asked_at = self._clock()
        if found is not None:
            self._known = found

    def _headers(self) -> dict[str, str]:
        return self._about if self._warm else {**self._about, protocol.CHECKER: protocol.WARMING}

    def _is_current(self, known: Candidates) -> bool:
        return known.live == self._live.deploy

    def _next(self, known: Candidates) -> Candidate | None:
        now = self._clock()
        wanted = [one for one in known.candidates if self._answered.get(one.id, now) <= now]
        return min(wanted, key=lambda one: self._postponed.get(one.id, 0), default=None)  # the oldest of those

    # --- what is live ------------------------------------------------------------------------------------------------

    def _check_live(self, live: LiveDeploy | None) -> None:
        if live is None:
            self._live.forget()
        elif report := self._live.become(live, self._heartbeat, self._elsewhere):
            self._log("What is live was checked", report, live.version)
        else:
            return
        self._warm = True

    # --- candidates --------------------------------------------------------------------------------------------------

    def _check(self, candidate: Candidate) -> None:
        try:
            self._answer(candidate)
        except SyncError as error:
            if is_for_now(error):  # the server restarts, perhaps, or its store is away: it is tried again in a moment
                self._answered.pop(candidate.id, None)
                self._postpone(candidate)
            raise

    def _postpone(self, candidate: Candidate) -> None:
        """Let the others come first: that the server cannot answer may be because of this one, and for long."""
        there = {one.id for one in self._known.candidates} if self._known else set()
        self._postponed = {id_: count for id_, count in self._postponed.items() if id_ in there}
        self._postponed[candidate.id] = self._postponed.get(candidate.id, 0) + 1

    def _answer(self, candidate: Candidate) -> None:
        verdict: dict[str, Any] | None = None
        try:
            tree = fetch(
                self._store,
                lambda base: self._server.candidate(candidate.id, base),
                candidate.digest,
                self._live.deploy.version if self._live.deploy else "",
                self._live.tree,
            )
            if tree is not None:
                report = self._checking.check(tree, lambda: self._heartbeat(candidate), self._elsewhere, candidate.id)
                self._log("A candidate was checked", report, candidate.id)
                verdict = {"base": candidate.base, "digest": candidate.digest, **bounded(report, self._versions())}
        except Unwanted:
            log.info("A candidate is gone", extra=fields(instance=self._instance, candidate=candidate.id))
        except SyncError as error:
            if is_for_now(error):
                raise
            log.warning("%s", error.message, extra=fields(candidate=candidate.id, code=error.code, hint=hint(error)))
            verdict = {"failed": error.message}
        self._answered[candidate.id] = self._clock() + AGAIN_SECONDS
        self._answered.move_to_end(candidate.id)
        while len(self._answered) > MAX_ANSWERED:
            self._answered.popitem(last=False)
        if verdict is not None:
            self._server.verdict(candidate.id, {"instance": self._instance, **verdict})

    def _versions(self) -> dict[str, str]:
        return self._engine.versions._asdict()

    def _heartbeat(self, candidate: Candidate | None = None) -> bool:
        """Ask the server now and then; return whether ``candidate`` is still there, as far as is known."""
        self._stopping.check()
        if self._clock() - self._asked_at >= PRESENCE_SECONDS:
            try:
                self._ask(0)
            except SyncError as error:
                self._asked_at = self._clock()
                log.debug("The server was not reached during a check: %s", error.message)
        known = self._known
        return candidate is None or known is None or any(one.id == candidate.id for one in known.candidates)

    # --- failures and the log ----------------------------------------------------------------------------------------

    def _pause(self, error: SyncError) -> None:
        self._server.close()
        now = self._clock()
        self._failures += 1
        if self._failures == 1:
            self._failing_since = now
            log.warning(error.message, extra=fields(instance=self._instance, code=error.code, hint=hint(error)))
        restarts = isinstance(error, ServerUnreachable) or (
            isinstance(error, ServerRefused) and error.answered >= SERVER_ERRORS
        )
        if restarts and now - self._failing_since < RESTART_SECONDS:
            pause = RESTART_PAUSE_SECONDS * (0.5 + random.random() / 2)  # noqa: S311 - only jitter
        else:
            pause = pauses.backoff(self._failures, POLL_INTERVAL_SECONDS, random.random())  # noqa: S311
        self._sleep(pause)

    def _log(self, text: str, report: Report, what: str) -> None:
        log.info(
            text,
            extra=fields(
                instance=self._instance,
                what=what,
                files=report.files,
                parsed=report.parsed,
                problems=len(report.problems),
                new_problems=report.new_problem_count,
                unjudged=len(report.unjudged),
                seconds=round(report.seconds, 2),
            ),
        )
        new = [problem for problem in report.problems if problem.new]
        for problem in new[:MAX_LOGGED_PROBLEMS]:
            log.info("%s", str(problem), extra=fields(kind=problem.kind.value, what=what))
