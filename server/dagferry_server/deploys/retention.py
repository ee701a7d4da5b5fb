"""Deletes the bundles that no kept deploy names, and all bundles of deleted deployments. The log itself stays.

One pass looks at all deployments, in a thread that yields the interpreter to the event loop; all requests during a pass
share the next one. A pass works on copies of the logs. Before a bundle is deleted, the entries that are newer than the
copy are read under the deployment's lock, and under the lock that commits of other servers hold: a commit that names an
old bundle again comes before or after, never in between. A bundle that is open can be read to its end.

On a store that several servers share there is no such lock. A pass marks, and deletes what an earlier pass of any
server marked: ``Store.may_delete`` decides, and only then are the newer entries read. So a pass may be paused anywhere,
for any time. Bundles of candidates that wait for a checker are kept, and looked for again before a deletion, as
entries are. Because a pass reads lists of the whole store, and one after a deploy could delete nothing yet, a timer
starts them: see docs/adr/0043.

A bundle of a version that a DAG run needs stays, whatever the rules say: the leases are read before bundles are marked,
and again before they are deleted. Where they cannot be read, nothing is deleted. See docs/adr/0046.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import NamedTuple

from dagferry_core.deploylog import Deploy, Stored, decode, kept_bundles
from dagferry_core.errors import FormatError
from dagferry_runtime.logs import fields, log_failure
from dagferry_server.background import Background
from dagferry_server.coalescing import Coalescer
from dagferry_server.deploys import candidates
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.deploys.leases import leased_digests
from dagferry_server.deploys.lifecycle import DELETED, read_lifecycle
from dagferry_server.errors import StoreDamaged, StoreError
from dagferry_server.metrics import Metrics
from dagferry_server.pacing import paced
from dagferry_server.store.base import CANDIDATES, LEASES, Store, decoding

BATCH_BUNDLES = 100
"""How many bundles are deleted at a time, while commits wait."""
PASS_SECONDS = 1800.0
PASS_JITTER = 0.2
"""How often there is a pass over a shared store, and by which part of that it is earlier or later, by chance."""

log = logging.getLogger(__name__)


class _Seen(NamedTuple):
    """A deployment as a pass sees it: its log up to the sequence ``highest``, in ascending sequence."""

    deployment: Deployment
    highest: int
    deploys: Sequence[Deploy]
    unreadable: bool


class _Found(NamedTuple):
    """The digests of the bundles to delete, and the number and the size of all bundles."""

    surplus: Sequence[str]
    bundles: int
    bytes: int


class RetentionRunner:
    """Deletes what ``deployments`` do not keep.

    ``deleted`` are names of deleted deployments that may still have bundles; those that have none are removed from it.
    ``max_store_bytes`` is how much the bundles of all of them may take; ``clock`` gives seconds since the epoch.
    """

    def __init__(
        self,
        store: Store,
        deployments: Mapping[str, Deployment],
        metrics: Metrics,
        background: Background,
        *,
        deleted: set[str],
        max_store_bytes: float,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._deployments = deployments
        self._metrics = metrics
        self._background = background
        self._deleted = deleted
        self._max_store_bytes = max_store_bytes
        self._clock = clock
        self._runs = Coalescer()
        self._requested = False

    def request(self) -> None:
        """Start a run soon, in the background; on a shared store, only the first time: the timer starts the others."""
        if not (self._store.shared and self._requested):
            self._background.spawn(self.run())
        self._requested = True

    async def run_regularly(self) -> None:
        """Start a run on a shared store every ``PASS_SECONDS``, until cancelled; on any other store, return."""
        while self._store.shared:
            await asyncio.sleep(PASS_SECONDS * random.uniform(1 - PASS_JITTER, 1 + PASS_JITTER))  # noqa: S311
            await asyncio.wait({self._background.spawn(self.run())})  # one that fails is logged, and not the last

    async def run(self) -> None:
        """Delete what is not kept, in every deployment; a failure is logged, and the next run tries again."""
        await self._runs.run(self._pass)

    async def _pass(self) -> None:
        seen: dict[str, _Seen] = {}
        stored: dict[str, Stored] = {}
        for name, deployment in list(self._deployments.items()):
            if not await self._is_known(deployment):
                continue
            # One copy at a time: a long log takes a millisecond of the event loop.
            one = _Seen(deployment, deployment.highest, list(deployment.recent.values()), bool(deployment.unreadable))
            try:
                sizes, needed = await asyncio.to_thread(_bundles, self._store, one)
            except StoreError as error:
                _log_failure(error, deployment)
            else:
                seen[name] = one
                stored[name] = Stored(one.deploys, sizes, deployment.settings.retention, needed)
            if self._background.stopping:
                # Bundles that are not counted make the store look smaller, so nothing is deleted because of them.
                break
        found = await asyncio.to_thread(_look, seen, stored, self._max_store_bytes, self._clock())
        for name, there in found.items():
            deleted = await self._delete(seen[name], there.surplus)
            bundles = there.bundles - len(deleted)
            left = there.bytes - sum(stored[name].bundle_bytes[digest] for digest in deleted)
            # Else it was removed, and its metrics are forgotten.
            if self._deployments.get(name) is seen[name].deployment:
                self._metrics.stored_bytes.labels(name).set(left)
                self._metrics.stored_bundles.labels(name).set(bundles)
            if deleted:
                log.info(
                    "Bundles deleted",
                    extra=fields(deployment=name, deleted=len(deleted), stored=bundles, stored_bytes=left),
                )

        await self._empty_deleted()

    async def _is_known(self, deployment: Deployment) -> bool:
        """Return whether all entries can be read: one that cannot be read now may name any of the bundles.

        On a shared store, look for those of other servers first. A bundle that only they name would be marked, and
        stored once more by the next commit that needs it.
        """
        if self._store.shared and not deployment.away:
            try:
                async with deployment.lock:
                    await deployment.refresh()
            except StoreError as error:
                _log_failure(error, deployment)
                return False
        return deployment.away is None

    async def _empty_deleted(self) -> None:
        for name in sorted(self._deleted):
            if self._background.stopping:
                break
            try:
                deleted = await asyncio.to_thread(_delete_all, self._store, name)
            except StoreError as error:
                log_failure("Retention failed", error, deployment=name)
                continue
            if deleted is not None:
                self._deleted.discard(name)
            if deleted:
                log.info("Bundles deleted", extra=fields(deployment=name, deleted=deleted, stored=0, stored_bytes=0))

    async def _delete(self, seen: _Seen, digests: Sequence[str]) -> set[str]:
        """Delete bundles in batches, and return which are gone."""
        deployment = seen.deployment
        deleted: set[str] = set()
        try:
            allowed = await asyncio.to_thread(self._store.may_delete, deployment.name, digests)
            digests = [digest for digest in digests if digest in allowed]
            for start in range(0, len(digests), BATCH_BUNDLES):
                if (start and self._background.stopping) or self._deployments.get(deployment.name) is not deployment:
                    break
                batch = set(digests[start : start + BATCH_BUNDLES])
                # On a shared store the marks protect commits, and this server's would wait for a hundred requests.
                async with nullcontext() if self._store.shared else deployment.lock:
                    deleted |= await asyncio.to_thread(_delete_batch, self._store, seen, batch)
        except StoreError as error:
            _log_failure(error, deployment)
        return deleted


def _bundles(store: Store, seen: _Seen) -> tuple[Mapping[str, int], set[str]]:
    """Return the stored bundles, and those that are needed whatever the rules say."""
    sizes = store.bundles(seen.deployment.name)
    return sizes, _needed(store, seen)


def _needed(store: Store, seen: _Seen) -> set[str]:
    """Return the digests of the bundles that DAG runs, candidates, or deploys need that wait here; blocks."""
    name, held = seen.deployment.name, seen.deployment.checking.needed
    return leased_digests(store, name, seen.deploys) | candidates.spared(store, name) | held


def _look(
    seen: Mapping[str, _Seen], stored: Mapping[str, Stored], max_store_bytes: float, now: float
) -> dict[str, _Found]:
    """Return what may be deleted, by deployment; called in a thread."""
    kept = kept_bundles(stored, max_store_bytes, now, paced)
    found = {}
    for name, (deploys, sizes, *_) in stored.items():
        surplus = [digest for digest in paced(sizes) if digest not in kept[name]]
        if surplus and seen[name].unreadable:
            # A bundle that no entry names may belong to an entry that is about to be restored.
            named = {deploy.digest for deploy in paced(deploys)}
            surplus = [digest for digest in surplus if digest in named]
        found[name] = _Found(surplus, len(sizes), sum(sizes.values()))
    return found


def _delete_batch(store: Store, seen: _Seen, digests: set[str]) -> set[str]:
    name = seen.deployment.name
    with store.deleting(name) as alone:
        if not alone:
            # Another server commits; the next pass looks again.
            return set()
        since = [sequence for sequence in store.sequences(name) if sequence > seen.highest]
        with decoding(f"An entry of the deploy log of {name}"):
            digests -= {decode(store.read_entry(name, sequence), sequence).digest for sequence in since}
        digests -= _needed(store, seen)
        for digest in digests:
            store.delete_bundle(name, digest)
        for deploy in seen.deploys:
            if deploy.digest in digests and deploy.details:
                store.delete_details(name, deploy.sequence, deploy.nonce)
    return digests


def _delete_all(store: Store, name: str) -> int | None:
    """Delete bundles, details and leases of a deleted deployment and return how many bundles there were; in a thread.

    ``None`` if some are left, because a commit is in progress, or a shared store waits. If the deployment exists again,
    nothing is deleted: a commit to it waits until this ends.
    """
    with store.deleting(name) as alone:
        if not alone:
            return None
        if not _is_deleted(store, name):
            return 0
        store.delete_notes(name, CANDIDATES)
        digests = store.bundles(name)
        allowed = store.may_delete(name, digests)
        # Again, for a shared store: commits since then rely on nothing that is marked, and those before have ended.
        if store.shared and not _is_deleted(store, name):
            return 0
        for digest in paced(allowed):
            store.delete_bundle(name, digest)
        if len(allowed) < len(digests):
            return None
        store.delete_notes(name, LEASES)
        for sequence in paced(store.sequences(name) if digests else ()):
            with suppress(FormatError, StoreDamaged):  # an entry that names no details that could be found
                if nonce := decode(store.read_entry(name, sequence), sequence).nonce:
                    store.delete_details(name, sequence, nonce)
        return len(digests)


def _is_deleted(store: Store, name: str) -> bool:
    lifecycle = read_lifecycle(store, name)
    return lifecycle is not None and lifecycle.change == DELETED


def _log_failure(error: StoreError, deployment: Deployment) -> None:
    log_failure("Retention failed", error, deployment=deployment.name)
