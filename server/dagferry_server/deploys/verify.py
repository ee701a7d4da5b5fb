"""Checks a deployment's log, its chain, details and bundles as they are stored. Nothing is changed or locked.

It can run next to a server: entries and bundles are written once, and appear complete. What retention deletes meanwhile
is not reported as missing, and what looks damaged is read twice.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, ParamSpec, TypeVar

from dagferry_core.bundle.reader import BundleFile, Index, Read, decompressed, read_tar
from dagferry_core.deploy_details import decode_details
from dagferry_core.deploylog import Deploy, Known, decode, entry_sha256
from dagferry_core.errors import FormatError
from dagferry_core.names import make_version
from dagferry_server.deploys.entries import stored_entries
from dagferry_server.deploys.lifecycle import DELETED, read_lifecycle
from dagferry_server.errors import BundleGone, StoreAway, StoreDamaged, StoreError
from dagferry_server.store.base import BundleSource, Store

SECOND_LOOK_SECONDS = 0.5
"""The pause before something that looks damaged is read again."""
MAX_SHOWN_SEQUENCES = 5

_Arguments = ParamSpec("_Arguments")
_Value = TypeVar("_Value")


class Problem(NamedTuple):
    """A problem and where it is. ``passes``: it could not be read now, so it may be intact."""

    what: str
    passes: bool


class Verified(NamedTuple):
    """The numbers of entries checked, of entries that name the previous one, of bundles, and of deleted bundles."""

    entries: int
    chained: int
    bundles: int
    gone: int


class Verification:
    """The verification of one deployment. ``problems`` yields what it finds; afterwards ``result`` is complete.

    ``known`` is an entry that the log had, if one is known: the only way to notice that the end is not what it was.
    """

    def __init__(self, store: Store, deployment: str, known: Known | None = None) -> None:
        self._store = store
        self._known = known
        self._deployment = deployment
        self._named: dict[str, list[int]] = {}
        self._newest: Deploy | None = None
        self.result = Verified(0, 0, 0, 0)

    def problems(self) -> Iterator[Problem]:
        """Check everything, and yield each problem as it is found."""
        yield from _found(_tried("the log id", self._store.log_id, self._deployment)[1])
        sequences, problem = _tried("the list of entries", self._store.sequences, self._deployment)
        if sequences is None:
            yield from _found(problem)
            return
        yield from self._gaps(sequences)
        yield from self._entries(sequences)
        yield from self._bundles(sequences)

    def _gaps(self, sequences: Sequence[int]) -> Iterator[Problem]:
        for before, after in zip((0, *sequences), sequences, strict=False):
            if after == before + 2:
                yield Problem(f"entry {before + 1} is missing", passes=False)
            elif after > before + 1:
                yield Problem(f"entries {before + 1} to {after - 1} are missing", passes=False)

    def _entries(self, sequences: Sequence[int]) -> Iterator[Problem]:
        before, before_sha256, moment, chained, of_known = 0, "", 0, 0, ""
        for sequence, stored in stored_entries(self._store, self._deployment, sequences):
            what = f"entry {sequence}"
            data, problem = _tried(what, _returned, stored)
            if data is None:
                yield from _found(problem)
                continue
            expected = before_sha256 if sequence == before + 1 else None
            before, before_sha256 = sequence, entry_sha256(data)
            if self._known and sequence == self._known.sequence:
                of_known = before_sha256
            deploy, problem = _tried(what, decode, data, sequence)
            if deploy is None:
                yield from _found(problem)
                continue
            self._newest = deploy
            self._named.setdefault(deploy.digest, []).append(sequence)
            chained += bool(deploy.previous)
            if expected is not None and (deploy.previous or deploy.format > 1) and deploy.previous != expected:
                yield Problem(f"{what} does not fit entry {sequence - 1}: one of them is not what it was", passes=False)
            if deploy.time < moment or deploy.version != make_version(deploy.time, sequence):
                yield Problem(f"{what} has a time or version that it cannot have", passes=False)
            moment = max(moment, deploy.time)
            if deploy.details:
                yield from _found(_tried(f"{what}, its details", self._check_details, deploy)[1])
        if self._known and (text := self._known.problem(sequences[-1] if sequences else 0, of_known)):
            yield Problem(text, passes=False)
        self.result = self.result._replace(entries=len(sequences), chained=chained)

    def _check_details(self, deploy: Deploy) -> None:
        try:
            data = self._store.read_details(self._deployment, deploy.sequence, deploy.nonce)
        except StoreDamaged:
            if self._store.has_bundle(self._deployment, deploy.digest):
                raise
            return  # retention deleted both
        if hashlib.sha256(data).hexdigest() != deploy.details:
            raise StoreDamaged("They are not what the entry says.")
        decode_details(data)

    def _bundles(self, sequences: Sequence[int]) -> Iterator[Problem]:
        stored, problem = _tried("the list of bundles", self._list_bundles)
        if stored is None:
            yield from _found(problem)
            return
        newest = self._newest
        if newest and newest.digest not in stored and not self._is_history(newest) and not self._has_newer(sequences):
            yield Problem(f"bundle {newest.digest}, of the newest deploy, is missing", passes=False)
        for digest in stored:
            yield from _found(_tried(f"bundle {digest}{self._names(digest)}", self._check, digest)[1])
        self.result = self.result._replace(bundles=len(stored), gone=len(self._named.keys() - set(stored)))

    def _list_bundles(self) -> list[str]:
        try:
            return sorted(self._store.bundles(self._deployment))
        except StoreAway:  # for example because a file was just deleted
            time.sleep(SECOND_LOOK_SECONDS)
            return sorted(self._store.bundles(self._deployment))

    def _is_history(self, newest: Deploy) -> bool:
        """Return whether the deployment was deleted after its newest deploy: its bundles are removed then."""
        try:
            lifecycle = read_lifecycle(self._store, self._deployment)
        except (StoreAway, StoreDamaged):
            return False
        return lifecycle is not None and (lifecycle.change == DELETED or newest.sequence <= lifecycle.floor)

    def _has_newer(self, sequences: Sequence[int]) -> bool:
        """Return whether there is a newer deploy by now: retention may have deleted the bundle of the previous one."""
        return bool(self._store.newer(self._deployment, sequences[-1]))

    def _names(self, digest: str) -> str:
        named = self._named.get(digest, [])
        if not named:
            return " (of no deploy)"
        more = ", …" if len(named) > MAX_SHOWN_SEQUENCES else ""
        return f" (of deploy {', '.join(map(str, named[-MAX_SHOWN_SEQUENCES:]))}{more})"

    def _check(self, digest: str) -> None:
        """Check a bundle, twice if it looks damaged: a server may be storing it again."""
        try:
            self._check_once(digest)
        except BundleGone:
            return  # retention deleted it
        except (StoreAway, StoreDamaged, FormatError):
            time.sleep(SECOND_LOOK_SECONDS)
            try:
                self._check_once(digest)
            except BundleGone:
                return

    def _check_once(self, digest: str) -> None:
        with self._store.open_bundle(self._deployment, digest) as source:
            check_bundle(source, digest)


def check_bundle(source: BundleSource, digest: str) -> None:
    """Read all of a bundle; raise ``StoreDamaged`` or ``FormatError`` unless it is intact, and that of ``digest``."""
    BundleFile(source.read, Index.decode(source.encoded_index)).verify()
    manifest, files = read_tar(decompressed(_from_start(source)))
    if manifest.digest != digest:
        raise StoreDamaged(f"Its manifest is that of {manifest.digest}.")
    for entry, pieces in files:
        content = hashlib.sha256()
        for piece in pieces:
            content.update(piece)
        if content.hexdigest() != entry.sha256:
            raise StoreDamaged(f"The content of {entry.path!r} is not what the manifest says.")


def _from_start(source: BundleSource) -> Read:
    """Return a function that reads a bundle from its start to its end, piece after piece."""
    offset = 0

    def read(size: int) -> bytes:
        nonlocal offset
        piece = source.read(offset, size)
        offset += len(piece)
        return piece

    return read


def _returned(stored: bytes | StoreError) -> bytes:
    if isinstance(stored, StoreError):
        raise stored
    return stored


def _tried(
    what: str, check: Callable[_Arguments, _Value], *arguments: _Arguments.args, **named: _Arguments.kwargs
) -> tuple[_Value | None, Problem | None]:
    """Return what ``check`` returns, or the problem for the error that it raises."""
    try:
        return check(*arguments, **named), None
    except StoreDamaged as error:
        return None, Problem(f"{what} is damaged: {error.message}", passes=False)
    except FormatError as error:
        return None, Problem(f"{what} is damaged: {error}.", passes=False)
    except StoreAway as error:
        return None, Problem(f"{what} cannot be read: {error.message}", passes=True)


def _found(problem: Problem | None) -> list[Problem]:
    return [problem] if problem else []
