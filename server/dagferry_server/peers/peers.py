"""The other servers on the same store: who they are, what they know, and what they learn from this one.

Each of them is asked for news by one request at a time, which waits for the next change. After a deploy or a change of
state, all are poked: they look into the store at once. A poke that is lost costs a second, until they look anyway.

A server knows the others by random ids: so it finds itself among the addresses, and a restarted one is another one. A
server that asks for news without being heard, or that another server hears, is missing until it is heard here, too: a
status is never based on a part of the servers. See docs/adr/0039.
"""

import asyncio
import logging
import math
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence

from dagferry_runtime.logs import fields
from dagferry_server.background import log_if_failed
from dagferry_server.config.blocking import Blocking
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.fleet.merge import Others
from dagferry_server.fleet.waiters import Waiters
from dagferry_server.metrics import Metrics
from dagferry_server.peers.addresses import MAX_PEERS, Place, resolve
from dagferry_server.peers.client import SILENT_SECONDS, Client, NotAPeer, Tls, Unanswered
from dagferry_server.peers.journal import Journal
from dagferry_server.peers.knowledge import Knowledge, Server
from dagferry_server.peers.wire import DeploymentNews, FleetRequest, News, Poke

RESOLVE_EVERY_SECONDS = 3.0
RESOLVE_SECONDS = 5.0
"""How often the names are resolved, and for how long each time."""
WAIT_SECONDS = 5.0
"""How long a request for news waits for something new."""
COALESCE_SECONDS = 1.0
"""Changes within this time are sent together."""
RETRY_SECONDS = 1.0
"""The pause before a server that does not answer is asked again, up to a half shorter by chance."""
SELF_SECONDS, DOUBLE_SECONDS = 30.0, 5.0
"""How often an address is asked again at which this server itself answered, or one that is heard at another address."""
LEAVING_SECONDS = 30.0
"""How long a server that said it stops may be gone before its address counts as missing again."""
FORGET_EVERY_SECONDS = 30.0
MAX_CALLERS = 1000

log = logging.getLogger(__name__)


def _is_ahead(deployment: Deployment, there: DeploymentNews) -> bool:
    """Return whether another server knows a newer deploy, or another log."""
    return there.head > deployment.highest or there.log_id not in {"", deployment.log_id}


class _Peer:
    """One address of another server, or of this one."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.server_id = ""
        self.is_heard = False
        """Whether the server with this id answers here, and nowhere before."""
        self.is_double = False
        """Whether it is this server itself, or one that is heard at another address."""
        self.error = "it was not asked yet"
        self.left_at = -math.inf
        self.task: asyncio.Task[None] | None = None
        self.pokes: dict[str, Poke] = {}
        self.poking: asyncio.Task[None] | None = None


class Peers:
    """The other servers. Used on the event loop; ``open`` starts it, and ``close`` ends it.

    ``on_poke`` is called with a deployment that changed, or ``None`` if a record of state did. ``reaches_store``
    returns whether this server reaches the store.
    """

    def __init__(
        self,
        names: Sequence[Place],
        accepted: Callable[[], Sequence[bytes]],
        tls: Tls | None,
        deployments: Mapping[str, Deployment],
        metrics: Metrics,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id = secrets.token_hex(16)
        self.on_poke: Callable[[str | None], None] = lambda _: None
        self.reaches_store: Callable[[], bool] = lambda: True
        self.on_gone: Callable[[str], None] = lambda _: None
        """Called with the id of a server that does not answer any more."""
        self.grown_at = -math.inf
        """When a server was heard for the first time, last; on the event loop's clock."""
        self._names = names
        self._accepted = accepted
        self._tls = tls
        self._deployments = deployments
        self._metrics = metrics
        for outcome in ("sent", "failed", "received", "rejected"):  # shown from the start
            metrics.pokes.labels(outcome)
        self._clock = clock
        self._peers: dict[Place, _Peer] = {}
        self._unresolved: dict[Place, str] = dict.fromkeys(names, "it was not resolved yet")
        self._resolved: dict[Place, list[Place]] = {}
        self._callers: dict[str, float] = {}
        self._left: dict[str, float] = {}
        self._answered_at: dict[str, float] = {}
        self._change = 0
        self._changed, self._stopped = Waiters(), Waiters()
        self._stopping = False
        self._look_again = asyncio.Event()
        self._resolver: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._shown: tuple[int, int, str] = (1, 1, "")
        self.knowledge = Knowledge(deployments, clock)
        self._journal = Journal(deployments, self.knowledge.left, clock)

    # --- what others use ---------------------------------------------------------------------------------------------

    def connect(self, deployment: Deployment) -> None:
        """Let the fleet of a deployment know what the other servers know of it, and they what it knows."""
        name, fleet = deployment.name, deployment.fleet
        fleet.others = lambda: self.others(name)
        fleet.on_own_change = self._note_change
        fleet.sidecars.elsewhere = lambda key: self.knowledge.newest(name, key)

    def others(self, name: str) -> Others:
        """Return what the other servers know of the fleet of a deployment."""
        return self.knowledge.others(name, *self._shown)

    def any_reaches_store(self) -> bool:
        """Return whether another server that answers says that it reaches the store."""
        return any(server.answers and server.reaches_store for server in self.knowledge.servers.values())

    def leader(self) -> str:
        """Return the lowest id of the servers that answer, this one included: that one sends what one has to send."""
        return min([self.id, *(server.id for server in self._answering())])

    def poke(self, deployment: str, sequence: int | None = None) -> None:
        """Tell all other servers of a deploy, or, without its sequence, of a change of state, in the background."""
        if self._stopping:
            return
        poke = Poke(server=self.id, deployment=deployment, sequence=sequence)
        for peer in self._peers.values():
            if peer.is_double:
                continue
            peer.pokes[f"{deployment} {sequence is None}"] = poke
            if peer.poking is None:
                peer.poking = asyncio.create_task(self._poke(peer))
                peer.poking.add_done_callback(log_if_failed)

    def poked(self, poke: Poke) -> None:
        """Look into the store because another server says that something has changed, unless it is known already."""
        self._metrics.pokes.labels("received").inc()
        deployment = self._deployments.get(poke.deployment)
        if poke.sequence is None or deployment is None:
            self.on_poke(None)
        elif deployment.highest < poke.sequence:
            self.on_poke(deployment.name)

    async def answer(self, request: FleetRequest) -> News:
        """Return what the sender of a request does not know yet, as soon as there is something."""
        self._note_caller(request.server)
        loop = asyncio.get_running_loop()
        if request.server == self.id:  # it only wants to know whether this is itself
            return News(server=self.id, sent=self._clock(), revision=0, change=0)
        since = request.since if request.since and request.since.server == self.id else None
        if since is None:
            return self._news(None)
        end = loop.time() + min(request.wait, WAIT_SECONDS)
        while since.change == self._change and not self._stopping and (left := end - loop.time()) > 0:
            if not await self._changed.wait(left):
                break
        pause = self._answered_at.get(request.server, 0.0) + COALESCE_SECONDS - loop.time()
        if request.wait and pause > 0 and not self._stopping:
            await self._stopped.wait(pause)
        self._answered_at[request.server] = loop.time()
        self._note_caller(request.server)
        return self._news(since.revision)

    async def open(self) -> None:
        """Start to resolve the names, and to ask who is there."""
        self._resolver = asyncio.create_task(self._resolve())
        self._resolver.add_done_callback(log_if_failed)
        self._recount()

    def stop(self) -> None:
        """Tell the other servers that this one stops, with the answers that they wait for."""
        self._stopping = True
        self._changed.close()
        self._stopped.close()

    async def close(self) -> None:
        """Send the pokes that are left, and end everything."""
        self.stop()
        if poking := [peer.poking for peer in self._peers.values() if peer.poking]:
            await asyncio.wait(poking)
        tasks = [peer.task for peer in self._peers.values() if peer.task]
        tasks += [self._resolver] if self._resolver else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._closing, return_exceptions=True)
        for peer in self._peers.values():
            await peer.client.close(for_good=True)

    # --- news --------------------------------------------------------------------------------------------------------

    def _note_change(self) -> None:
        self._change += 1
        self._changed.notify_all()

    def _note_caller(self, server_id: str) -> None:
        if server_id == self.id:
            return
        if server_id not in self._callers:
            self._look_again.set()
            if len(self._callers) >= MAX_CALLERS:
                del self._callers[next(iter(self._callers))]
        self._callers[server_id] = self._clock()
        self._recount()

    def _news(self, revision: int | None) -> News:
        page = self._journal.since(revision or 0)
        return News.model_construct(
            server=self.id,
            sent=self._clock(),
            revision=page.revision,
            change=self._change,
            full=revision is None,
            more=page.more,
            stopping=self._stopping,
            whole=not self._shown[2],
            reaches_store=self.reaches_store(),
            hears=[server.id for server in self._answering()],
            deployments=page.deployments,
            gone=page.gone,
        )

    async def _ask(self, peer: _Peer) -> None:
        failures = 0
        while not self._stopping:
            server = self.knowledge.servers.get(peer.server_id) if peer.is_heard or peer.is_double else None
            since = server.since if server else None
            wait = WAIT_SECONDS if peer.is_heard and since and server and server.answers else 0.0
            try:
                news = await peer.client.news(FleetRequest(server=self.id, since=since, wait=wait))
            except Unanswered as error:
                failures += 1
                await peer.client.close()
                if isinstance(error, NotAPeer):
                    peer.left_at = -math.inf  # what stopped there has a successor
                if failures > 1 or not peer.is_heard:
                    self._failed(peer, str(error))
                    await asyncio.sleep(RETRY_SECONDS * random.uniform(0.5, 1))  # noqa: S311 - not for secrets
                continue
            failures = 0
            if self._is_double(peer, news.server):
                await asyncio.sleep(SELF_SECONDS if news.server == self.id else DOUBLE_SECONDS)
                continue
            self._heard(peer, news)
            if news.stopping:
                await asyncio.sleep(RETRY_SECONDS)

    def _is_double(self, peer: _Peer, server_id: str) -> bool:
        """Note which server answered at an address; return whether it is this one, or heard at another one."""
        if peer.server_id and peer.server_id != server_id:
            self._leave(peer)
        peer.server_id = server_id
        heard = any(
            other.server_id == server_id and other.is_heard for other in self._peers.values() if other is not peer
        )
        peer.is_double = server_id == self.id or heard
        if peer.is_double:
            peer.is_heard = False
            self._recount()
        return peer.is_double

    def _heard(self, peer: _Peer, news: News) -> None:
        is_new = news.server not in self.knowledge.servers
        peer.error = ""
        peer.is_heard = True
        changed = self.knowledge.apply(news, self._clock())
        if news.stopping:
            if news.server not in self._left:
                log.info("A peer is stopping", extra=fields(peer=str(peer.client.place), server=news.server))
            peer.left_at = self._left[news.server] = self._clock()
            self._leave(peer)
        elif is_new:
            self.grown_at = asyncio.get_running_loop().time()
            log.info("A peer answers", extra=fields(peer=str(peer.client.place), server=news.server))
        if changed or is_new:
            self._note_change()
        self._recount()
        for name, changed_there in news.deployments.items():
            deployment = self._deployments.get(name)
            if deployment and deployment.loaded and _is_ahead(deployment, changed_there):
                self.on_poke(name if changed_there.log_id == deployment.log_id else None)

    def _failed(self, peer: _Peer, why: str) -> None:
        if peer.error != why:
            peer.error = why
            log.warning("A peer does not answer", extra=fields(peer=str(peer.client.place), error=why))
        if peer.is_heard:
            peer.is_heard = False
            self.knowledge.failed(peer.server_id)
            self.on_gone(peer.server_id)
            self._note_change()
        # Another address of the same server may answer: it is tried soon.
        peer.is_double = False
        self._recount()

    def _leave(self, peer: _Peer) -> None:
        """Note that the server that answered at an address is gone."""
        if peer.is_heard:
            self.knowledge.leave(peer.server_id)
            self.on_gone(peer.server_id)
            self._note_change()
        elif peer.server_id and not any(other.server_id == peer.server_id for other in self._others_than(peer)):
            self.knowledge.leave(peer.server_id)
        peer.is_heard, peer.server_id = False, ""

    def _others_than(self, peer: _Peer) -> list[_Peer]:
        return [other for other in self._peers.values() if other is not peer]

    def _answering(self) -> list[Server]:
        heard = {peer.server_id for peer in self._peers.values() if peer.is_heard}
        return [server for server in self.knowledge.servers.values() if server.answers and server.id in heard]

    def _recount(self) -> None:
        """Count who is asked and who answers, and let all fleets be judged again if that has changed."""
        now = self._clock()
        answering = self._answering()
        active = [
            peer
            for peer in self._peers.values()
            if not peer.is_double and (peer.is_heard or now - peer.left_at > LEAVING_SECONDS)
        ]
        ids = {server.id for server in answering}
        known = {other for server in answering for other in server.hears}
        known |= {caller for caller, at in self._callers.items() if now - at < SILENT_SECONDS}
        left = {gone for gone, at in self._left.items() if now - at < LEAVING_SECONDS}
        unheard = known - ids - left - {self.id}
        silent = [peer for peer in active if peer.server_id not in ids]
        more = max(0, len(unheard) - len(silent) - len(self._unresolved))
        asked = 1 + len(answering) + len(silent) + len(self._unresolved) + more
        shown = (asked, 1 + len(answering), self._missing(asked - 1 - len(answering), asked, silent))
        self._metrics.peers_known.set(asked - 1)
        self._metrics.peers_answering.set(len(answering))
        if shown != self._shown:
            was_whole, self._shown = not self._shown[2], shown
            self.knowledge.mark(self._deployments)
            if was_whole != (not shown[2]):
                self._note_change()

    def _missing(self, missing: int, asked: int, silent: Sequence[_Peer]) -> str:
        if missing == 0:
            return ""
        why = [f"{peer.client.place}: {peer.error or 'it has not sent everything yet'}" for peer in silent]
        why += [f"{name}: {error}" for name, error in self._unresolved.items()]
        first = why[0] if why else "others hear a server that this one does not find by --peers"
        do = "does" if missing == 1 else "do"
        return f"{missing} of {asked} servers {do} not answer, and may know of more pods ({first})."

    # --- pokes -------------------------------------------------------------------------------------------------------

    async def _poke(self, peer: _Peer) -> None:
        try:
            while peer.pokes:
                key = next(iter(peer.pokes))
                poke = peer.pokes.pop(key)
                try:
                    await peer.client.poke(poke)
                    self._metrics.pokes.labels("sent").inc()
                except Unanswered:
                    self._metrics.pokes.labels("failed").inc()
        finally:
            peer.poking = None

    # --- addresses ---------------------------------------------------------------------------------------------------

    async def _resolve(self) -> None:
        blocking = {name: Blocking("resolve") for name in self._names}
        forget_at = self._clock() + FORGET_EVERY_SECONDS
        while not self._stopping:
            self._look_again.clear()
            await asyncio.gather(*(self._look_up(name, blocking[name]) for name in self._names))
            self._use(dict.fromkeys(place for places in self._resolved.values() for place in places))
            if self._clock() >= forget_at:
                forget_at = self._clock() + FORGET_EVERY_SECONDS
                self._forget()
            self._recount()
            try:
                await asyncio.wait_for(self._look_again.wait(), RESOLVE_EVERY_SECONDS)
                await asyncio.sleep(RESOLVE_EVERY_SECONDS / 3)  # not more often, whatever callers do
            except (TimeoutError, asyncio.TimeoutError):
                continue

    async def _look_up(self, name: Place, blocking: Blocking) -> None:
        """Resolve a name; if that fails, the addresses that it had stay."""
        try:
            self._resolved[name] = await blocking.call(lambda: resolve(name), RESOLVE_SECONDS)
        except (TimeoutError, asyncio.TimeoutError, OSError) as error:
            why = getattr(error, "strerror", None) or f"no answer within {RESOLVE_SECONDS:g} s"
            if name not in self._resolved and self._unresolved.get(name) != why:
                self._unresolved[name] = why
                log.warning("A peer's name cannot be resolved", extra=fields(peer=str(name), error=why))
            return
        self._unresolved.pop(name, None)

    def _use(self, places: Mapping[Place, None]) -> None:
        for place in [place for place in self._peers if place not in places]:
            peer = self._peers.pop(place)
            if peer.task:
                peer.task.cancel()
            self._leave(peer)
            closing = asyncio.create_task(peer.client.close(for_good=True))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            log.info("A peer's address is gone", extra=fields(peer=str(place)))
        named = {place: name for name, found in self._resolved.items() for place in found}
        for place in list(places)[:MAX_PEERS]:
            if place not in self._peers:
                peer = _Peer(Client(place, named[place].host, self._accepted, self._tls))
                self._peers[place] = peer
                peer.task = asyncio.create_task(self._ask(peer))
                peer.task.add_done_callback(log_if_failed)

    def _forget(self) -> None:
        self.knowledge.forget()
        now = self._clock()
        self._callers = {caller: at for caller, at in self._callers.items() if now - at < SILENT_SECONDS}
        self._left = {gone: at for gone, at in self._left.items() if now - at < LEAVING_SECONDS}
        self._answered_at = {caller: at for caller, at in self._answered_at.items() if caller in self._callers}
