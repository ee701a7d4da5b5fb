"""What one deployment knows of its import checks: candidates, verdicts, checkers, who waits, and what was refused.

All of this runs on the event loop. The notes are those of the last look at the store, see ``candidates``.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple, get_args

from dagferry_server.coalescing import Coalescer
from dagferry_server.deploys.candidates import Notes
from dagferry_server.deploys.checkers import Checkers
from dagferry_server.deploys.verdict import Problem
from dagferry_server.fleet.waiters import Waiters

Policy = Literal["off", "warn", "block"]
"""What happens to DAG files that a checker cannot import: they are not checked, a warning, a refusal."""
POLICIES: tuple[Policy, ...] = get_args(Policy)
Away = Literal["open", "closed"]
"""What happens to deploys that should be checked while no checker can: they go live with a warning, or are rejected."""
AWAYS: tuple[Away, ...] = get_args(Away)

PASSED, PROBLEMS, FAILED, AWAY, OVERTIME = OUTCOMES = "passed", "problems", "failed", "away", "overtime"
"""The outcomes of checks in the metrics."""

MAX_POLLS = 50
"""How many requests of checkers wait for candidates of one deployment; further ones are answered at once."""
BUSY_SECONDS = 0.2
"""The pause of a deploy that cannot be notified, because too many wait."""
MAX_REFUSED, MAX_SHOWN_PROBLEMS = 20, 5
"""How many refused candidates are remembered, and how many problems of each."""


class Refused(NamedTuple):
    """A candidate that was refused; ``created`` is when, in seconds since the epoch."""

    actor: str
    created: int
    problems: list[Problem]


class Checking:
    """The import checks of one deployment. ``mark`` is called when its status may be another one."""

    def __init__(self, mark: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.started = clock()
        self.notes = Notes()
        self.checkers = Checkers(clock, self.changed)
        self.uploads = Waiters()
        """The deploys that wait for a verdict."""
        self.polls = Waiters(MAX_POLLS)
        """The requests of checkers that wait for other candidates, or another live version."""
        self.looks = Coalescer()
        self.deciding = asyncio.Lock()
        """Held while a verdict is written: there is none of another checker then."""
        self.waiting = 0
        """How many deploys wait for a verdict."""
        self._committing: Counter[str] = Counter()
        self.watchers = 0
        """How many requests wait for a change in the store."""
        self.refused: deque[Refused] = deque(maxlen=MAX_REFUSED)
        self.first_seen: dict[str, float] = {}
        """When this server first knew of each candidate, by the clock."""
        self.revision = object()
        """Another object after each change of what is shown."""
        self._mark = mark
        self._heard: tuple[str, ...] = ()

    def changed(self) -> None:
        """Note that there is something else to show."""
        self.revision = object()
        self._mark()

    def replace(self, notes: Notes) -> None:
        """Replace what is known by what the store has now, and notify those who wait for a change of it."""
        if notes is self.notes:
            return
        before, self.notes = self.notes, notes
        now = self.clock()
        self.first_seen = {id_: self.first_seen.get(id_, now) for id_ in notes.candidates}
        self.checkers.note_others(notes.checkers.values())
        if (before.candidates, before.verdicts) != (notes.candidates, notes.verdicts):
            self.polls.notify_all()
            self.uploads.notify_all()
            self.changed()

    def refuse(self, refused: Refused) -> None:
        """Remember a refused candidate."""
        self.refused.appendleft(refused._replace(problems=refused.problems[:MAX_SHOWN_PROBLEMS]))
        self.changed()

    def recheck(self) -> None:
        """Note whether checkers have become silent."""
        heard = tuple(checker.greeting.instance for checker in self.checkers.heard)
        if heard != self._heard:
            self._heard = heard
            self.changed()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Count a deploy that waits during the block."""
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    async def wait(self, seconds: float, look: "asyncio.Task[None]") -> None:
        """Return when there may be another verdict, after ``seconds``, or as soon as ``look`` has ended."""
        waits = [asyncio.create_task(self._notified(seconds)), *([] if look.done() else [look])]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waits[0].cancel()

    async def _notified(self, seconds: float) -> None:
        if not await self.uploads.wait(seconds):
            await asyncio.sleep(BUSY_SECONDS)

    @contextmanager
    def needing(self, digest: str) -> Iterator[None]:
        """Keep a bundle during the block: after the verdict on it, only the deploy that waited for that knows of it."""
        self._committing[digest] += 1
        try:
            yield
        finally:
            self._committing[digest] -= 1
            self._committing += Counter()  # without those that nobody needs

    @property
    def needed(self) -> set[str]:
        """The digests of the bundles that deploys need which wait here; safe to read from any thread."""
        return {digest for digest, count in tuple(self._committing.items()) if count > 0}

    @property
    def connected(self) -> int:
        """How many checkers deploys wait for; safe to read from any thread."""
        return sum(not checker.greeting.warming for checker in self.checkers.heard)

    def policy(self, wanted: Policy | None) -> Policy:
        """Return the policy in effect; by default there are warnings where there is a checker."""
        return wanted or ("warn" if self.checkers.known else "off")

    def notify_all(self) -> None:
        """Wake everybody who waits."""
        self.polls.notify_all()
        self.uploads.notify_all()

    def close(self) -> None:
        """Wake everybody, and let nobody wait any more."""
        self.polls.close()
        self.uploads.close()
