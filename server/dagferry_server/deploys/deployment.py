"""The state of one deployment: its deploy log, the requests that wait for a change, and its fleet.

The store is the source of truth. Memory holds the newest ``MEMORY_DEPLOYS`` entries; older ones are read on request.
Memory changes on the event loop only, in one step, and only after the store has changed.

What was read stays in memory when the storage fails: a failed read is transient, not damage. But while there may be a
newer deploy than the newest known one, no client gets this one as current; the same holds if the newest entry
is damaged. See docs/adr/0006.

Where several servers share the store, there may always be a newer deploy for a moment. There, a failed read changes
nothing, unless it is known that an entry exists, or may exist, that this server does not have. See docs/adr/0042.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, NoReturn, TypeAlias

from dagferry_core.deploy_details import DeployDetails, decode_details
from dagferry_core.deploylog import Deploy, decode, entry_sha256
from dagferry_core.errors import FormatError
from dagferry_core.names import version_sequence
from dagferry_core.protocol import NOTHING_TAG
from dagferry_core.tokens import format_time
from dagferry_runtime.logs import fields, log_failure
from dagferry_server.deploys.checking import Checking
from dagferry_server.deploys.deployments_file import DeploymentSettings
from dagferry_server.deploys.freeze import Freeze, read_freeze, write_freeze
from dagferry_server.deploys.held import Held
from dagferry_server.deploys.lifecycle import DELETED, Lifecycle, read_lifecycle
from dagferry_server.deploys.records import Records, changed_records
from dagferry_server.errors import (
    BundleGone,
    DeploymentDisabled,
    DeploymentFrozen,
    NothingDeployed,
    RequestError,
    StoreAway,
    StoreDamaged,
    StoreError,
    VersionNotFound,
)
from dagferry_server.fleet.fleet import Fleet
from dagferry_server.fleet.status import Facts
from dagferry_server.fleet.waiters import Waiters
from dagferry_server.store.base import Store, decoding

MEMORY_DEPLOYS = 10_000
"""About 8 MB. Also the maximum number of deploys whose bundles retention keeps."""

Fault: TypeAlias = StoreError

log = logging.getLogger(__name__)


class _Read(NamedTuple):
    """The result of reading an entry: the deploy, or the error."""

    sequence: int
    deploy: Deploy | None
    error: StoreAway | StoreDamaged | None
    sha256: str
    """The hash of its bytes, in hex; empty if it could not be read."""

    @property
    def is_damaged(self) -> bool:
        return isinstance(self.error, StoreDamaged)

    def log_damage(self, deployment: str) -> None:
        if self.error and self.is_damaged:
            message = "An entry of the deploy log cannot be read"
            log_failure(message, self.error, deployment=deployment, sequence=self.sequence)


class Head(NamedTuple):
    """An entry of a log, by its sequence and the hash of its bytes, in hex; sequence 0: there is none."""

    sequence: int
    sha256: str


class Log(NamedTuple):
    """A deploy log as it was read: its id, the highest sequence, and the newest entries that can be read.

    ``unreadable`` are the sequences of the newest entries that cannot be read. ``away`` has the error of those that the
    storage did not return: they may be intact, and may be read later. ``sha256`` has the hashes, in hex, of the newest
    entries whose bytes are known. Entries up to the sequence ``floor`` are history, and none of them is the current
    deploy: see ``Lifecycle``.
    """

    log_id: str
    highest: int
    recent: dict[int, Deploy]
    unreadable: set[int]
    away: dict[int, StoreAway]
    sha256: dict[int, str]
    floor: int = 0
    freeze: Freeze | None = None
    is_new: bool = False
    """Whether this process has just created it."""
    lifecycle: Lifecycle | None = None
    tag: str | None = None
    """What the store's ``state_tag`` was before the rest was read; ``None`` if only this server uses the store."""


def read_log(store: Store, deployment: str, *, is_new: bool = False) -> Log:
    """Read the log, the floor and the freeze of ``deployment`` from the store, in a thread.

    What is damaged is logged and skipped.
    """
    tag = store.state_tag() if store.shared else None
    lifecycle = _read_lifecycle(store, deployment)
    sequences = store.sequences(deployment)
    read = _read_all(store, deployment, sequences[-MEMORY_DEPLOYS:])
    for each in read:
        each.log_damage(deployment)
    return Log(
        log_id=store.log_id(deployment),
        highest=sequences[-1] if sequences else 0,
        recent={each.sequence: each.deploy for each in read if each.deploy},
        unreadable={each.sequence for each in read if each.error},
        away={each.sequence: each.error for each in read if isinstance(each.error, StoreAway)},
        sha256={each.sequence: each.sha256 for each in read if each.sha256},
        floor=lifecycle.floor if lifecycle else 0,
        freeze=_read_freeze(store, deployment),
        is_new=is_new,
        lifecycle=lifecycle,
        tag=tag,
    )


def _read_lifecycle(store: Store, deployment: str) -> Lifecycle | None:
    try:
        return read_lifecycle(store, deployment)
    except StoreDamaged as error:
        log_failure("The lifecycle of a deployment cannot be read", error, deployment=deployment)
        return None


def _read_freeze(store: Store, deployment: str) -> Freeze | None:
    try:
        return read_freeze(store, deployment)
    except StoreDamaged as error:  # a deploy reads it again, and is rejected
        log_failure("The freeze of a deployment cannot be read", error, deployment=deployment)
        return None


def _read_all(store: Store, deployment: str, sequences: Sequence[int]) -> list[_Read]:
    read = []
    for sequence, data in zip(sequences, store.read_entries(deployment, sequences), strict=True):
        if isinstance(data, StoreAway | StoreDamaged):
            read.append(_Read(sequence, None, data, ""))
        elif isinstance(data, StoreError):
            raise data
        else:
            read.append(_decoded(sequence, data))
    return read


def _decoded(sequence: int, data: bytes) -> _Read:
    try:
        return _Read(sequence, decode(data, sequence), None, entry_sha256(data))
    except FormatError as error:
        damaged = StoreDamaged(f"Entry {sequence} of the deploy log is damaged: {error}.")
        return _Read(sequence, None, damaged, entry_sha256(data))


def _read_details(store: Store, deployment: str, deploy: Deploy) -> DeployDetails | None:
    try:
        with decoding(f"What is stored beside entry {deploy.sequence}"):
            return decode_details(store.read_details(deployment, deploy.sequence, deploy.nonce))
    except StoreDamaged as error:
        if store.has_bundle(deployment, deploy.digest):  # otherwise retention deleted both
            message = "The details of a deploy cannot be read"
            log_failure(message, error, deployment=deployment, sequence=deploy.sequence)
        return None


def _look(store: Store, deployment: str, highest: int, again: Iterable[int]) -> list[_Read]:
    """Read the entries ``again``, and those above ``highest``, in ascending order."""
    read = _read_all(store, deployment, sorted(again))
    newer = store.newer(deployment, highest)
    return [*read, *(_decoded(sequence, data) for sequence, data in enumerate(newer, highest + 1))]


class Deployment:
    """One deployment. ``lock`` is held while a deploy is committed, bundles are deleted, or the store is read again.

    ``current`` is the newest deploy that can be read. While there is a ``fault``, there is a newer entry: it is damaged
    or, if there is an ``away`` too, cannot be read now. Until the deployment is ``loaded``, not even the log's id is
    known. ``freeze`` is what the store said last; it may have ended. ``lost_bundle`` says so if the store
    lost the bundle of the current deploy. ``leases`` is what is kept for DAG runs, as far as this server knows.
    ``look`` looks for deploys of other servers; it raises ``StoreError``.
    """

    def __init__(self, name: str, store: Store, settings: DeploymentSettings, loaded: Log | Fault) -> None:
        self.name = name
        self.settings = settings
        self.lock = asyncio.Lock()
        self.waiters = Waiters()
        self.tag = ""
        self.fleet = Fleet(name, self._facts)
        self.checking = Checking(self.fleet.mark)
        self.look: Callable[[], Awaitable[None]] | None = None
        self.lost_bundle = ""
        self.leases = Held()
        self._store = store
        self._unlisted: Fault | None
        self.load_or_fail(loaded)

    def configure(self, settings: DeploymentSettings) -> None:
        """Replace the settings."""
        self.settings = settings
        self.fleet.mark()

    def load_or_fail(self, loaded: Log | Fault) -> None:
        """Replace what is known by a log that was read completely, or by the error why it was not."""
        if isinstance(loaded, Log):
            self.load(loaded)
        else:
            self.loaded = False
            self._set_log(Log("", 0, {}, set(), {}, {}))
            self._unlisted = loaded

    def load(self, loaded: Log) -> None:
        """Replace what is known by a log that was read completely."""
        self.loaded = True
        self._set_log(loaded)
        self.fleet.opened_log(self.highest)
        if loaded.is_new:
            self.fleet.first_of_all()

    def _set_log(self, loaded: Log) -> None:
        self.log_id, self.highest, self.recent, self.unreadable, self._away, self._sha256 = loaded[:6]
        self._floor, self.freeze = loaded.floor, loaded.freeze
        self._lifecycle, self.state_tag = loaded.lifecycle, loaded.tag
        self._unlisted = None  # the reason why newer entries cannot be read
        self._show()

    def _show(self) -> None:
        before, newest = self.tag, next(reversed(self.recent.values()), None)
        self.current = newest if newest and newest.sequence > self._floor else None
        self.tag = self.current.version if self.current else NOTHING_TAG
        if self.tag != before:
            self.lost_bundle = ""
            self.waiters.notify_all()
            self.checking.polls.notify_all()
            self.fleet.deployed(self.current.sequence if self.current else 0)

    def add(self, deploy: Deploy) -> None:
        """Make ``deploy``, which is in the store, the current one, and notify all waiting requests."""
        self._keep([_Read(deploy.sequence, deploy, None, entry_sha256(deploy.encode()))])

    def _keep(self, read: Iterable[_Read]) -> None:
        for each in read:
            sequence, was_away = each.sequence, self._away.pop(each.sequence, None)
            if each.deploy:
                self.unreadable.discard(sequence)
                is_newest = sequence > next(reversed(self.recent), 0)
                self.recent[sequence] = each.deploy
                if not is_newest:
                    self.recent = dict(sorted(self.recent.items()))
            elif each.error:
                if was_away or sequence not in self.unreadable:
                    each.log_damage(self.name)
                self.unreadable.add(sequence)
                if isinstance(each.error, StoreAway):
                    self._away[sequence] = each.error
            self._sha256[sequence] = each.sha256
            self.highest = max(sequence, self.highest)
        while len(self.recent) > MEMORY_DEPLOYS:
            oldest = next(iter(self.recent))
            del self.recent[oldest]
            self._sha256.pop(oldest, None)
        self._show()

    # --- what cannot be read -----------------------------------------------------------------------------------------

    @property
    def floor(self) -> int:
        """The sequence up to which deploys are history."""
        return self._floor

    @property
    def away(self) -> Fault | None:
        """Why the newest deploy is not known now; ``None`` if it is known, or if its entry is damaged."""
        return self._unlisted or self._away.get(self.highest)

    @property
    def fault(self) -> Fault | None:
        """Why ``current`` is not known to be the newest deploy; ``None`` if it is."""
        if self.away or self.highest not in self.unreadable or self.highest <= self._floor:
            return self.away
        return StoreDamaged(f"The newest entry of the deploy log, {self.highest}, is damaged.")

    @property
    def unsettled(self) -> bool:
        """Whether reading again may find more: an entry that could not be read, or a newest one that was restored."""
        return bool(self._away or self.fault)

    def refuse(self, fault: Fault) -> NoReturn:
        """Raise the error for a request that needs the newest deploy."""
        raise type(fault)(f"Which deploy of {self.name} is the newest is not known. {fault.message}", fault.hint)

    def check_newest(self) -> None:
        """Raise ``StoreError`` unless ``current`` is known to be the newest deploy."""
        if self.fault:
            self.refuse(self.fault)

    async def refresh(self, beyond: Iterable[int] = ()) -> None:
        """Read from the store what is new or could not be read before, and notify waiting requests; under the lock.

        ``beyond`` are sequences of entries that exist beyond a gap. Raises ``StoreError`` if it cannot be read; then
        nothing that is known changes.
        """
        if not self.loaded:
            self.check_newest()
        again = {*self._away, *({self.highest} & self.unreadable), *beyond}
        try:
            read = await asyncio.to_thread(_look, self._store, self.name, self.highest, again)
        except StoreError as error:
            if not self._store.shared:
                self.doubt(error)
            raise
        self._unlisted = None
        self._keep(read)
        if self.away:
            self.refuse(self.away)

    def doubt(self, error: Fault) -> None:
        """Note that there may be a newer entry, which cannot be read now because of ``error``."""
        self._unlisted = error
        self.fleet.mark()

    def note_newer(self, log_id: str, after: int, newer: Sequence[bytes]) -> None:
        """Add the entries that the store has after the sequence ``after``; without the lock, in one step.

        ``log_id`` was that of the log before they were read: those of another log are ignored.
        """
        if self.loaded and self.log_id == log_id:
            found = [_decoded(sequence, data) for sequence, data in enumerate(newer, after + 1)]
            self._keep([each for each in found if each.sequence > self.highest])

    def note_lost_bundle(self, message: str) -> None:
        """Note that the store has lost the bundle of the current deploy, or has it again if ``message`` is empty."""
        if message != self.lost_bundle:
            self.lost_bundle = message
            self.fleet.mark()

    async def catch_up(self, sequence: int) -> None:
        """Look in the store, if other servers use it, for a deploy that somebody knows to exist.

        Raises ``StoreError`` if that cannot be done now: then it is not known which deploy is the newest.
        """
        if sequence > self.highest and self.look and self.loaded:
            try:
                await self.look()
            except StoreError as error:
                if sequence > self.highest:
                    self.refuse(error)

    def _facts(self) -> Facts:
        # While there may be a newer deploy, no pod is known to have it.
        current = None if self.fault else self.current
        return Facts(
            deployment=self.name,
            log_id=self.log_id,
            version=current.version if current else "",
            sequence=current.sequence if current else 0,
            head=self.highest,
            version_of=self._version_of,
            shared=self._store.shared,
            fault=self.fault.message if self.fault else "",
            lost_bundle=self.lost_bundle,
            expected=self.settings.expected,
            converge_seconds=self.settings.converge_seconds,
            digest=current.digest if current else "",
            deployed_at=current.time if current else 0,
        )

    @property
    def head_sha256(self) -> str:
        """The hash of the newest entry, in hex; empty if there is none, or its bytes are not known."""
        return self._sha256.get(self.highest, "")

    def sha256_of(self, deploy: Deploy) -> str:
        """Return the hash of the entry of a deploy in memory, in hex; empty if it is not known."""
        return self._sha256.get(deploy.sequence, "")

    async def entry_at(self, sequence: int) -> Head | None:
        """Return the entry number ``sequence``, or the newest one if the log ends before it.

        ``None`` if it cannot be read: what is damaged is not taken for what somebody wrote. Only an entry that is older
        than memory is read from the store.
        """
        sequence = min(sequence, self.highest)
        if sequence == 0:
            return Head(0, "")
        sha256 = self._sha256.get(sequence, "") if sequence in self.recent else ""
        if not sha256 and sequence < next(iter(self.recent), 0):
            with contextlib.suppress(StoreError):
                [read] = await asyncio.to_thread(_read_all, self._store, self.name, [sequence])
                sha256 = read.sha256 if read.deploy else ""
        return Head(sequence, sha256) if sha256 else None

    @property
    def is_shared(self) -> bool:
        """Whether other servers may have newer deploys in the store."""
        return self._store.shared

    def _version_of(self, sequence: int) -> str | None:
        deploy = self.recent.get(sequence)
        return deploy.version if deploy else None

    # --- what is asked for -------------------------------------------------------------------------------------------

    def refuse_if_disabled(self) -> None:
        """Raise ``DeploymentDisabled`` if the settings allow no deploys now."""
        if reason := self.settings.disabled:
            raise DeploymentDisabled(f"{self.name} is disabled: {reason}")

    def freeze_at(self, now: float) -> Freeze | None:
        """Return the freeze that has not ended at ``now`` (seconds since the epoch), if there is one."""
        return self.freeze if self.freeze and self.freeze.holds_at(now) else None

    def refuse_if_frozen(self, now: float, *, override: bool = False) -> bool:
        """Raise ``DeploymentFrozen`` if the deployment is frozen at ``now`` (seconds since the epoch).

        With ``override``, return whether it is, instead.
        """
        freeze = self.freeze_at(now)
        if freeze and not override:
            end = "it is lifted" if freeze.until is None else format_time(freeze.until)
            raise DeploymentFrozen(f"{self.name} was frozen by {freeze.actor} until {end}: {freeze.reason}")
        return freeze is not None

    async def refresh_freeze(self) -> None:
        """Read the freeze from the store again, where another server may have changed it; under the lock.

        Raises ``StoreError`` if it cannot be read: then nothing may be deployed.
        """
        before, self.freeze = self.freeze, await asyncio.to_thread(read_freeze, self._store, self.name)
        if self.freeze != before:
            self.fleet.mark()

    async def refresh_records(self) -> bool:
        """Read from the store what another server may have changed beside entries and bundles; under the lock.

        Return whether the deployment is deleted. Raises ``StoreError`` if it cannot be read: then nothing may be
        deployed.
        """
        if not self._store.shared:
            await self.refresh_freeze()
            return False
        found = await asyncio.to_thread(self.read_records, self.state_tag)
        if found and not self.note_records(found):
            await self.reload()
        return self._lifecycle is not None and self._lifecycle.change == DELETED

    def read_records(self, known_tag: str | None) -> Records | None:
        """Read from the store, in a thread, what has changed since ``known_tag``; ``None`` if nothing has."""
        return changed_records(self._store, self.name, known_tag, self.log_id, self.highest)

    def note_records(self, records: Records) -> bool:
        """Replace the records by those of the store. ``False``: the log has another id, and has to be read anew."""
        if records.log_id != self.log_id:
            return False
        changed = (records.freeze, records.lifecycle) != (self.freeze, self._lifecycle)
        self.freeze, self.state_tag = records.freeze, records.tag
        self._lifecycle = records.lifecycle or self._lifecycle
        if records.lifecycle and records.lifecycle.floor > self._floor:
            self._floor = records.lifecycle.floor
            self._show()
        if changed:
            self.fleet.mark()
        return True

    async def reload(self) -> None:
        """Read the log anew, which has another id now, and notify waiting requests; under the lock.

        Raises ``StoreError`` if it cannot be read; then nothing changes.
        """
        self.load(await asyncio.to_thread(read_log, self._store, self.name))
        log.warning("The deploy log has another id, and was read again", extra=fields(deployment=self.name))
        self.waiters.notify_all()  # the version may be the same

    async def recheck_freeze(self, now: float) -> None:
        """Read the freeze again if there is one at ``now``: another server may have lifted it."""
        if self.freeze_at(now):
            async with self.lock:
                await self.refresh_freeze()

    async def change_freeze(self, freeze: Freeze | None) -> None:
        """Replace the freeze, after the commit that is in progress; ``None`` lifts it. Raises ``StoreError``."""
        async with self.lock:
            await asyncio.to_thread(write_freeze, self._store, self.name, freeze)
            self.freeze = freeze
            self.fleet.mark()

    def forget_history(self) -> None:
        """Drop the log from memory, except the current deploy; it is loaded again before the deployment is used."""
        self.recent, self._sha256 = {}, {self.highest: self.head_sha256}

    def current_deploy(self) -> Deploy:
        """Return the newest deploy; ``NothingDeployed`` if there is none, ``StoreError`` if that is not known."""
        self.check_newest()
        if self.current is None:
            raise NothingDeployed(f"Nothing was deployed to {self.name} yet.")
        return self.current

    def unbroken(self) -> Iterator[Deploy]:
        """Yield the current deploy and those before it, newest first, until one that is not in memory."""
        sequence = self.current.sequence if self.current else 0
        while sequence > self._floor and (deploy := self.recent.get(sequence)):
            yield deploy
            sequence -= 1

    async def deploy(self, version: str) -> Deploy:
        """Return the deploy of a version; ``VersionNotFound`` if there is none, ``RequestError`` if it is invalid."""
        try:
            sequence = version_sequence(version)
        except ValueError as error:
            raise RequestError(f"{error}.") from error
        await self.catch_up(sequence)
        if self.away and sequence > self.highest:
            self.refuse(self.away)
        deploy = await self._read(sequence) if 1 <= sequence <= self.highest else None
        if deploy is None or deploy.version != version:
            raise VersionNotFound(f"{self.name} has no version {version}.")
        return deploy

    async def page(self, before: int, limit: int) -> list[Deploy]:
        """Return up to ``limit`` deploys below the sequence ``before``, newest first; damaged ones are skipped.

        Raises ``StoreAway`` if one cannot be read now.
        """
        if not self.loaded:
            self.check_newest()
        deploys = []
        for sequence in range(min(before, self.highest + 1) - 1, 0, -1):
            if deploy := await self._read(sequence):
                deploys.append(deploy)
                if len(deploys) == limit:
                    break
        return deploys

    async def _read(self, sequence: int) -> Deploy | None:
        if deploy := self.recent.get(sequence):
            return deploy
        in_memory = sequence in self.unreadable or next(iter(self.recent), 0) < sequence
        if in_memory and sequence not in self._away:
            return None
        [read] = await asyncio.to_thread(_read_all, self._store, self.name, [sequence])
        if isinstance(read.error, StoreAway):
            raise read.error
        read.log_damage(self.name)
        return read.deploy

    async def details(self, deploy: Deploy) -> DeployDetails | None:
        """Return what is stored beside the entry of ``deploy``; ``None`` if there is nothing, or it is damaged.

        Raises ``StoreAway`` if it cannot be read now.
        """
        return await asyncio.to_thread(_read_details, self._store, self.name, deploy) if deploy.details else None

    def gone(self, deploy: Deploy) -> BundleGone:
        """Return the error for a deploy whose bundle is not stored: retention never removes that of the current one."""
        if self.current is not None and deploy.sequence == self.current.sequence:
            return BundleGone(
                f"The bundle of version {deploy.version} of {self.name}, the current one, is missing: something else "
                "than Dagferry has deleted it.",
                "Deploy the same content again, which stores it anew.",
            )
        return BundleGone(f"The bundle of version {deploy.version} of {self.name} was removed by retention.")
