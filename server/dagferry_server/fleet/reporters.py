"""What those who report what Airflow has read said last: the dag processors of one deployment, and the bundles in them.

A reporter counts until it says that it leaves, or until it was not heard for ``SILENT_SECONDS``. Ages are on a
monotonic clock. Nothing here is stored: a server that has restarted knows all of it again after ``REPORT_SECONDS``.
"""

import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from dagferry_core.protocol import REPORT_SECONDS
from dagferry_runtime.logs import fields
from dagferry_server.fleet.report_body import ParsedBody, ReportBody
from dagferry_server.fleet.sidecars import next_revision
from dagferry_server.log_limit import Key, LogLimit

MAX_REPORTERS = 32
"""How many reporters of one deployment are remembered; a further one is not. Each may take 100 KB."""
SILENT_SECONDS = 3.0 * REPORT_SECONDS
"""A reporter that was not heard for so long does not count, and is forgotten."""
MAX_LINES = 100
"""Log lines a minute about the reporters of one deployment; the others are only counted."""
MAX_BREAKS = 1000
"""How many deploys that brought import errors are remembered."""

log = logging.getLogger(__name__)

ReporterKey: TypeAlias = tuple[str, str, str]
"""What identifies a reporter: component, instance, and the random id of its process."""


class Reported(NamedTuple):
    """What one reporter said last. Moments are on the monotonic clock.

    ``complete_since`` is since when all files of the version have been recorded; ``None``: not all are.
    ``complete_at`` is the same moment in seconds since the epoch.
    """

    key: ReporterKey
    log_id: str
    parsed: ParsedBody | None
    heard_at: float
    came_at: float
    complete_since: float | None = None
    complete_at: float | None = None
    left: bool = False
    """Whether it ended. It is remembered for a while, because another server may have heard it before."""
    own: bool = True
    """Whether it reported to this server, and not to another one."""
    revision: int = 0
    """Becomes higher whenever it is heard here; other servers ask for what changed since."""
    size: int = 0
    """How many bytes it takes to send it to another server."""

    def counts(self, now: float) -> bool:
        """Return whether it counts at ``now``."""
        return not self.left and now < self.heard_at + SILENT_SECONDS


def reported(report: ReportBody, now: float, wall: float) -> Reported:
    """Return what a report says that came at ``now``, which is ``wall`` seconds since the epoch."""
    parsed = report.parsed.kept() if report.parsed and not report.leaving else None
    since = at = None
    if parsed and parsed.complete_for is not None and parsed.recorded >= parsed.files:
        since, at = now - parsed.complete_for, wall - parsed.complete_for
    return Reported(
        (report.component, report.instance, report.id),
        report.log_id,
        parsed,
        now,
        now,
        since,
        at,
        left=report.leaving,
        revision=next_revision(),
        size=len(parsed.model_dump_json()) if parsed else 0,
    )


class Reporters:
    """The reporters of one deployment. Used on the event loop.

    ``changed`` is called with the time when something is different that the status depends on, and ``own_changed`` if
    only this server knows it yet.
    """

    def __init__(self, deployment: str, changed: Callable[[float], None], own_changed: Callable[[float], None]) -> None:
        self._deployment = deployment
        self._changed = changed
        self._own_changed = own_changed
        self._limit = LogLimit(MAX_LINES, self._summarize)
        self.known: dict[ReporterKey, Reported] = {}
        self.crowded_until = 0.0
        """Until then one may report that there was no room for: so nobody can say that all have read a version."""
        self.breaks: dict[str, int] = {}
        """How many new import errors a version brought, of the newest versions that did."""

    def record(self, said: Reported) -> bool:
        """Remember what a reporter said to this server; ``False``: there is no room for another one."""
        before, was_crowded = self.known.get(said.key), self.crowded_until > said.heard_at
        if not self._keep(said):
            if not was_crowded:
                self._own_changed(said.heard_at)
            return False
        self._log_change(before, said)
        if _differs(before, self.known[said.key]):
            self._own_changed(said.heard_at)
        return True

    def hear(self, said: Reported) -> None:
        """Remember what a reporter said to another server, unless it said something else since."""
        before = self.known.get(said.key)
        if before and before.heard_at >= said.heard_at:
            return
        was_crowded = self.crowded_until > said.heard_at
        kept = self._keep(said)
        if _differs(before, self.known[said.key]) if kept else not was_crowded:
            self._changed(said.heard_at)

    def counting(self, log_id: str, now: float) -> list[Reported]:
        """Return what those said that count and follow the log with this id, in the order of their names."""
        return [self.known[key] for key in sorted(self.known) if _is_of(self.known[key], log_id, now)]

    def own(self) -> Iterator[Reported]:
        """Yield what was said to this server, for the others."""
        return (said for said in self.known.values() if said.own)

    def forget_silent(self, now: float) -> None:
        """Forget those who were not heard for ``SILENT_SECONDS``, also those who left."""
        for key in [key for key, said in self.known.items() if said.heard_at + SILENT_SECONDS <= now]:
            said = self.known.pop(key)
            if not said.left:
                self._log(logging.WARNING, "Reporter not heard any more", said)

    def clear(self) -> None:
        """Forget everything, because the deployment was deleted."""
        self.known.clear()
        self.breaks = {}
        self.crowded_until = 0.0

    def note_break(self, version: str, new_errors: int) -> None:
        """Note that a version brought new import errors."""
        if new_errors > self.breaks.get(version, 0):
            if version not in self.breaks and self._limit.allows(()):
                more = {"deployment": self._deployment, "version": version, "errors": new_errors}
                log.warning("New import errors", extra=fields(**more))
            others = [(key, count) for key, count in self.breaks.items() if key != version]
            self.breaks = dict([*others[-MAX_BREAKS + 1 :], (version, new_errors)])

    def _keep(self, said: Reported) -> bool:
        before = self.known.get(said.key)
        if before is None and len(self.known) >= MAX_REPORTERS:
            self.forget_silent(said.heard_at)
            for key in [key for key, other in self.known.items() if other.left]:
                del self.known[key]
        if before is None and len(self.known) >= MAX_REPORTERS:
            self.crowded_until = max(self.crowded_until, said.heard_at + SILENT_SECONDS)
            return False
        self.known[said.key] = _continued(before, said) if before else said
        return True

    def _log_change(self, before: Reported | None, said: Reported) -> None:
        if said.left:
            if before and not before.left:
                self._log(logging.INFO, "Reporter left", said)
        elif before is None or before.left:
            self._log(logging.INFO, "Reporter came", said)

    def flush(self) -> None:
        """Log how many lines were suppressed so far."""
        self._limit.flush()

    def _summarize(self, left: dict[Key, int]) -> None:
        for count in left.values():
            log.warning("Reporters not logged", extra=fields(deployment=self._deployment, suppressed=count))

    def _log(self, level: int, message: str, said: Reported) -> None:
        if self._limit.allows(()):
            component, instance, _ = said.key
            log.log(level, message, extra=fields(deployment=self._deployment, instance=instance, component=component))


def _is_of(said: Reported, log_id: str, now: float) -> bool:
    return said.counts(now) and said.log_id == log_id


def _continued(before: Reported, said: Reported) -> Reported:
    """Return what a reporter said, with what is known longer: when it came, and since when it has been complete.

    Each report names that moment a little differently, as it took another time to arrive.
    """
    if before.left:
        return said
    said = said._replace(came_at=min(before.came_at, said.came_at))
    old, new = before.parsed, said.parsed
    same = old and new and (old.version, old.digest, before.log_id) == (new.version, new.digest, said.log_id)
    if same and before.complete_since is not None and said.complete_since is not None:
        said = said._replace(complete_since=before.complete_since, complete_at=before.complete_at)
    return said


def _differs(before: Reported | None, said: Reported) -> bool:
    """Return whether the status may be another one, apart from what changes with every report."""
    return before is None or _says(before) != _says(said)


def _says(said: Reported) -> tuple[object, ...]:
    parsed = said.parsed and said.parsed.model_copy(update={"complete_for": None, "parse_seconds": None})
    return said.log_id, said.left, parsed, said.complete_since is None
