"""What this server tells the others about its pods: only what changed since they asked last.

Everything that changes gets a higher revision. A receiver names the highest one that it knows, and gets what is above.
"""

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import NamedTuple

from dagferry_server.deploys.deployment import Deployment
from dagferry_server.fleet.merge import Heard, joined
from dagferry_server.fleet.reporters import Reported
from dagferry_server.fleet.sidecars import Ended, Offer, Sidecar, next_revision
from dagferry_server.peers.wire import MAX_ROWS, ROW_BYTES, DeploymentNews, EndedRow, PodRow, ReportRow

MAX_GONE = 1000
"""How many deployments that are gone are remembered, for servers that have not asked since."""


class _Header(NamedTuple):
    """What is known of a deployment as a whole. Its times are on the monotonic clock."""

    log_id: str
    head: int
    generation: int
    all_heard_at: float
    crowded_until: float


class _Row(NamedTuple):
    revision: int
    deployment: str
    what: Sidecar | Ended | Reported

    @property
    def weight(self) -> int:
        """How much of ``MAX_ROWS`` it takes."""
        return 1 + self.what.size // ROW_BYTES if isinstance(self.what, Reported) else 1


class _Changed(NamedTuple):
    """What is new about one deployment."""

    pods: list[Sidecar]
    ended: list[Ended]
    reports: list[Reported]


class Page(NamedTuple):
    """What is above a revision, up to ``revision``; ``more``: there is more above that."""

    revision: int
    more: bool
    deployments: dict[str, DeploymentNews]
    gone: list[str]


class Journal:
    """Follows the fleets of ``deployments``. ``left`` has what is known of the pods of servers that are gone."""

    def __init__(
        self,
        deployments: Mapping[str, Deployment],
        left: Mapping[str, Heard],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._deployments = deployments
        self._left = left
        self._clock = clock
        self._headers: dict[str, tuple[int, _Header]] = {}
        self._gone: dict[str, int] = {}

    def since(self, revision: int) -> Page:
        """Return what changed above ``revision``; 0: everything."""
        self._look()
        highest = next_revision()
        rows = sorted((row for row in self._rows() if row.revision > revision), key=lambda row: row.revision)
        fitting = max(bisect_right(list(accumulate(row.weight for row in rows)), MAX_ROWS), 1)
        more = len(rows) > fitting
        if more:
            del rows[fitting:]
            highest = rows[-1].revision
        changed = {name: _Changed([], [], []) for name, (at, _) in self._headers.items() if at > revision}
        for _, name, what in rows:
            about = changed.setdefault(name, _Changed([], [], []))
            if isinstance(what, Sidecar):
                about.pods.append(what)
            elif isinstance(what, Ended):
                about.ended.append(what)
            else:
                about.reports.append(what)
        now = self._clock()
        news = {name: _news(self._headers[name][1], about, now) for name, about in changed.items()}
        return Page(highest, more, news, [name for name, at in self._gone.items() if at > revision])

    def _look(self) -> None:
        for name in self._headers.keys() - self._deployments.keys():
            del self._headers[name]
            self._gone[name] = next_revision()
            if len(self._gone) > MAX_GONE:
                del self._gone[next(iter(self._gone))]
        for name, deployment in self._deployments.items():
            fleet = deployment.fleet
            header = _Header(
                deployment.log_id,
                deployment.highest,
                fleet.generation,
                fleet.all_heard_at,
                fleet.sidecars.crowded_until,
            )
            if name not in self._headers or self._headers[name][1] != header:
                self._headers[name] = next_revision(), header
                self._gone.pop(name, None)

    def _rows(self) -> Iterator[_Row]:
        for name, deployment in self._deployments.items():
            sidecars, left = deployment.fleet.sidecars, self._left.get(name)
            for pod in sidecars.known.values():
                other = left.known.get(pod.key) if left else None
                # Two rows of one pod would be read in the order of their changes: the older one may have changed since.
                told = joined(pod, other) if other and pod.reported < other.reported else pod
                yield _Row(told.revision, name, told)
            for ended in sidecars.ended:
                yield _Row(ended.revision, name, ended)
            if left:
                for pod in left.known.values():
                    if pod.key not in sidecars.known:
                        yield _Row(pod.revision, name, pod)
                for ended in left.ended.values():
                    yield _Row(ended.revision, name, ended)
            # Others send what was reported to them, so nothing is sent twice.
            for said in deployment.fleet.reporters.own():
                yield _Row(said.revision, name, said)


def _news(header: _Header, about: _Changed, now: float) -> DeploymentNews:
    offers: dict[Offer, int] = {}

    def place(offer: Offer | None) -> int:
        return -1 if offer is None else offers.setdefault(offer, len(offers))

    rows = [
        PodRow(
            pod.instance,
            pod.volume,
            pod.component,
            pod.live,
            pod.log_id,
            pod.error,
            place(pod.offered),
            place(pod.confirmed),
            _age(pod.reported, now),
            _age(pod.seen, now),
            _age(pod.first_seen, now),
            pod.open > 0,
        )
        for pod in about.pods
    ]
    return DeploymentNews.model_construct(
        log_id=header.log_id,
        head=header.head,
        generation=header.generation,
        heard_in=header.all_heard_at - now,
        crowded_for=header.crowded_until - now,
        offers=[tuple(offer) for offer in offers],
        in_use=[(row, pod.in_use) for row, pod in enumerate(about.pods) if pod.in_use],
        pods=rows,
        ended=[
            EndedRow(
                one.id,
                one.key[0],
                one.key[1],
                one.component,
                _age(one.at, now),
                None if one.came == math.inf else _age(one.came, now),
            )
            for one in about.ended
        ],
        reports=[_report(said, now) for said in about.reports],
    )


def _report(said: Reported, now: float) -> ReportRow:
    component, instance, reporter_id = said.key
    return ReportRow.model_construct(
        component=component,
        instance=instance,
        id=reporter_id,
        log_id=said.log_id,
        heard=_age(said.heard_at, now),
        came=_age(said.came_at, now),
        complete=None if said.complete_since is None else _age(said.complete_since, now),
        complete_at=said.complete_at,
        left=said.left,
        parsed=said.parsed,
    )


def _age(at: float, now: float) -> float:
    """Return how long ago ``at`` was, to the millisecond: the exact one has 18 digits."""
    return max(round(now - at, 3), 0.0)
