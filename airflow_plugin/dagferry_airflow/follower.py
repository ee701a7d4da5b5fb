"""Follows the newest version of a deployment in one process of Airflow: when to poll, to repair, to touch files again.

The dag processor has one loop for everything, and that loop calls this. So a poll is short, a failure is followed by a
pause, and it waits only briefly for a lock that another process holds: a server that does not answer blocks the loop
for a tenth of the time at first, and for less with each further failure.
"""

import contextlib
import logging
import math
import os
import random
import time
from collections.abc import Callable

from dagferry_airflow.arguments import DEFAULT_KEEP, Keep
from dagferry_airflow.live import Applied, LiveTree, live_deploy, live_target, live_version, locked
from dagferry_core.errors import DagferryError
from dagferry_core.names import version_sequence
from dagferry_follow.defaults import POLL_INTERVAL_SECONDS, TOUCH_AGAIN_SECONDS
from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import VolumeFailed
from dagferry_follow.pauses import Repairs
from dagferry_follow.remote.connection import Timeouts
from dagferry_follow.remote.server import DOWNLOAD_SECONDS, Report, Server
from dagferry_follow.volume.root import CURRENT
from dagferry_follow.witness import MAX_BEHIND_SECONDS, rewritten

POLL_SECONDS = 1.5
"""The timeout for connecting, and for an answer."""
LOCK_SECONDS = 3.0
FIRST_DOWNLOAD_SECONDS = 20.0
"""Doubled after each failure, because the bundle may just be large."""
MAX_SECONDS = 300.0
"""The maximum of a download, and of a pause."""
SHORT_TIMEOUTS = Timeouts(POLL_SECONDS, POLL_SECONDS, FIRST_DOWNLOAD_SECONDS)
PAUSE_FACTOR = 10
MAX_DOUBLINGS = 4
HEARTBEAT_SECONDS = 20.0
"""How long a process that the server counts as a pod stays silent, at most: a quarter of what makes it lost."""
CHECK_SECONDS = 60.0
"""How often the contents of the live tree are checked, which takes 30 ms for 60 MB."""

log = logging.getLogger(__name__)


class Follower:
    """Keeps the volume under ``root`` at the newest version.

    ``connect`` makes a connection with these timeouts; ``keep`` says which old trees stay; ``note_log``
    is called with the id of the server's log. ``error`` is what the last
    attempt failed with, ``None`` if it did not. ``reports``: the connections name this process as a pod, so it says
    what is live, and why the newest deploy is not. The clock is in seconds and never goes backwards; ``jitter`` returns
    random numbers from 0 to 1.
    """

    def __init__(
        self,
        root: str,
        connect: Callable[[Timeouts], Server],
        keep: Keep = DEFAULT_KEEP,
        *,
        note_log: Callable[[str], None] = lambda _log_id: None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.error: DagferryError | None = None
        self.reports = False
        self._deploy_error: DagferryError | None = None  # what the server did not hear of yet
        self._asked_at = -math.inf  # when the server answered last
        self._confirmed = ""  # the log that the server said it has, in this process
        self._root = root
        self._connect = connect
        self._note_log = note_log
        self._keep = keep
        self._clock = clock
        self._jitter = jitter
        self._failures = 0
        self._poll_at = self._touch_at = clock()
        self._intact_until = -math.inf  # until then the contents of the live tree need no check
        self._live: DeployRef | None = None  # the last tree that this process saw live
        self._repairs = Repairs()
        self._behind_since: float | None = None  # since when the server lacks the live deploy
        self._warning = ""  # the last one, which is logged once
        self._known_target = ""  # where ``current`` led when it was last looked at
        self._looked_at = time.time()
        self._touches: list[tuple[float, tuple[str, ...]]] = []

    def follow(self, *, for_task: bool = False) -> None:
        """Make the newest version live, and touch files again that are due; but not during a pause after a failure.

        ``for_task``: without pauses and with long timeouts, since a task has nothing else to do. A failure is logged
        and kept in ``error``.
        """
        if for_task or self._clock() >= self._poll_at:
            self._attempt(for_task=for_task)
        started = self._clock()
        if not for_task and started >= self._touch_at and self._try(self._touch_again):  # a task ends before it is due
            self._touch_at = self._clock() + PAUSE_FACTOR * (self._clock() - started)

    def heartbeat(self) -> None:
        """Ask the server, and change nothing, unless it was asked a moment ago: it learns that this process is there.

        Airflow refreshes a bundle in one of several dag processors at a time.
        """
        now = self._clock()
        if self.reports and now >= max(self._poll_at, self._asked_at + HEARTBEAT_SECONDS):
            self._paced(self._ask)

    def _attempt(self, *, for_task: bool) -> None:
        self.error = self._paced(lambda: self._apply_newest(for_task=for_task))

    def _paced(self, work: Callable[[], None]) -> DagferryError | None:
        """Do ``work`` and return the error; after one, there is a pause."""
        started = self._clock()
        if error := self._try(work):
            self._failures += 1
            now = self._clock()
            pause = PAUSE_FACTOR * (now - started)
            self._poll_at = now + max(pause, min(MAX_SECONDS, pause * 2.0 ** min(self._failures - 1, MAX_DOUBLINGS)))
        else:
            self._failures, self._poll_at = 0, started
        return error

    def _try(self, work: Callable[[], None]) -> DagferryError | None:
        try:
            work()
        except DagferryError as error:
            failure = error
        except OSError as error:
            failure = VolumeFailed(f"{error.filename or self._root}: {error.strerror}.")
            failure.__cause__ = error
        else:
            return None
        log.warning("%s The live tree in %s stays.", failure.message, self._root)
        return failure

    def _apply_newest(self, *, for_task: bool) -> None:
        download = min(MAX_SECONDS, FIRST_DOWNLOAD_SECONDS * 2.0 ** min(self._failures, MAX_DOUBLINGS))
        server = self._connect(SHORT_TIMEOUTS._replace(download=DOWNLOAD_SECONDS if for_task else download))
        try:
            known, newest = self._newest(server, self._seen())
            try:
                self._apply(known, newest, server, for_task=for_task)
            except DagferryError as error:
                self._deploy_error = error
                raise
            self._deploy_error = None
        finally:
            server.close()

    def _newest(self, server: Server, seen: str) -> tuple[DeployRef | None, DeployRef | None]:
        """Return the live deploy, and the newest one unless it is the version ``seen``."""
        known = live_deploy(self._root)
        report = Report(known.version, None, known.log_id) if known and known.sequence else None
        if self.reports:
            report = (report or Report("", None))._replace(error=self._deploy_error)
        newest = server.current(seen, 0, report)
        self._asked_at = self._clock()
        if newest:
            self._confirmed = newest.log_id
            self._note_log(newest.log_id)
        return known, newest

    def _ask(self) -> None:
        with contextlib.closing(self._connect(SHORT_TIMEOUTS)) as server:
            self._newest(server, live_version(self._root))

    def _apply(self, known: DeployRef | None, newest: DeployRef | None, server: Server, *, for_task: bool) -> None:
        if known and (error := rewritten(known, server.stated)):
            raise error
        if not newest:
            self._behind_since = None
            return
        paused = None if for_task or self._clock() >= self._repairs.not_before else self._live
        lock_seconds = DOWNLOAD_SECONDS if for_task else LOCK_SECONDS
        with locked(self._root, lock_seconds), LiveTree(self._root, self._keep) as live:
            applied = live.apply(newest, server, paused=paused)
            self._plan_touches(live)
        self._note(applied)
        waits = self._waits_for_server(applied)
        if applied.error and not waits:
            raise applied.error
        self._intact_until = self._clock() + CHECK_SECONDS
        if self.reports and applied.published:
            self._deploy_error = None
            with contextlib.suppress(DagferryError):  # the next request tells it too
                self._newest(server, live_version(self._root))

    def _waits_for_server(self, applied: Applied) -> bool:
        """Return whether the server may only be behind others that share its store, and is just asked again."""
        if not applied.behind:
            self._behind_since = None
            return False
        now = self._clock()
        self._behind_since = now if self._behind_since is None else self._behind_since
        return now - self._behind_since < MAX_BEHIND_SECONDS

    def _note(self, applied: Applied) -> None:
        if applied.published:
            self._repairs = self._repairs.after_publish(
                repaired=applied.live == self._live,
                now=self._clock(),
                first=POLL_INTERVAL_SECONDS,
                jitter=self._jitter(),
            )
        self._live = applied.live or self._live  # a tree that is gone was live, too
        if applied.warning and applied.warning != self._warning:
            log.warning("%s", applied.warning)
        self._warning = applied.warning

    def _seen(self) -> str:
        is_intact = self._clock() < self._intact_until and os.path.isdir(f"{self._root}/{CURRENT}")
        live = live_deploy(self._root) if is_intact else None
        # Only what the server has said itself: another log may have a version of this name.
        version = live.version if live and live.log_id == self._confirmed else ""
        try:
            return version if version_sequence(version) else ""
        except ValueError:  # there is none
            return ""

    # --- touching ----------------------------------------------------------------------------------------------------

    def _touch_again(self) -> None:
        if live_target(self._root) != self._known_target or any(self._is_due(touch) for touch in self._touches):
            with locked(self._root, LOCK_SECONDS), LiveTree(self._root, self._keep) as live:
                self._plan_touches(live)
                due = [touch for touch in self._touches if self._is_due(touch)]
                self._touches = [touch for touch in self._touches if touch not in due]
                for _, paths in due:
                    live.touch(paths)
        self._looked_at = time.time()

    def _is_due(self, touch: tuple[float, tuple[str, ...]]) -> bool:
        return touch[0] <= self._clock()

    def _plan_touches(self, live: LiveTree) -> None:
        """Note what is to be touched again, if another tree is live than before, whichever process made the swap."""
        before, self._known_target = self._known_target, live_target(self._root)
        if before in {"", self._known_target}:
            return  # before the first tree, there was nothing that this process could have been parsing
        ages = live.ages(self._looked_at)
        if ages:
            age = min(ages.values())
            self._touches += [(self._clock() + max(after - age, 0), tuple(ages)) for after in TOUCH_AGAIN_SECONDS]
