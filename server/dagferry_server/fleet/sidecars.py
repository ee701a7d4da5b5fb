"""What the sidecars of one deployment last reported about themselves, when they asked for the current deploy."""

import logging
from typing import NamedTuple

from dagferry_runtime.logs import fields
from dagferry_server.log_limit import Key, LogLimit

MAX_SIDECARS = 10_000
"""How many sidecars of one deployment are remembered; beyond, the one not seen for longest is forgotten."""
MAX_LINES = 1000
"""Log lines a minute about the sidecars of one deployment; the others are only counted.
A client with a token can make up any number of names: 15,000 of them wrote 18 MB of logs."""

log = logging.getLogger(__name__)


class Sidecar(NamedTuple):
    """One sidecar: its component, the version that is live in its pod, its last error, when it was last seen (UTC)."""

    component: str
    live: str
    error: str
    seen: float


class Report(NamedTuple):
    """What one request reports about its sender."""

    instance: str
    component: str
    live: str
    error: str
    deregister: bool


class Sidecars:
    """The sidecars of one deployment by instance, the one seen last at the end."""

    __slots__ = ("_deployment", "_limit", "known")

    def __init__(self, deployment: str) -> None:
        self._deployment = deployment
        self._limit = LogLimit(MAX_LINES, self._summarize)
        self.known: dict[str, Sidecar] = {}

    def record(self, report: Report, now: float) -> None:
        """Remember a report, or forget its sender if it deregisters; log what is new. ``now`` is seconds since 1970."""
        before = self.known.pop(report.instance, None)
        if report.deregister:
            self._log(logging.INFO, "Sidecar deregistered", report)
            return
        self.known[report.instance] = Sidecar(report.component, report.live, report.error, now)
        if len(self.known) > MAX_SIDECARS:
            del self.known[next(iter(self.known))]
        if before is None or before.live != report.live:
            self._log(logging.INFO, "Sidecar is live", report)
        if report.error and (before is None or before.error != report.error):
            self._log(logging.WARNING, "Sidecar reports an error", report, error=report.error)

    def flush(self) -> None:
        """Log how many lines were suppressed so far."""
        self._limit.flush()

    def _summarize(self, left: dict[Key, int]) -> None:
        for count in left.values():
            log.warning("Sidecar reports not logged", extra=fields(deployment=self._deployment, suppressed=count))

    def _log(self, level: int, message: str, report: Report, **more: object) -> None:
        if not self._limit.allows(()):
            return
        who = {"deployment": self._deployment, "version": report.live, "instance": report.instance}
        log.log(level, message, extra=fields(**who, component=report.component, **more))
