"""Copies a deployment from one store to another, checks what it copies, and continues a copy that was interrupted.

The log comes last, and in order: at every moment the copy is what the deployment was earlier, with every bundle that it
needs. So it may be interrupted anywhere, and a server may use the original meanwhile. The copy has the original's log
id: followers do not notice which of the two they follow. Until the copy is complete, they would refuse it, because it
is behind.

An entry is written once, so one that is there already is either the same or a reason to stop: then the two stores were
used on their own, and neither is a copy of the other. Records of the deployment's state are replaced.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import BinaryIO, NamedTuple

from dagferry_core.deploylog import decode
from dagferry_core.errors import FormatError
from dagferry_core.limits import PIECE_BYTES
from dagferry_server.deploys.entries import stored_entries
from dagferry_server.deploys.freeze import FREEZE_KEY
from dagferry_server.deploys.lifecycle import LIFECYCLE_KEY
from dagferry_server.deploys.verify import check_bundle
from dagferry_server.errors import BundleGone, StoreAway, StoreDamaged, StoreError
from dagferry_server.store.base import BundleSource, Store

STATE_KEYS = (LIFECYCLE_KEY, FREEZE_KEY)
"""All records of a deployment's state."""


class StoresDiffer(Exception):
    """The target has what the original does not have, or something else in its place."""


class Copied(NamedTuple):
    """What has been copied so far, of how many; ``bytes`` are those of the copied bundles. The rest was there."""

    entries: int
    all_entries: int
    bundles: int
    all_bundles: int
    bytes: int


class StoreCopy:
    """A copy of ``deployment`` from the store ``origin`` to the store ``target``.

    ``tell`` is called after each bundle and each batch of entries with what has been copied. ``problems`` has a line
    for each damaged bundle or entry of the original, which is not copied.
    """

    def __init__(self, origin: Store, target: Store, deployment: str, tell: Callable[[Copied], None]) -> None:
        self._origin = origin
        self._target = target
        self._deployment = deployment
        self._tell = tell
        self.problems: list[str] = []
        self.result = Copied(0, 0, 0, 0, 0)

    def run(self) -> None:
        """Copy what is missing. Raises ``StoresDiffer`` before anything is changed, and ``StoreError``."""
        name = self._deployment
        log_id, sequences = self._origin.log_id(name), self._origin.sequences(name)
        there = self._target.sequences(name) if name in self._target.deployments() else []
        self._check_log(sequences, there)
        self._target.prepare(name)
        if self._target.log_id(name) != log_id:
            if there:
                raise StoresDiffer("the log has another id in each of the stores")
            self._target.write_log_id(name, log_id)
        # A bundle is stored before its entry: these are all that the entries need, unless retention deletes some.
        bundles = list(self._origin.bundles(name))
        self._count(all_entries=len(sequences), all_bundles=len(bundles))
        for digest in bundles:
            self._copy_bundle(digest)
        for key in STATE_KEYS:
            self._copy_state(key)
        known = set(there)
        self._copy_entries([sequence for sequence in sequences if sequence not in known])

    def _check_log(self, sequences: Sequence[int], there: Sequence[int]) -> None:
        more = sorted(set(there) - set(sequences))
        if more:
            raise StoresDiffer(f"the target has a deploy {more[-1]}, which the original does not have")
        originals, copies = (stored_entries(store, self._deployment, there) for store in (self._origin, self._target))
        for (sequence, original), (_, copy) in zip(originals, copies, strict=True):
            for entry in (original, copy):
                if isinstance(entry, StoreAway):
                    raise entry
            if original != copy:
                raise StoresDiffer(f"deploy {sequence} is another one in each of the stores")

    def _copy_bundle(self, digest: str) -> None:
        try:
            if self._is_there(digest):
                return
            with self._origin.open_bundle(self._deployment, digest) as source:
                try:
                    check_bundle(source, digest)
                except (StoreDamaged, FormatError) as error:
                    self.problems.append(f"bundle {digest} is damaged, and was not copied: {error}")
                    return
                self._target.put_bundle(self._deployment, digest, lambda out: _write(source, out))
                self._compare(digest, source)
        except BundleGone:
            return  # retention deleted it
        self._count(bundles=self.result.bundles + 1, bytes=self.result.bytes + source.size)

    def _is_there(self, digest: str) -> bool:
        """Return whether the target has an intact copy that nobody is about to delete."""
        if not self._target.keeps_bundle(self._deployment, digest):
            return False
        try:
            with self._target.open_bundle(self._deployment, digest) as copy:
                check_bundle(copy, digest)
        except (StoreDamaged, FormatError, BundleGone):
            return False
        return True

    def _compare(self, digest: str, source: BundleSource) -> None:
        with self._target.open_bundle(self._deployment, digest) as copy:
            if copy.encoded_index != source.encoded_index or _sha256(copy) != _sha256(source):
                raise StoreDamaged(f"The copy of bundle {digest} of {self._deployment} is not what was written.")

    def _copy_state(self, key: str) -> None:
        record = self._origin.read_state(self._deployment, key)
        if record == self._target.read_state(self._deployment, key):
            return
        if record is None:
            self._target.delete_state(self._deployment, key)
        else:
            self._target.write_state(self._deployment, key, record)

    def _copy_entries(self, sequences: Sequence[int]) -> None:
        name = self._deployment
        for sequence, data in stored_entries(self._origin, name, sequences):
            if isinstance(data, StoreDamaged):
                self.problems.append(f"entry {sequence} is missing, and was not copied: {data.message}")
                continue
            if isinstance(data, StoreError):
                raise data
            with suppress(FormatError):  # a damaged entry is copied as it is
                deploy = decode(data, sequence)
                if deploy.details:
                    self._copy_details(sequence, deploy.nonce)
            if not self._target.create_entry(name, sequence, data):
                raise StoresDiffer(f"deploy {sequence} was made in the target meanwhile")
            self._count(entries=self.result.entries + 1)

    def _copy_details(self, sequence: int, nonce: str) -> None:
        try:
            details = self._origin.read_details(self._deployment, sequence, nonce)
        except StoreDamaged:
            return  # retention deletes them with the bundle
        self._target.put_details(self._deployment, sequence, nonce, details)

    def _count(self, **numbers: int) -> None:
        self.result = self.result._replace(**numbers)
        self._tell(self.result)


def _pieces(source: BundleSource) -> Iterator[bytes]:
    offset = 0
    while piece := source.read(offset, PIECE_BYTES):
        yield piece
        offset += len(piece)


def _write(source: BundleSource, out: BinaryIO) -> bytes:
    out.writelines(_pieces(source))
    return source.encoded_index


def _sha256(source: BundleSource) -> str:
    content = hashlib.sha256()
    for piece in _pieces(source):
        content.update(piece)
    return content.hexdigest()
