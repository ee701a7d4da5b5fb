"""Leases: which versions DAG runs still need, so that retention keeps their bundles.

A DAG run of Airflow 3 keeps the version that it began with, to its last task, which may be days later. The DAG bundle
in each dag processor reports these versions; here they become leases in the store, one for each holder, which all
servers read. A lease is valid for ``VALID_SECONDS`` after it was written, by the clock of the store, so that a dag
processor that is down for a day loses nothing, and one that is gone for good holds nothing forever. A lease that only
repeats what is stored is written again every ``RENEW_SECONDS``; one with a version that is new in it, at once.

Leases only keep what is there: a lease of a version that no log has, or whose bundle is gone, does nothing. All who
have a token with scope sync can have leases, so their number is limited. See docs/adr/0046.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple
from weakref import WeakKeyDictionary

from dagferry_core.deploylog import Deploy, decode
from dagferry_core.errors import FormatError
from dagferry_core.names import version_sequence
from dagferry_core.typed import typed_json
from dagferry_runtime.logs import fields, log_failure
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.deploys.held import Held
from dagferry_server.errors import StoreAway, StoreError
from dagferry_server.log_limit import Key, LogLimit
from dagferry_server.pacing import paced
from dagferry_server.store.base import LEASES, Store, check_note, decoding

VALID_SECONDS = 86_400.0
"""For how long a lease is valid after it was written, by the clock of the store."""
RENEW_SECONDS = 300.0
"""How often a lease is written again that names no version which is new in it."""
LOOK_SECONDS = 300.0
"""How often the leases that other servers wrote are read, for the status."""
MAX_VERSIONS = 200
"""How many versions a holder may have, the newest ones."""
MAX_HOLDERS = 100
"""How many holders a deployment may have. Beyond, a new one takes the place of one that was not heard for long."""
REPLACED_SECONDS = 3600.0
"""For how long a holder was not heard that a new one may replace; one that is there is heard every few seconds."""
MAX_READ_LEASES = 400
"""How many leases of a deployment are read, the newest ones. Servers write fewer."""
MAX_LINES = 10

log = logging.getLogger(__name__)


class _Content(NamedTuple):
    versions: list[str]


class StoredLease(NamedTuple):
    """A lease as it was written last.

    ``age`` is for how many seconds it has not been written again, by the clock of the storage; never negative.
    """

    holder: str
    data: bytes
    age: float


class Lease(NamedTuple):
    """The versions that a holder has, and when that was written, on the monotonic clock of this server."""

    versions: frozenset[str]
    written: float


class Leases:
    """The leases of all ``deployments`` in ``store``. Used on the event loop; ``clock`` is monotonic.

    What a deployment shows of them is in its ``leases``.
    """

    def __init__(
        self,
        store: Store,
        deployments: Mapping[str, Deployment],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._deployments = deployments
        self._clock = clock
        self._known: WeakKeyDictionary[Deployment, dict[str, Lease]] = WeakKeyDictionary()
        self._locks: WeakKeyDictionary[Deployment, asyncio.Lock] = WeakKeyDictionary()
        self._limit = LogLimit(MAX_LINES, self._summarize)

    async def renew(self, deployment: str, holder: str, versions: Sequence[str]) -> None:
        """Keep ``versions`` for ``holder`` from now on, and no others; names that are not versions are ignored.

        Does not wait for the store unless there is something to write. Raises ``StoreError`` if that fails; the next
        report of the holder tries again. ``ValueError`` if ``holder`` cannot be one (1 to 100 of a-z0-9-).
        """
        check_note(LEASES, holder)
        found = self._deployments.get(deployment)
        if found is None:
            return
        async with self._lock(found):
            await self._renew(found, holder, frozenset(newest_versions(versions)))

    async def _renew(self, deployment: Deployment, holder: str, versions: frozenset[str]) -> None:
        if deployment not in self._known:
            await self._read(deployment)
        known, now = self._known[deployment], self._clock()
        mine = known.get(holder)
        had = mine.versions if mine else frozenset()
        if versions <= had and (not had or (mine and now - mine.written < RENEW_SECONDS)):
            return
        if mine is None and not await self._make_room(deployment, known, now):
            return
        data = json.dumps(_Content(sorted(versions, reverse=True))._asdict()).encode() + b"\n"
        write = asyncio.to_thread(self._store.write_note, deployment.name, LEASES, holder, data)
        if versions <= had or self._store.shared:
            await write
        else:
            # Either retention has deleted the bundles of a batch, or it sees the lease: there is no moment in between.
            async with deployment.lock:
                await write
        known[holder] = Lease(versions, now)
        self._show(deployment)

    async def _make_room(self, deployment: Deployment, known: dict[str, Lease], now: float) -> bool:
        """Return whether another holder may have a lease; if there are too many, the one not heard for longest goes."""
        if len(known) < MAX_HOLDERS:
            return True
        oldest = min(known, key=lambda holder: known[holder].written)
        if now - known[oldest].written < REPLACED_SECONDS:
            if self._limit.allows((deployment.name,)):
                who = fields(deployment=deployment.name, holders=len(known), max_holders=MAX_HOLDERS)
                log.warning("A lease was refused: too many holders", extra=who)
            return False
        await asyncio.to_thread(self._store.delete_note, deployment.name, LEASES, oldest)
        del known[oldest]
        return True

    async def look(self, deployment: Deployment) -> None:
        """Read what other servers wrote, and remove leases that ended long ago; raise ``StoreError``."""
        async with self._lock(deployment):
            await self._read(deployment)
            self._show(deployment)

    async def _read(self, deployment: Deployment) -> None:
        began = self._clock()
        stored = await asyncio.to_thread(_read_and_clean, self._store, deployment.name)
        self._known[deployment] = {
            lease.holder: Lease(frozenset(_versions(deployment.name, lease, log_damage=True)), began - lease.age)
            for lease in stored
        }

    async def run(self) -> None:
        """Read the leases of every deployment every ``LOOK_SECONDS``, until cancelled."""
        while True:
            for deployment in list(self._deployments.values()):
                if not deployment.loaded:
                    continue
                try:
                    await self.look(deployment)
                except StoreError as error:
                    if self._limit.allows((deployment.name,)):
                        log_failure("The leases cannot be read", error, deployment=deployment.name)
            await asyncio.sleep(LOOK_SECONDS)

    def _show(self, deployment: Deployment) -> None:
        now = self._clock()
        by_version: dict[str, list[str]] = {}
        valid = {holder: one for holder, one in self._known[deployment].items() if now - one.written < VALID_SECONDS}
        for holder in sorted(valid):
            for version in valid[holder].versions:
                by_version.setdefault(version, []).append(holder)
        shown = Held({version: by_version[version] for version in sorted(by_version, reverse=True)}, len(valid))
        if shown != deployment.leases:
            deployment.leases = shown
            deployment.fleet.mark()

    def _lock(self, deployment: Deployment) -> asyncio.Lock:
        return self._locks.setdefault(deployment, asyncio.Lock())

    @staticmethod
    def _summarize(left: dict[Key, int]) -> None:
        for (deployment, *_), count in left.items():
            log.warning("Messages about leases not logged", extra=fields(deployment=deployment, suppressed=count))


def newest_versions(versions: Iterable[str]) -> list[str]:
    """Return what is a version, the newest ``MAX_VERSIONS``, newest first."""
    found = {version for version in versions if _is_version(version)}
    return sorted(found, key=lambda version: (-version_sequence(version), version))[:MAX_VERSIONS]


def _is_version(text: object) -> bool:
    try:
        return isinstance(text, str) and version_sequence(text) > 0
    except ValueError:
        return False


def stored_leases(store: Store, deployment: str) -> list[StoredLease]:
    """Return the leases of a deployment, however old, the newest first; at most ``MAX_READ_LEASES``. Blocks.

    Raises ``StoreError`` if any of them cannot be read now: a list that may lack one would let its bundles be deleted.
    """
    written = store.notes(deployment, LEASES)
    if not written:
        return []
    now = store.now()
    newest = sorted(written, key=lambda holder: -written[holder])[:MAX_READ_LEASES]
    return [
        StoredLease(holder, data, max(now - written[holder], 0.0))
        for holder, data in zip(newest, store.read_notes(deployment, LEASES, newest), strict=True)
        if data is not None
    ]


def leased_digests(store: Store, deployment: str, deploys: Iterable[Deploy]) -> set[str]:
    """Return the digests of the bundles that valid leases keep; ``deploys`` are known ones. Blocks.

    Raises ``StoreError`` if a lease, or an entry that one names, cannot be read now, or if a lease is damaged: then no
    bundle may be deleted. A damaged one ends as any other does.
    """
    wanted: dict[int, set[str]] = {}
    for lease in stored_leases(store, deployment):
        if lease.age < VALID_SECONDS:
            for version in _versions(deployment, lease):
                wanted.setdefault(version_sequence(version), set()).add(version)
    if not wanted:
        return set()
    digests = set()
    for deploy in paced(deploys):
        if deploy.version in wanted.get(deploy.sequence, ()):
            digests.add(deploy.digest)
            del wanted[deploy.sequence]
    # Of a long log, only the newest entries are known.
    return digests | {
        deploy.digest
        for deploy in _stored(store, deployment, sorted(wanted))
        if deploy.version in wanted[deploy.sequence]
    }


def _stored(store: Store, deployment: str, sequences: Sequence[int]) -> Iterator[Deploy]:
    """Yield those of the entries that the log has, and that are not damaged; ``StoreAway`` if one cannot be read."""
    for sequence, data in zip(sequences, store.read_entries(deployment, sequences), strict=True):
        if isinstance(data, StoreAway):
            raise data
        if isinstance(data, bytes):
            with suppress(FormatError):
                yield decode(data, sequence)


def _versions(deployment: str, lease: StoredLease, *, log_damage: bool = False) -> list[str]:
    """Return the versions of a stored lease; ``StoreDamaged`` if it does not decode, or that is logged."""
    try:
        with decoding(f"The lease {lease.holder} of {deployment}"):
            return newest_versions(typed_json(_Content, lease.data).versions)
    except StoreError as error:
        if not log_damage:
            raise
        log_failure("A lease cannot be read", error, deployment=deployment)
        return []


def _read_and_clean(store: Store, deployment: str) -> list[StoredLease]:
    """Return the leases that have not ended, and delete those that ended a day ago."""
    kept = []
    for lease in stored_leases(store, deployment):
        if lease.age < VALID_SECONDS:
            kept.append(lease)
        elif lease.age > 2 * VALID_SECONDS:
            # Not sooner: its holder may renew it on another server right now.
            store.delete_note(deployment, LEASES, lease.holder)
    return kept
