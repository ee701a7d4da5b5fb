"""What the sidecars of one deployment last said of themselves when they asked for the current deploy."""

import logging
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote

from dagferry_runtime.logs import fields
from dagferry_server.log_limit import Key, LogLimit

MAX_SIDECARS = 10_000
"""Known at a time in one deployment; beyond, the one that was silent for longest is forgotten."""
MAX_NAME_CHARACTERS = 253
"""An instance or component longer than this is cut; a pod's name may have as many."""
MAX_VERSION_CHARACTERS = 63
MAX_ERROR_CHARACTERS = 300
MAX_LINES = 1000
"""In the log in a minute, about the sidecars of one deployment; a count stands for the others. Whoever holds a token
may make up as many names as they like: 15,000 of them wrote 18 MB."""

_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa0-\ud7ff\ue000-\uffff]")
"""Also lone surrogates, which is what bytes of a header that are not UTF-8 become."""

log = logging.getLogger(__name__)


class Sidecar(NamedTuple):
    """One sidecar: its component, the version that is live in its pod, its last error, when it was last seen (UTC)."""

    component: str
    live: str
    error: str
    seen: float


class Report(NamedTuple):
    """What one request says of its sender."""

    instance: str
    component: str
    live: str
    error: str
    deregister: bool


def report_of(headers: Mapping[str, str]) -> Report | None:
    """Return what a request says of its sender, cut to its limits; ``None`` if it does not say who it is."""
    instance = headers.get("Dagferry-Instance")
    if not instance:
        return None
    return Report(
        instance=_clean(instance, MAX_NAME_CHARACTERS),
        component=_clean(headers.get("Dagferry-Component", ""), MAX_NAME_CHARACTERS),
        live=_clean(headers.get("Dagferry-Live", ""), MAX_VERSION_CHARACTERS),
        error=_clean(unquote(headers.get("Dagferry-Error", "")), MAX_ERROR_CHARACTERS),
        deregister=headers.get("Dagferry-Deregister") == "1",
    )


def _clean(text: str, most: int) -> str:
    # It ends up on somebody's terminal.
    return _UNPRINTABLE.sub("?", text[:most])


class Sidecars:
    """The sidecars of one deployment by instance, the one seen last at the end."""

    __slots__ = ("_deployment", "_limit", "known")

    def __init__(self, deployment: str) -> None:
        self._deployment = deployment
        self._limit = LogLimit(MAX_LINES, self._summarize)
        self.known: dict[str, Sidecar] = {}

    def take(self, report: Report, now: float) -> None:
        """Remember a report, or forget its sender if it says goodbye; log what is new in it."""
        before = self.known.pop(report.instance, None)
        if report.deregister:
            self._log(logging.INFO, "Sidecar left", report)
            return
        self.known[report.instance] = Sidecar(report.component, report.live, report.error, now)
        if len(self.known) > MAX_SIDECARS:
            del self.known[next(iter(self.known))]
        if before is None or before.live != report.live:
            self._log(logging.INFO, "Sidecar is live", report)
        if report.error and (before is None or before.error != report.error):
            self._log(logging.WARNING, "Sidecar reports an error", report, error=report.error)

    def flush(self) -> None:
        """Log how much was left unsaid so far."""
        self._limit.flush()

    def _summarize(self, left: dict[Key, int]) -> None:
        for count in left.values():
            log.warning("Sidecar reports not logged", extra=fields(deployment=self._deployment, left_unsaid=count))

    def _log(self, level: int, message: str, report: Report, **more: object) -> None:
        if not self._limit.says(()):
            return
        who = {"deployment": self._deployment, "version": report.live, "instance": report.instance}
        log.log(level, message, extra=fields(**who, component=report.component, **more))
