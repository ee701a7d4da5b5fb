"""Whether Airflow can import what is to be deployed: deploys wait for a checker's verdict, and are judged by it.

A commit judges everything else first. If the content has no verdict yet, it becomes a candidate instead of a deploy,
and the request waits, without any lock or slot, for as long as ``check-seconds``. Then the commit starts over, from
what is live by then. So nothing goes live with another digest than the one that was checked. See docs/adr/0047.

Only problems are refused that what is live does not have: else nobody could deploy beside a file that is broken.

A check goes on when the request that caused it has ended. What it finds is remembered for an hour, and the same content
again is answered by it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple, TypeVar

from dagferry_core.deploylog import ROLLBACK
from dagferry_runtime.logs import fields, log_failure
from dagferry_server.background import Background, log_if_failed
from dagferry_server.daemon_threads import DaemonThreads
from dagferry_server.deploys.candidates import (
    Candidate,
    Notes,
    add_candidate,
    candidate_id,
    expire,
    forget_verdicts,
    read_notes,
    remove_checker,
    write_checker,
    write_verdict,
)
from dagferry_server.deploys.checkers import AWAY_SECONDS, BEAT_SECONDS
from dagferry_server.deploys.checking import AWAY, FAILED, OVERTIME, PASSED, PROBLEMS, Refused
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.deploys.deployments import Deployments
from dagferry_server.deploys.import_verdict import judge_content
from dagferry_server.deploys.request import DeployRequest, ImportCheck
from dagferry_server.deploys.verdict import Problem, Verdict, encode_verdict
from dagferry_server.errors import (
    CandidateGone,
    CheckerAway,
    ImportCheckPending,
    ImportCheckRefused,
    RequestError,
    ServerError,
    ShuttingDown,
    StoreAway,
    StoreError,
)
from dagferry_server.metrics import Metrics
from dagferry_server.store.base import Store

GIVE_UP_SECONDS = 600.0
"""How old a check may become; then `import-check-away` decides, as if no checker was connected."""
RENEW_SECONDS = 60.0
"""How old a verdict is, by the storage's clock, when a checker that starts makes it void: who waits has it by then."""
LOOK_SECONDS = 10.0
"""The timeout of one look at the store."""
EXPIRE_SECONDS = 600.0
"""How often candidates that are too old are removed."""
THREADS = 4

_Value = TypeVar("_Value")

log = logging.getLogger(__name__)


class Waiting(NamedTuple):
    """A deploy that waits for the verdict on ``candidate``, until ``deadline`` by the deployment's clock at most."""

    candidate: Candidate
    check: ImportCheck
    deadline: float


class ImportChecks:
    """The import checks of all deployments. ``clock`` gives seconds since the epoch."""

    def __init__(
        self,
        store: Store,
        deployments: Deployments,
        metrics: Metrics,
        background: Background,
        *,
        poll_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._deployments = deployments
        self._metrics = metrics
        self._background = background
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._threads = DaemonThreads(THREADS, "check")
        self._polling: dict[str, asyncio.Task[None]] = {}

    # --- what a deploy needs -----------------------------------------------------------------------------------------

    def plan(self, deployment: Deployment, request: DeployRequest) -> ImportCheck | None:
        """Return how a deploy is to be checked; ``None``: not at all.

        If no checker can do it now, that is in the result. It becomes a warning or an error when all else is judged, if
        there is no verdict from before.
        """
        if request.kind == ROLLBACK or request.skip_import_check:
            return None
        settings, checking = deployment.settings, deployment.checking
        policy = checking.policy(settings.import_check)
        if policy == "off":
            return None
        check = ImportCheck(policy)
        return check if self._away_at(deployment, check) > checking.clock() else self._away(deployment, check)

    def _away_at(self, deployment: Deployment, check: ImportCheck) -> float:
        """Return when no checker counts as connected any more.

        A server that has just started cannot know of one: where deploys may be refused, it gives them time to ask.
        """
        checking = deployment.checking
        grace = checking.started + AWAY_SECONDS if check.policy == "block" else float("-inf")
        return max(checking.checkers.away_at, grace)

    def _away(self, deployment: Deployment, check: ImportCheck) -> ImportCheck:
        heard = deployment.checking.checkers.heard
        if heard:
            why = f"the checker {heard[0].greeting.instance} is still checking what is live"
        elif deployment.checking.checkers.known:
            why = f"no checker was heard for {AWAY_SECONDS:.0f} s"
        else:
            why = "no checker is connected"
        return self._unchecked(deployment, check, AWAY, why)

    def _unchecked(self, deployment: Deployment, check: ImportCheck, outcome: str, why: str) -> ImportCheck:
        """Return the check of a deploy that gets no verdict: it goes live with a warning, or is rejected."""
        check = check._replace(outcome=outcome, why=why)
        if check.policy == "block" and deployment.settings.import_check_away == "closed":
            error = CheckerAway(
                f"The DAG files cannot be imported before they go live to {deployment.name}: {why}. Nothing was "
                "deployed."
            )
            return check._replace(error=error)
        return check._replace(note=f"The DAG files were not imported by a checker before they went live: {why}.")

    def judge(self, deployment: Deployment, digest: str, request: DeployRequest) -> list[str] | None:
        """Return warnings about a content that would be current next; ``None`` if it has to be checked first.

        Called in a thread, under the deployment's lock. Raises ``ImportCheckRefused`` and ``CheckerAway``.
        """
        check = request.import_check
        if check is None:
            return []
        name, known, live = deployment.name, deployment.checking.notes, deployment.current
        judged = judge_content(name, check.policy, known, digest, live)
        if judged is not None or not check.outcome:
            return judged
        with suppress(StoreError):  # another server may have got a verdict that nobody here waited for
            judged = judge_content(name, check.policy, read_notes(self._store, name, known), digest, live)
        if judged is None:
            self._note_unchecked(deployment, check)
            if check.error:
                raise check.error
            return [check.note]
        return judged

    def _note_unchecked(self, deployment: Deployment, check: ImportCheck) -> None:
        self._metrics.import_checks.labels(deployment.name, check.outcome).inc()
        about = {"deployment": deployment.name, "outcome": check.outcome, "reason": check.why}
        log.warning("Import check not done", extra=fields(**about))

    def add(self, deployment: Deployment, digest: str, request: DeployRequest) -> Candidate:
        """Make a candidate of a content whose bundle is stored, or find it; in a thread, as ``judge``.

        Raises ``TooManyUploads`` and ``StoreError``.
        """
        base = deployment.current.version if deployment.current else ""
        id_ = candidate_id(deployment.log_id, base, digest)
        created = int(self._clock())
        candidate = Candidate(id_, base, digest, request.actor, request.description, created)
        add_candidate(self._store, deployment.name, candidate)
        return candidate

    async def wait(self, deployment: Deployment, waiting: Waiting) -> ImportCheck:
        """Return when there is a verdict on a candidate, or when there will be none in time: the result says which.

        Raises ``ImportCheckPending``, ``ShuttingDown``, and ``DeploymentNotFound`` if the deployment was removed.
        """
        candidate, check, deadline = waiting
        checking = deployment.checking
        with checking.held(), self.polled(deployment), self._looking(deployment) as look:
            while True:
                self._refuse_if_stopping()
                self._deployments.find(deployment.name)
                verdict = checking.notes.verdicts.get(candidate.id)
                if verdict and not verdict.failed:
                    return check
                if verdict and look.done():  # before, it is perhaps that of the check before this one
                    why = f"the checker could not do it: {verdict.failed}"
                    return self._unchecked(deployment, check, FAILED, why.rstrip("."))
                now, away_at = checking.clock(), self._away_at(deployment, check)
                if now >= away_at:
                    return self._away(deployment, check)
                if now >= deadline:
                    return self._overtime(deployment, waiting, now)
                await checking.wait(min(away_at, deadline) - now, look)

    def _refuse_if_stopping(self) -> None:
        if self._background.stopping:
            raise ShuttingDown(
                "The server is stopping. The DAG files are still being checked, and nothing was deployed.",
                "Deploy the same content again: that does not start the check anew.",
            )

    def _overtime(self, deployment: Deployment, waiting: Waiting, now: float) -> ImportCheck:
        seconds = deployment.settings.check_seconds
        why = f"importing them was not finished within {seconds} s"
        age = now - deployment.checking.first_seen.get(waiting.candidate.id, now)
        gives_up = age > GIVE_UP_SECONDS and deployment.settings.import_check_away == "open"
        if waiting.check.policy == "block" and not gives_up:
            self._metrics.import_checks.labels(deployment.name, OVERTIME).inc()
            raise ImportCheckPending(
                f"The DAG files are being imported by a checker before they go live to {deployment.name}; {why}, and "
                "goes on."
            )
        return self._unchecked(deployment, waiting.check, OVERTIME, why)

    def note_refused(self, deployment: Deployment, request: DeployRequest, error: ImportCheckRefused) -> None:
        """Count, log and remember a refusal."""
        name, count = deployment.name, error.details["problem_count"]
        problems = [Problem(**problem, new=True) for problem in error.details["problems"]]
        if not request.dry_run:
            self._metrics.refusals.labels(name, error.code).inc()
            deployment.checking.refuse(Refused(request.actor, int(self._clock()), problems))
        who = {"deployment": name, "actor": request.actor, "kind": request.kind, "dry_run": request.dry_run}
        first = problems[0].sentence if problems else None  # a checker may only have counted them
        log.warning("Deploy refused", extra=fields(**who, code=error.code, problems=count, first=first))

    # --- what a checker needs ----------------------------------------------------------------------------------------

    async def candidate(self, deployment: Deployment, id_: str) -> Candidate:
        """Return a candidate; ``CandidateGone`` if there is none. Raises ``StoreError``."""
        if id_ not in deployment.checking.notes.candidates:
            await self.look(deployment)
        candidate = deployment.checking.notes.candidates.get(id_)
        if candidate is None:
            raise CandidateGone(f"{deployment.name} has no candidate {id_[:32]!r}.")
        return candidate

    async def decide(self, deployment: Deployment, id_: str, verdict: Verdict) -> None:
        """Store the verdict on a candidate, and let those who wait for it go on. A second one changes nothing.

        That of another server is seen in the store: only of two at the same time, the later one may count.
        Raises ``CandidateGone``, ``RequestError`` if it is about another content, and ``StoreError``.
        """
        candidate = await self.candidate(deployment, id_)
        about = verdict.digest, verdict.base
        if not verdict.failed and about != (candidate.digest, candidate.base):
            raise RequestError(
                f"The verdict is about {about[0][:80]!r} on top of {about[1]!r}, and the candidate is "
                f"{candidate.digest} on top of {candidate.base!r}."
            )
        checking = deployment.checking
        known = checking.notes.verdicts.get(id_)
        if known and not known.failed:
            return
        data = encode_verdict(verdict)
        async with checking.deciding:
            is_first = await asyncio.to_thread(write_verdict, self._store, deployment.name, id_, data)
        seconds = checking.clock() - checking.first_seen.get(id_, checking.clock())
        await self.look(deployment)
        if not is_first:
            return
        outcome = FAILED if verdict.failed else PROBLEMS if verdict.new_problem_count else PASSED
        if not verdict.failed:
            self._metrics.import_checks.labels(deployment.name, outcome).inc()
            self._metrics.import_check_seconds.labels(deployment.name).observe(seconds)
        log.info(
            "Candidate checked",
            extra=fields(
                deployment=deployment.name,
                candidate=id_,
                digest=candidate.digest,
                base=candidate.base,
                instance=verdict.instance,
                outcome=outcome,
                error=verdict.failed or None,
                problems=verdict.problem_count,
                new_problems=verdict.new_problem_count,
                unjudged=len(verdict.unjudged),
                files=verdict.files,
                seconds=round(seconds, 3),
            ),
        )

    async def renew(self, deployment: Deployment) -> None:
        """Forget the verdicts of before: a checker has started, perhaps with another image.

        Raises ``StoreError``: a checker that gets no answer asks anew, and no old verdict counts unnoticed.
        """
        if await self._call(lambda: forget_verdicts(self._store, deployment.name, RENEW_SECONDS)):
            await self.look(deployment)

    async def leave(self, deployment: Deployment, instance: str) -> None:
        """Let other servers know that a checker has ended."""
        if self._store.shared:
            with suppress(StoreError):
                await asyncio.to_thread(remove_checker, self._store, deployment.name, instance)

    # --- looks at the store ------------------------------------------------------------------------------------------

    async def look(self, deployment: Deployment) -> None:
        """Learn what the store has about candidates. Callers that come during a look share the next one.

        Raises ``StoreError`` if it cannot be asked; then nothing changes.
        """

        async def read() -> None:
            known = deployment.checking.notes
            notes: Notes = await self._call(lambda: read_notes(self._store, deployment.name, known))
            deployment.checking.replace(notes)

        await deployment.checking.looks.run(read)

    async def _look_quietly(self, deployment: Deployment) -> None:
        with suppress(StoreError):  # the task that follows the store logs it
            await self.look(deployment)

    @contextmanager
    def _looking(self, deployment: Deployment) -> Iterator["asyncio.Task[None]"]:
        """Look at the store during the block, once. If it hangs, that holds nobody longer than they want to wait."""
        task = asyncio.create_task(self._look_quietly(deployment))
        task.add_done_callback(log_if_failed)
        try:
            yield task
        finally:
            task.cancel()

    async def _call(self, work: Callable[[], _Value]) -> _Value:
        try:
            return await self._threads.run(work, LOOK_SECONDS)
        except TimeoutError as error:
            raise StoreAway(f"The store did not answer within {LOOK_SECONDS:g} s.") from error

    @contextmanager
    def polled(self, deployment: Deployment) -> Iterator[None]:
        """Look at the store again and again during the block: another server may get the candidate or the verdict."""
        checking, name = deployment.checking, deployment.name
        checking.watchers += 1
        if checking.watchers == 1:
            task = self._polling[name] = asyncio.create_task(self._poll(deployment))
            task.add_done_callback(log_if_failed)
        try:
            yield
        finally:
            checking.watchers -= 1
            if not checking.watchers:
                self._polling.pop(name).cancel()

    async def _poll(self, deployment: Deployment) -> None:
        while True:
            await asyncio.sleep(self._poll_seconds)
            await self._look_quietly(deployment)

    async def run(self) -> None:
        """Keep what is known of checkers and candidates fresh, until cancelled."""
        expired_at = float("-inf")
        while True:
            expires = time.monotonic() - expired_at > EXPIRE_SECONDS
            if expires:
                expired_at = time.monotonic()
            await asyncio.gather(
                *(self._tend(deployment, expires=expires) for deployment in list(self._deployments.values()))
            )
            await asyncio.sleep(BEAT_SECONDS)

    async def _tend(self, deployment: Deployment, *, expires: bool) -> None:
        checking = deployment.checking
        if not deployment.loaded:
            return
        try:
            if self._store.shared:
                for note in checking.checkers.beats():
                    await self._call(lambda note=note: write_checker(self._store, deployment.name, note))  # type: ignore[misc]
            if expires:
                await self._call(lambda: expire(self._store, deployment.name))
            await self.look(deployment)
        except ServerError as error:
            if expires:
                log_failure("Candidates cannot be looked for", error, deployment=deployment.name)
        checking.recheck()

    async def close(self) -> None:
        """Look no more."""
        for task in self._polling.values():
            task.cancel()
        self._threads.close()
