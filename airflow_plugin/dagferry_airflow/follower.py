"""Follows the newest version of a deployment for one process of Airflow: when to ask, to take, to touch again.

The dag processor has one loop for all it does, and this is called in it. So a question is short, a pause follows
what failed, and a lock that another process holds is not waited for for long: a server that hangs costs a tenth of
the loop at first, and less with each further failure.
"""

import logging
import math
import os
import time
from collections.abc import Callable

from dagferry_airflow.live import LiveTree, live_target, live_version, locked
from dagferry_core.errors import DagferryError
from dagferry_core.names import version_sequence
from dagferry_follow.errors import VolumeFailed
from dagferry_follow.remote.connection import Timeouts
from dagferry_follow.remote.server import DOWNLOAD_SECONDS, Server
from dagferry_follow.volume.root import CURRENT

ASK_SECONDS = 1.5
"""To connect in, and to be answered in."""
LOCK_SECONDS = 3.0
FIRST_DOWNLOAD_SECONDS = 20.0
"""Twice that after each failure, because a bundle may just be large."""
MAX_SECONDS = 300.0
"""Of a download, and of a pause."""
HURRIED = Timeouts(ASK_SECONDS, ASK_SECONDS, FIRST_DOWNLOAD_SECONDS)
PAUSE_FACTOR = 10
MAX_DOUBLINGS = 4
CHECK_SECONDS = 60.0
"""How long what is live is taken for whole; then its contents are checked again, which takes 30 ms for 60 MB."""
TOUCH_AGAIN_SECONDS = (10.0, 60.0)
"""As the sidecar does: a parse that was under way during the swap may end after it and hide it."""

log = logging.getLogger(__name__)


class Follower:
    """Keeps the volume under ``root`` at the newest version. ``connect`` makes a connection of that much patience.

    ``error`` is what the last attempt failed with, ``None`` if it did not.
    """

    def __init__(
        self, root: str, connect: Callable[[Timeouts], Server], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.error: DagferryError | None = None
        self._root = root
        self._connect = connect
        self._clock = clock
        self._failures = 0
        self._ask_at = self._touch_at = clock()
        self._sound_until = -math.inf  # what is live was checked with its contents
        self._known = ""  # where ``current`` led when it was looked at last
        self._looked = time.time()
        self._touches: list[tuple[float, tuple[str, ...]]] = []

    def follow(self, *, patiently: bool = False) -> None:
        """Make the newest version live, and touch what is due; unless a failure's pause is not over.

        ``patiently`` takes as long as it takes: a task has nothing else to do. What fails is logged and ``error``.
        """
        if patiently or self._clock() >= self._ask_at:
            self._attempt(patiently=patiently)
        started = self._clock()
        if not patiently and started >= self._touch_at and self._try(self._touch_again):  # a task ends before it is due
            self._touch_at = self._clock() + PAUSE_FACTOR * (self._clock() - started)

    def _attempt(self, *, patiently: bool) -> None:
        started = self._clock()
        self.error = self._try(lambda: self._take_newest(patiently=patiently))
        if self.error:
            self._failures += 1
            now = self._clock()
            pause = PAUSE_FACTOR * (now - started)
            self._ask_at = now + max(pause, min(MAX_SECONDS, pause * 2.0 ** min(self._failures - 1, MAX_DOUBLINGS)))
        else:
            self._failures, self._ask_at = 0, started

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
        log.warning("%s %s stays as it is.", failure.message, self._root)
        return failure

    def _take_newest(self, *, patiently: bool) -> None:
        download = min(MAX_SECONDS, FIRST_DOWNLOAD_SECONDS * 2.0 ** min(self._failures, MAX_DOUBLINGS))
        server = self._connect(HURRIED._replace(download=DOWNLOAD_SECONDS if patiently else download))
        try:
            newest = server.current(self._seen(), 0, None)
            if newest:
                lock_seconds = DOWNLOAD_SECONDS if patiently else LOCK_SECONDS
                with locked(self._root, lock_seconds), LiveTree(self._root) as live:
                    live.take(newest, server)
                    self._look(live)
                self._sound_until = self._clock() + CHECK_SECONDS
        finally:
            server.close()

    def _seen(self) -> str:
        is_sound = self._clock() < self._sound_until and os.path.isdir(f"{self._root}/{CURRENT}")
        version = live_version(self._root) if is_sound else ""
        try:
            return version if version_sequence(version) else ""
        except ValueError:  # there is none
            return ""

    # --- touching ----------------------------------------------------------------------------------------------------

    def _touch_again(self) -> None:
        if live_target(self._root) != self._known or any(self._is_due(touch) for touch in self._touches):
            with locked(self._root, LOCK_SECONDS), LiveTree(self._root) as live:
                self._look(live)
                due = [touch for touch in self._touches if self._is_due(touch)]
                self._touches = [touch for touch in self._touches if touch not in due]
                for _, paths in due:
                    live.touch(paths)
        self._looked = time.time()

    def _is_due(self, touch: tuple[float, tuple[str, ...]]) -> bool:
        return touch[0] <= self._clock()

    def _look(self, live: LiveTree) -> None:
        """Note what is to be touched again, if another tree is live than before, whoever made the swap."""
        before, self._known = self._known, live_target(self._root)
        if before in {"", self._known}:
            return  # there was nothing before that this process could have been parsing
        ages = live.ages(self._looked)
        if ages:
            age = min(ages.values())
            self._touches += [(self._clock() + max(after - age, 0), tuple(ages)) for after in TOUCH_AGAIN_SECONDS]
