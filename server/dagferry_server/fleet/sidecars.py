"""What the sidecars of one deployment last reported about themselves, when they asked for the current deploy.

A pod is an instance and the random id on its volume: a restarted container is the same pod, and two pods with one name
are two. Ages are on a monotonic clock, so a wrong clock makes no pod older or younger.
"""

import itertools
import logging
import math
import secrets
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from dagferry_follow.defaults import MAX_PAUSE_SECONDS
from dagferry_runtime.logs import fields
from dagferry_server.log_limit import Key, LogLimit

MAX_SIDECARS = 10_000
"""How many sidecars of one deployment are remembered; beyond, the one not seen for longest is forgotten."""
MAX_LINES = 1000
"""Log lines a minute about the sidecars of one deployment; the others are only counted.
A client with a token can make up any number of names: 15,000 of them wrote 18 MB of logs."""
LOST_AFTER_SECONDS = MAX_PAUSE_SECONDS + 15.0
"""A sidecar that sent nothing for so long, and has no request that waits, is lost: no pause between its requests is
longer. So after this time the server has also heard every pod there is."""
MAX_ENDED = 1000
"""How many sidecars that deregistered are remembered, with the time."""
LOST_SHOWN_SECONDS = 900.0
"""How long a lost sidecar is remembered."""

log = logging.getLogger(__name__)


class Report(NamedTuple):
    """What one request reports about its sender.

    ``log_id`` is that of the live version. It is empty if nothing is live, and ``volume`` and it are in a report by a
    sidecar of an older release.
    """

    instance: str
    component: str
    live: str
    error: str
    deregister: bool
    volume: str = ""
    log_id: str = ""
    in_use: int = 0
    """How many of the old trees on its volume tasks use."""


class Offer(NamedTuple):
    """A version of a deploy log, sent to a sidecar as the current one."""

    log_id: str
    version: str


PodKey: TypeAlias = tuple[str, str]
"""What identifies a pod: its instance, and the id on its volume."""

_revisions = itertools.count(1)


def next_revision() -> int:
    """Return a number above all that it returned before in this process; other servers ask for what changed since."""
    return next(_revisions)


class Ended(NamedTuple):
    """A sidecar that deregistered: its component, when, and when it had come, on the monotonic clock.

    ``came`` is infinite if this server did not know it; another one may. ``id`` is the same on all servers.
    """

    component: str
    at: float
    came: float = -math.inf
    key: PodKey = ("", "")
    id: str = ""
    revision: int = 0


class Sidecar:
    """One sidecar: what it last reported, and what it was offered. Times are on the monotonic clock."""

    __slots__ = (
        *("component", "error", "in_use", "instance", "live", "log_id", "volume"),
        *("confirmed", "first_seen", "offered", "open", "reported", "revision", "seen"),
    )

    def __init__(self, report: Report, now: float) -> None:
        self.instance = report.instance
        self.volume = report.volume
        self.component = report.component
        self.live = report.live
        self.log_id = report.log_id
        self.error = report.error
        self.in_use = report.in_use
        self.first_seen = self.seen = self.reported = now
        """When it came, when it was last heard or answered, and when it last sent a report."""
        self.revision = 0
        """Becomes higher whenever anything here changes."""
        self.open = 0  # requests in progress
        self.offered: Offer | None = None
        self.confirmed: Offer | None = None
        """The offer that it reported as live afterwards. Only this is evidence: a claim alone is not."""

    @classmethod
    def copy_of(cls, other: "Sidecar") -> "Sidecar":
        """Return another object with the same content."""
        copy = cls.__new__(cls)
        for name in cls.__slots__:
            setattr(copy, name, getattr(other, name))
        return copy

    @property
    def key(self) -> PodKey:
        """What identifies it."""
        return self.instance, self.volume

    def lost_at(self, now: float) -> float:
        """Return when it is lost if it sends nothing more."""
        return (now if self.open else self.seen) + LOST_AFTER_SECONDS

    def is_lost(self, now: float) -> bool:
        """Return whether it vanished without deregistering."""
        return self.lost_at(now) <= now


def _has(report: Report, offer: Offer) -> bool:
    """Return whether a report says that the version offered is live; older sidecars do not say of which log it is."""
    return report.live == offer.version and report.log_id in {offer.log_id, ""}


_Shown: TypeAlias = tuple[str, str, str, str, int, Offer | None]


def _shown(sidecar: Sidecar) -> _Shown:
    """Return what the status depends on, apart from the time."""
    return sidecar.live, sidecar.error, sidecar.component, sidecar.log_id, sidecar.in_use, sidecar.confirmed


class Sidecars:
    """The sidecars of one deployment by instance and volume, the one that asked last at the end.

    ``changed`` is called when something is different that the status depends on, with the time.
    """

    __slots__ = ("_changed", "_deployment", "_limit", "crowded_until", "elsewhere", "ended", "known")

    def __init__(self, deployment: str, changed: Callable[[float], None] = lambda _: None) -> None:
        self._deployment = deployment
        self._changed = changed
        self._limit = LogLimit(MAX_LINES, self._summarize)
        self.known: dict[PodKey, Sidecar] = {}
        self.crowded_until = 0.0
        """Until then one that was forgotten for lack of room may still be there."""
        self.ended: tuple[Ended, ...] = ()
        """Those that deregistered last, in this order."""
        self.elsewhere: Callable[[PodKey], Sidecar | None] | None = None
        """Returns what another server heard of a pod, if one did; ``None``: there are no other servers."""

    def record(self, report: Report, now: float) -> Sidecar | None:
        """Remember a report and return its sender, or forget it if it deregisters; log what is new.

        ``now`` is on the monotonic clock.
        """
        key = (report.instance, report.volume)
        sidecar = self.known.pop(key, None)
        if report.deregister:
            self._log(logging.INFO, "Sidecar deregistered", report)
            self._deregister(report, sidecar, now)
            return None
        before = _shown(sidecar) if sidecar else None
        was_lost = sidecar is not None and sidecar.is_lost(now)
        if sidecar is None:
            sidecar = Sidecar(report, now)
        self.known[key] = sidecar
        shown = self._continue(sidecar, before)
        sidecar.seen = sidecar.reported = now
        sidecar.revision = next_revision()
        sidecar.component, sidecar.error = report.component, report.error
        sidecar.live, sidecar.log_id, sidecar.in_use = report.live, report.log_id, report.in_use
        if sidecar.offered and _has(report, sidecar.offered):
            sidecar.confirmed = sidecar.offered
        elif sidecar.confirmed and not _has(report, sidecar.confirmed):
            sidecar.confirmed = None
        if len(self.known) > MAX_SIDECARS:
            del self.known[next(iter(self.known))]
            self.crowded_until = now + LOST_SHOWN_SECONDS
        if before is None or before[0] != report.live:
            self._log(logging.INFO, "Sidecar is live", report)
        if report.error and (before is None or before[1] != report.error):
            self._log(logging.WARNING, "Sidecar reports an error", report, error=report.error)
        if was_lost or shown != _shown(sidecar):
            self._changed(now)
        return sidecar

    def _continue(self, sidecar: Sidecar, before: _Shown | None) -> _Shown | None:
        """Take over what another server knows of a pod that came from there: it is still the same pod.

        ``before`` is what it said here before, ``None`` if it is new here. Returns what the status depended on: what it
        said there, if that was later.
        """
        other = self.elsewhere(sidecar.key) if self.elsewhere else None
        if other is None or (before and other.reported <= sidecar.reported):
            return before
        sidecar.offered, sidecar.confirmed = other.offered, other.confirmed
        sidecar.first_seen = min(sidecar.first_seen, other.first_seen)
        return before and _shown(other)

    def _deregister(self, report: Report, sidecar: Sidecar | None, now: float) -> None:
        # Another server may know it, if this one does not.
        if sidecar or self.elsewhere:
            component, came = (sidecar.component, sidecar.first_seen) if sidecar else (report.component, math.inf)
            key = (report.instance, report.volume)
            self._end(Ended(component, now, came, key, secrets.token_hex(8), next_revision()))
            self._changed(now)

    def _end(self, ended: Ended) -> None:
        self.ended = (*self.ended[-MAX_ENDED + 1 :], ended)

    def end_elsewhere(self, ended: Ended) -> None:
        """Forget a sidecar that deregistered on another server after it was last heard here."""
        sidecar = self.known.get(ended.key)
        if sidecar and sidecar.reported <= ended.at:
            del self.known[ended.key]
            self._end(ended._replace(component=sidecar.component, came=sidecar.first_seen, revision=next_revision()))

    def forget_lost(self, now: float) -> None:
        """Forget those that have been lost for ``LOST_SHOWN_SECONDS``."""
        gone = [key for key, sidecar in self.known.items() if sidecar.lost_at(now) + LOST_SHOWN_SECONDS <= now]
        for key in gone:
            del self.known[key]
        if gone:
            self._changed(now)

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
