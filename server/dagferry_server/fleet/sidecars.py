"""What the sidecars of one deployment last reported about themselves, when they asked for the current deploy."""

import logging
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote

from dagferry_core.protocol import COMPONENT, DEREGISTER, ERROR, INSTANCE, LIVE, MAX_ERROR_CHARACTERS
from dagferry_runtime.logs import fields
from dagferry_server.log_limit import Key, LogLimit

MAX_SIDECARS = 10_000
"""How many sidecars of one deployment are remembered; beyond, the one not seen for longest is forgotten."""
MAX_NAME_CHARACTERS = 253
"""A longer instance or component is cut; the name of a pod may have as many characters."""
MAX_VERSION_CHARACTERS = 63
MAX_LINES = 1000
"""Log lines a minute about the sidecars of one deployment; the others are only counted.
A client with a token can make up any number of names: 15,000 of them wrote 18 MB of logs."""

_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa0-\ud7ff\ue000-\uffff]")
"""Also lone surrogates: bytes of a header that are not UTF-8 become such."""

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


def report_of(headers: Mapping[str, str]) -> Report | None:
    """Return what a request reports about its sender, cut to the limits; ``None`` if it does not name an instance."""
    instance = headers.get(INSTANCE)
    if not instance:
        return None
    return Report(
        instance=_clean(instance, MAX_NAME_CHARACTERS),
        component=_clean(headers.get(COMPONENT, ""), MAX_NAME_CHARACTERS),
        live=_clean(headers.get(LIVE, ""), MAX_VERSION_CHARACTERS),
        error=_clean(unquote(headers.get(ERROR, "")), MAX_ERROR_CHARACTERS),
        deregister=headers.get(DEREGISTER) == "1",
    )


def _clean(text: str, most: int) -> str:
    # It is shown on terminals, where control characters do harm.
    return _UNPRINTABLE.sub("?", text[:most])


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
