"""What the other servers said about their pods, and who of them is missing. Used on the event loop.

A server is known by its random id, one for each process. What a server said stays when it is gone: its pods are lost
some time later, unless another server hears them.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from dagferry_server.deploys.deployment import Deployment
from dagferry_server.fleet.merge import Heard, Others
from dagferry_server.fleet.reporters import Reported
from dagferry_server.fleet.sidecars import Ended, Offer, PodKey, Sidecar, next_revision
from dagferry_server.peers.wire import DeploymentNews, EndedRow, News, PodRow, ReportRow, Since

CLOCK_ANSWERS = 20
"""Of how many answers the quickest one tells how the clock of a server differs from this one."""
SAME_SECONDS = 0.5
"""Moments on another server's clock that differ by less are the same."""


class Server:
    """One other server: what it said, by deployment. ``answers`` is false until it has said all, and when it fails."""

    def __init__(self, server_id: str) -> None:
        self.id = server_id
        self.answers = False
        self.stopping = False
        self.whole = False
        self.reaches_store = False
        self.hears: frozenset[str] = frozenset()
        self.heard: dict[str, Heard] = {}
        self.since: Since | None = None
        self.sent_at = -math.inf
        """When its newest answer was sent, on this server's clock."""
        self._offsets: deque[float] = deque(maxlen=CLOCK_ANSWERS)

    def sent(self, news: News, received: float) -> float:
        """Return when an answer was sent, on this server's clock: never later than it was received."""
        self._offsets.append(received - news.sent)
        self.sent_at = min(news.sent + min(self._offsets), received)
        return self.sent_at


class Knowledge:
    """What all other servers said about the fleets of ``deployments``."""

    def __init__(self, deployments: Mapping[str, Deployment], clock: Callable[[], float] = time.monotonic) -> None:
        self._deployments = deployments
        self._clock = clock
        self.servers: dict[str, Server] = {}
        self.left: dict[str, Heard] = {}
        """What is known of the pods of servers that are gone, by deployment."""

    def apply(self, news: News, received: float) -> bool:
        """Remember what a server said; return whether that may change the status of a fleet."""
        server = self.servers.setdefault(news.server, Server(news.server))
        sent = server.sent(news, received)
        if news.full:
            server.heard.clear()
        changed = news.full
        for name, told in news.deployments.items():
            changed = self._apply(server, name, told, sent) or changed
        for name in news.gone:
            changed = server.heard.pop(name, None) is not None or changed
        before = server.answers, server.stopping, server.whole, server.hears, server.reaches_store
        server.since = Since(server=news.server, revision=news.revision, change=news.change)
        server.answers = server.answers or not news.more
        server.stopping, server.whole, server.reaches_store = news.stopping, news.whole, news.reaches_store
        server.hears = frozenset(news.hears)
        after = server.answers, server.stopping, server.whole, server.hears, server.reaches_store
        if changed or before != after:
            self.mark({*news.deployments, *news.gone} if before == after else self._deployments)
        return before != after

    def _apply(self, server: Server, name: str, told: DeploymentNews, sent: float) -> bool:
        heard = server.heard.get(name)
        if heard is None or heard.generation != told.generation:
            heard = server.heard[name] = Heard()
        changed = bool(told.ended) or (heard.log_id, heard.head) != (told.log_id, told.head)
        heard.generation, heard.log_id, heard.head = told.generation, told.log_id, told.head
        for moment, at in (("all_heard_at", sent + told.heard_in), ("crowded_until", sent + told.crowded_for)):
            # Each answer tells it a little differently.
            if not abs(getattr(heard, moment) - at) < SAME_SECONDS:
                setattr(heard, moment, at)
                changed = True
        offers = [Offer(*offer) for offer in told.offers]
        in_use = dict(told.in_use)
        for place, row in enumerate(told.pods):
            pod = _pod(row, offers, sent, in_use.get(place, 0))
            known = heard.known.get(pod.key)
            changed = changed or known is None or _says(known) != _says(pod) or self._differs(name, pod, sent)
            if pod.reported > heard.ends.get(pod.key, -math.inf):
                heard.known[pod.key] = pod
        deployment = self._deployments.get(name)
        for end in told.ended:
            ended = _ended(end, sent)
            heard.end(ended)
            if deployment:
                deployment.fleet.sidecars.end_elsewhere(ended)
        if deployment:
            for report in told.reports:
                # It counts as long as if it had been sent here, also if that server is gone.
                deployment.fleet.reporters.hear(_reported(report, sent))
        return changed

    def _differs(self, name: str, pod: Sidecar, now: float) -> bool:
        """Return whether a pod was lost until now, or said something else to another server, or this one, last.

        One that has moved back to a server may say there what it said there before.
        """
        newest, deployment = self.newest(name, pod.key), self._deployments.get(name)
        own = deployment.fleet.sidecars.known.get(pod.key) if deployment else None
        if own and (newest is None or own.reported > newest.reported):
            newest = own
        return newest is None or newest.is_lost(now) or _says(newest) != _says(pod)

    def mark(self, names: Iterable[str]) -> None:
        """Let the fleets of these deployments be judged again."""
        for name in names:
            if deployment := self._deployments.get(name):
                deployment.fleet.mark()

    def failed(self, server_id: str) -> None:
        """Note that a server does not answer: nothing is known of its pods since its last answer."""
        server = self.servers.get(server_id)
        if server is None:
            return
        server.answers = False
        server.since = None  # when it answers again, it tells everything
        for heard in server.heard.values():
            for pod in heard.known.values():
                if pod.open:
                    pod.open, pod.seen = 0, max(pod.seen, server.sent_at)
        self.mark(self._deployments)

    def leave(self, server_id: str) -> None:
        """Note that a server is gone: what it said about its pods stays, and the other servers get it too."""
        self.failed(server_id)
        server = self.servers.pop(server_id, None)
        if server is None:
            return
        for name, heard in server.heard.items():
            left = self.left.setdefault(name, Heard(is_left=True))
            for key, pod in heard.known.items():
                known = left.known.get(key)
                if known is None or known.reported < pod.reported:
                    pod.revision = next_revision()
                    left.known[key] = pod
            for ended in heard.ended.values():
                left.end(ended._replace(revision=next_revision()))
        self.mark(self._deployments)

    def forget(self) -> None:
        """Forget pods that are gone for long, or that another server has heard since; called now and then."""
        now = self._clock()
        for name, left in list(self.left.items()):
            deployment = self._deployments.get(name)
            known = [server.heard[name].known for server in self.servers.values() if name in server.heard]
            if deployment:
                known.append(deployment.fleet.sidecars.known)
            for key, pod in list(left.known.items()):
                if any(key in there and there[key].reported >= pod.reported for there in known):
                    del left.known[key]
            left.forget(now)
            if deployment is None or not (left.known or left.ended):
                del self.left[name]
        for server in self.servers.values():
            for heard in server.heard.values():
                heard.forget(now)

    def others(self, name: str, asked: int, answered: int, missing: str) -> Others:
        """Return what the other servers know of one fleet."""
        answering = [server for server in self.servers.values() if server.answers and name in server.heard]
        heard = [server.heard[name] for server in self.servers.values() if name in server.heard]
        if left := self.left.get(name):
            heard.append(left)
        told = [server.heard[name] for server in answering]
        return Others(
            heard,
            asked,
            answered,
            missing,
            min((server.heard[name].all_heard_at for server in answering if server.whole), default=math.inf),
            max((one.crowded_until for one in heard), default=0.0),
            tuple((one.log_id, one.head) for one in told),
        )

    def newest(self, name: str, key: PodKey) -> Sidecar | None:
        """Return what another server heard of a pod last, if one did."""
        newest, ended_at = None, -math.inf
        for heard in (*(server.heard.get(name) for server in self.servers.values()), self.left.get(name)):
            if heard is None:
                continue
            pod = heard.known.get(key)
            ended_at = max(ended_at, heard.ends.get(key, -math.inf))
            if pod and (newest is None or pod.reported > newest.reported):
                newest = pod
        return newest if newest and newest.reported > ended_at else None


def _pod(row: PodRow, offers: list[Offer], sent: float, in_use: int) -> Sidecar:
    pod = Sidecar.__new__(Sidecar)
    pod.instance, pod.volume, pod.component = row.instance, row.volume, row.component
    pod.live, pod.log_id, pod.error, pod.in_use = row.live, row.log_id, row.error, in_use
    pod.offered = offers[row.offered] if 0 <= row.offered < len(offers) else None
    pod.confirmed = offers[row.confirmed] if 0 <= row.confirmed < len(offers) else None
    pod.reported, pod.seen, pod.first_seen = sent - row.reported, sent - row.seen, sent - row.first_seen
    pod.open, pod.revision = int(row.is_open), 0
    return pod


def _ended(row: EndedRow, sent: float) -> Ended:
    came = math.inf if row.came is None else sent - row.came
    return Ended(row.component, sent - row.at, came, (row.instance, row.volume), row.id)


def _reported(row: ReportRow, sent: float) -> Reported:
    return Reported(
        (row.component, row.instance, row.id),
        row.log_id,
        row.parsed,
        sent - row.heard,
        sent - row.came,
        None if row.complete is None else sent - row.complete,
        row.complete_at,
        left=row.left,
        own=False,
    )


def _says(pod: Sidecar) -> tuple[object, ...]:
    return pod.live, pod.log_id, pod.error, pod.component, pod.in_use, pod.confirmed
