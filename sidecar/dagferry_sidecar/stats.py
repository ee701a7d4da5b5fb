"""What the loop counts, and the threads that answer probes and scrapes read: plain attributes with one writer."""

import time

from dagferry_core.errors import DagferryError
from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import SyncError

OK = "ok"
_ERRORS: tuple[type[DagferryError], ...] = (*SyncError.__subclasses__(), SyncError, DagferryError)
OUTCOMES = (OK, *(error.code for error in _ERRORS))
"""Every label that ``syncs_total`` can have."""

LOCAL_SECONDS = 300.0
"""The longest that work on the volume may take between two calls of ``watchdog``."""


class Stats:
    """The state of the sidecar as seen from outside."""

    def __init__(self) -> None:
        self.syncs = dict.fromkeys(OUTCOMES, 0)
        self.download_bytes = {"whole": 0, "patch": 0}
        self.hooks: dict[tuple[str, str], int] = {}
        """Runs of each hook by outcome; written by the hook's thread."""
        self.sync_count = 0
        self.sync_seconds = 0.0
        self.last_contact = 0.0
        """Seconds since the epoch; 0: never."""
        self.live: DeployRef | None = None
        self.intact = False
        """Whether the live tree was checked and is as published."""
        self.trees = 0
        self.tree_bytes = 0
        self.used_trees = 0
        """How many of the old trees processes use."""
        self.error: DagferryError | None = None
        self._alive_until = time.monotonic() + LOCAL_SECONDS

    def count_hook(self, hook: str, outcome: str) -> None:
        """Count a run of a hook."""
        self.hooks[hook, outcome] = self.hooks.get((hook, outcome), 0) + 1

    def count_sync(self, outcome: str) -> None:
        """Count the outcome of a poll or of applying a deploy: ``ok``, or the code of an error."""
        self.syncs[outcome if outcome in self.syncs else DagferryError.code] += 1

    def watchdog(self, seconds: float) -> None:
        """Note that the loop is alive; unless it is called again within ``seconds``, the loop is stuck."""
        self._alive_until = time.monotonic() + seconds

    @property
    def alive(self) -> bool:
        """Whether the loop is alive."""
        return time.monotonic() < self._alive_until
