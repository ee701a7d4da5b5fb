"""What all servers together know of a fleet: the same, whichever of them heard what, and in whatever order.

Of one pod, the newest report counts, whichever server got it. A pod that deregistered on one server is gone on all,
unless it reported later. All times are on this server's monotonic clock. Pure, apart from what is forgotten.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dagferry_server.fleet.sidecars import LOST_SHOWN_SECONDS, Ended, PodKey, Sidecar, Sidecars


class Heard:
    """What one other server knows of one deployment, as it said last.

    ``is_left``: that server is gone. ``ends`` has the newest end of each pod in ``ended``.
    """

    __slots__ = (
        *("all_heard_at", "crowded_until", "ended", "ends", "generation", "head", "is_left", "known", "log_id"),
    )

    def __init__(self, *, is_left: bool = False) -> None:
        self.is_left = is_left
        self.known: dict[PodKey, Sidecar] = {}
        self.ended: dict[str, Ended] = {}
        self.ends: dict[PodKey, float] = {}
        self.all_heard_at = math.inf
        self.crowded_until = 0.0
        self.generation = 0
        self.log_id = ""
        self.head = 0

    def end(self, ended: Ended) -> None:
        """Note that a pod deregistered."""
        known = self.ended.get(ended.id)
        self.ended[ended.id] = ended if known is None else known._replace(came=min(known.came, ended.came))
        self.ends[ended.key] = max(ended.at, self.ends.get(ended.key, -math.inf))
        sidecar = self.known.get(ended.key)
        if sidecar and sidecar.reported <= ended.at:
            del self.known[ended.key]

    def forget(self, now: float) -> None:
        """Forget pods that have been lost for long, and those that deregistered long ago."""
        for key, sidecar in list(self.known.items()):
            if sidecar.lost_at(now) + LOST_SHOWN_SECONDS <= now:
                del self.known[key]
        # A record of such a pod on any server is forgotten by then, too.
        for ended in list(self.ended.values()):
            if ended.at + 2 * LOST_SHOWN_SECONDS <= now:
                del self.ended[ended.id]
        self.ends = {}
        for ended in self.ended.values():
            self.ends[ended.key] = max(ended.at, self.ends.get(ended.key, -math.inf))


class Others(NamedTuple):
    """What the other servers know of one fleet.

    ``missing`` says why they may know more, or is empty. ``all_heard_at`` is when the server among them that answers,
    knows everything and has run for longest had heard every pod there is.
    """

    heard: Sequence[Heard] = ()
    asked: int = 1
    answered: int = 1
    missing: str = ""
    all_heard_at: float = math.inf
    crowded_until: float = 0.0
    heads: Sequence[tuple[str, int]] = ()
    """Log id and highest sequence, as each of them knows it."""

    def disagree(self, deployment: str, log_id: str, head: int) -> str:
        """Return a sentence if another server knows a newer deploy, or another log; empty if none does."""
        for other_id, other_head in self.heads:
            if other_id and log_id and other_id != log_id:
                return f"Another server knows {deployment} with another log id; this one has not read it yet."
            if other_head > head:
                return f"Another server knows deploy {other_head} of {deployment}; this one has not read it yet."
        return ""


ALONE = Others()
"""There are no other servers."""


def merged(own: Sidecars, heard: Iterable[Heard], now: float) -> tuple[list[Sidecar], tuple[Ended, ...]]:
    """Return all pods that any server knows, and those that deregistered, in the order of their ends."""
    others = list(heard)
    if not others:
        return list(own.known.values()), tuple(one for one in own.ended if one.came < math.inf)
    ended: dict[str, Ended] = {one.id: one for one in own.ended}
    ends: dict[PodKey, float] = {}
    for other in others:
        for one in other.ended.values():
            known = ended.get(one.id)
            ended[one.id] = one if known is None or one.came < known.came else known
    for one in ended.values():
        ends[one.key] = max(one.at, ends.get(one.key, -math.inf))
    # A server that did not know a pod that deregistered cannot say when it came; another one may.
    came: dict[PodKey, tuple[float, str]] = {}
    best: dict[PodKey, Sidecar] = {}
    for known_pods in (own.known, *(other.known for other in others)):
        for key, sidecar in known_pods.items():
            if ends and sidecar.reported <= ends.get(key, -math.inf):
                if key not in came or sidecar.first_seen < came[key][0]:
                    came[key] = sidecar.first_seen, sidecar.component
            elif sidecar.lost_at(now) + LOST_SHOWN_SECONDS > now:
                first = best.get(key)
                best[key] = sidecar if first is None else joined(first, sidecar)
    return list(best.values()), tuple(_completed(ended.values(), came))


def joined(one: Sidecar, other: Sidecar) -> Sidecar:
    """Return what two servers know of one pod, with the revision of the later change."""
    newer, older = (one, other) if one.reported >= other.reported else (other, one)
    if newer.first_seen <= older.first_seen and newer.seen >= older.seen and (newer.open or not older.open):
        return newer
    both = Sidecar.copy_of(newer)
    both.first_seen = min(one.first_seen, other.first_seen)
    both.seen = max(one.seen, other.seen)
    both.open = one.open + other.open
    both.revision = max(one.revision, other.revision)
    return both


def _completed(ended: Iterable[Ended], came: dict[PodKey, tuple[float, str]]) -> Iterable[Ended]:
    """Yield the pods that deregistered and were known, in the order of their ends."""
    for one in sorted(ended, key=lambda each: each.at):
        if one.came < math.inf:
            yield one
        elif one.key in came:
            first_seen, component = came.pop(one.key)
            yield one._replace(came=first_seen, component=component)
