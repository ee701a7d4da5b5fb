"""The store in a bucket, for any number of servers at once. See docs/adr/0038.

::

    .dagferry/changed                           a random text, another one after each change of a record or a log id
    .dagferry/clock/<nonce>                     written to learn what time it is for the storage
    .dagferry/probe/<nonce>, .dagferry/writable see ``probe``
    <deployment>/log.json                       {"log_id": "…"}
    <deployment>/deploys/000000000042.json      an entry
    <deployment>/deploys/000000000042.<nonce>.details
    <deployment>/<key>.state                    a record of its state
    <deployment>/<kind>/<name>                  a note; when it was written is what the storage says
    <deployment>/bundles/<hex>/<nonce>.tar.zst  a bundle
    <deployment>/bundles/<hex>/<nonce>.index    written after it: its size and hash, and its index
    <deployment>/bundles/<hex>/<nonce>.doomed   the mark of ``may_delete``
    <deployment>/patches/<hex>-<hex>/<nonce>    a patch from the first digest to the second

Except for the log id, the records, the notes and ``changed``, each key is written once. A bundle that is stored again
gets other keys, because two servers may compress the same content to different bytes, and because a
deletion that another server began, and that takes however long, must not hit it. A bundle is stored if it has an index,
and the size that this says.

Ages are differences of times of the storage. Clocks of servers do not matter.
"""

import contextlib
import json
import re
import secrets
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO, NamedTuple

from dagferry_core.deploylog import is_nonce
from dagferry_core.errors import FormatError
from dagferry_core.names import MAX_SEQUENCE, check_deployment, is_deployment, is_digest
from dagferry_core.typed import typed_json
from dagferry_runtime.logs import log_failure
from dagferry_server.errors import BundleGone, DeploymentNotFound, StoreAway, StoreDamaged, StoreError
from dagferry_server.store.base import (
    DELETION_PAUSE_SECONDS,
    LOG_ID_BYTES,
    MAX_NOTE_BYTES,
    MAX_STATE_BYTES,
    BundleSource,
    NoteKind,
    Store,
    check_note,
    check_state_key,
    decoding,
    is_note,
)
from dagferry_server.store.bundle_cache import BundleCache, Name, describe, write_and_describe
from dagferry_server.store.objects import Meta, Objects, in_threads
from dagferry_server.store.probe import PROBE_FOLDER, check_refuses, probe
from dagferry_server.store.stored_index import MAX_HEAD_BYTES, Blob, decode_head, decode_index, encode_index

READ_THREADS = 32
"""How many entries or notes are read at once: each takes a round trip, and a log may have thousands."""
KNOWN_BLOBS = 10_000
"""Of how many bundles the size is remembered, which never changes."""
LEFTOVER_SECONDS = 86_400.0
"""How old a patch is when it is deleted, and what an upload left behind that was not completed."""
OWN_FOLDER = ".dagferry"
CHANGED = f"{OWN_FOLDER}/changed"
CLOCK_FOLDER = f"{OWN_FOLDER}/clock"
NONCE_BYTES = 16

_ENTRY = re.compile(r"([0-9]{12})\.json")
_PART = re.compile(r"([0-9a-f]{64})/([0-9a-f]{32})\.(tar\.zst|index|doomed)")
_PATCH = re.compile(r"[0-9a-f]{64}-[0-9a-f]{64}/[0-9a-f]{32}")
_LOG_ID = re.compile(r"[0-9a-f]{32}")


class _LogFile(NamedTuple):
    log_id: str


class _Stored(NamedTuple):
    """What there is of one attempt to store a bundle; ``blob`` without ``beside``, its index, was not completed."""

    nonce: str
    blob: Meta | None
    beside: Meta | None
    mark: Meta | None

    @property
    def metas(self) -> list[Meta]:
        """What there is, in the order in which it is deleted."""
        return [meta for meta in (self.beside, self.blob, self.mark) if meta]


class ObjectStore(Store):
    """A store in ``objects``, with bundles in ``cache``.

    Until ``probe`` has passed once, nothing is created: ``StoreAway``. ``pause_seconds`` is for tests.
    """

    shared = True

    def __init__(self, objects: Objects, cache: BundleCache, pause_seconds: float = DELETION_PAUSE_SECONDS) -> None:
        self._objects = objects
        self._cache = cache
        self._pause = pause_seconds
        self._blobs: dict[str, Blob] = {}
        self._allowed: dict[tuple[str, str], list[_Stored]] = {}
        """The copies that ``may_delete`` has allowed to delete, by deployment and hex of their digest."""
        self._turns = [threading.Lock() for _ in range(256)]
        self.probed = False

    @property
    def url(self) -> str:
        """The address of the store, without credentials."""
        return self._objects.url

    def probe(self) -> None:
        """Find out whether the storage creates an object only once; ``SetupError`` if it does not."""
        if not self.probed:
            probe(self._objects)
            self.probed = True

    def deployments(self) -> list[str]:
        """Return the names of all folders that have a log id or an entry."""
        names = sorted(filter(is_deployment, self._objects.folders()))
        there = in_threads(READ_THREADS, self._has_log, names)
        return [name for name, has_log in zip(names, there, strict=True) if has_log]

    def _has_log(self, deployment: str) -> bool:
        return self._objects.get(self._id(deployment)) is not None or bool(self.sequences(deployment))

    def prepare(self, deployment: str) -> bool:
        """Create a log id if there is none."""
        key = self._id(deployment)
        if self._objects.get(key) is not None:
            try:
                self.log_id(deployment)
            except StoreDamaged as error:
                # Sidecars follow the new id, with a warning.
                log_failure("The log id cannot be read; a new one is written", error, deployment=deployment)
                self.new_log_id(deployment)
            return False
        has_deploys = bool(self.sequences(deployment))
        if not self._create(key, _log_file(secrets.token_hex(LOG_ID_BYTES))):
            return False
        self._tell()
        return not has_deploys

    def log_id(self, deployment: str) -> str:
        """Return the random name of the deployment's log."""
        key = self._id(deployment)
        data = self._objects.get(key)
        if data is None:
            raise StoreDamaged(f"Reading the log id of {deployment} failed: {self._shown(key)} is missing.")
        with decoding(self._shown(key)):
            log_id = typed_json(_LogFile, data).log_id
            if not _LOG_ID.fullmatch(log_id):
                raise FormatError(f"{log_id[:40]!r} is not a log id")
        return log_id

    def write_log_id(self, deployment: str, log_id: str) -> None:
        """Give the log this name."""
        self._put(self._id(deployment), _log_file(log_id))
        self._tell()

    def sequences(self, deployment: str) -> list[int]:
        """Return the sequences of all entries in ascending order."""
        folder = f"{self._folder(deployment)}/deploys"
        names = (meta.key[len(folder) + 1 :] for meta in self._objects.list(folder))
        return sorted(int(match[1]) for match in map(_ENTRY.fullmatch, names) if match)

    def read_entry(self, deployment: str, sequence: int) -> bytes:
        """Return an entry as it was stored."""
        data = self._objects.get(self._entry(deployment, sequence))
        if data is None:
            raise StoreDamaged(f"{deployment} has no entry {sequence} in its deploy log.")
        return data

    def read_entries(self, deployment: str, sequences: Sequence[int]) -> list[bytes | StoreError]:
        """Return the entries, or the errors; many are read at once."""
        return in_threads(READ_THREADS, lambda sequence: self._entry_or_error(deployment, sequence), list(sequences))

    def newer(self, deployment: str, after: int) -> list[bytes]:
        """Return the entries that follow ``after``; if there are several, they are read many at once."""
        found: list[bytes] = []
        batch = 1  # usually there are none
        while following := range(after + len(found) + 1, min(after + len(found) + batch, MAX_SEQUENCE) + 1):
            keys = [self._entry(deployment, sequence) for sequence in following]
            for data in in_threads(READ_THREADS, self._objects.get, keys):
                if data is None:
                    return found
                found.append(data)
            batch = min(len(found), READ_THREADS)  # most often there is one
        return found

    def create_entry(self, deployment: str, sequence: int, data: bytes) -> bool:
        """Store an entry unless its sequence is taken."""
        return self._create(self._entry(deployment, sequence), data)

    def put_details(self, deployment: str, sequence: int, nonce: str, data: bytes) -> None:
        """Store the details of an entry."""
        self._put(self._details(deployment, sequence, nonce), data)

    def read_details(self, deployment: str, sequence: int, nonce: str) -> bytes:
        """Return the details of an entry."""
        data = self._objects.get(self._details(deployment, sequence, nonce))
        if data is None:
            raise StoreDamaged(f"The details of deploy {sequence} of {deployment} are missing.")
        return data

    def delete_details(self, deployment: str, sequence: int, nonce: str) -> None:
        """Delete the details of an entry, if they are there."""
        self._objects.delete(self._details(deployment, sequence, nonce))

    def bundles(self, deployment: str) -> dict[str, int]:
        """Return the digest of every stored bundle and the bytes it takes, all of its copies included."""
        return {
            f"sha256:{hex_digest}": sum(meta.size for copy in copies for meta in copy.metas)
            for hex_digest, copies in self._copies(deployment).items()
            if any(copy.blob and copy.beside for copy in copies)
        }

    def has_bundle(self, deployment: str, digest: str) -> bool:
        """Return whether the bundle is stored."""
        return bool(self._complete(deployment, digest))

    def keeps_bundle(self, deployment: str, digest: str) -> bool:
        """Return whether the bundle is stored, and nobody is about to delete it."""
        return any(not copy.mark for copy in self._complete(deployment, digest))

    def put_bundle(self, deployment: str, digest: str, write: Callable[[BinaryIO], bytes]) -> None:
        """Store a bundle; see ``Store``."""
        name = Name(deployment, self._hex(deployment, digest), secrets.token_hex(NONCE_BYTES))
        self._check_probed()
        with self._cache.scratch() as file:
            with self._cache.filling(f"Storing a bundle of {deployment}"):
                blob, index = write_and_describe(file, write)
            stem = self._stem(name)
            self._objects.put_file(f"{stem}.tar.zst", file)
            self._objects.put(f"{stem}.index", encode_index(blob, index))
            self._cache.keep(name, file, blob, index).close()

    def open_bundle(self, deployment: str, digest: str) -> BundleSource:
        """Open a bundle; ``BundleGone`` if it is not there."""
        hex_digest = self._hex(deployment, digest)
        if found := self._cache.open(deployment, digest):  # without a turn: another bundle may be on its way
            return found
        with self._turns[int(hex_digest[:2], 16)]:  # one fetches, and the others find it in the cache
            return self._cache.open(deployment, digest) or self._open(deployment, digest)

    def _open(self, deployment: str, digest: str) -> BundleSource:
        hex_digest = self._hex(deployment, digest)
        damaged: StoreDamaged | None = None
        copies = self._complete(deployment, digest)
        # The copy that is deleted last, and then the one that was stored last.
        for copy in sorted(copies, key=lambda copy: (bool(copy.mark), -_written(copy))):
            try:
                if source := self._fetch(Name(deployment, hex_digest, copy.nonce)):
                    return source
            except StoreDamaged as error:  # noqa: PERF203 - there is one copy, or two
                damaged = error
        if damaged:
            raise damaged
        raise BundleGone(f"The bundle {digest} of {deployment} is no longer stored.")

    def may_delete(self, deployment: str, digests: Collection[str]) -> set[str]:
        """Mark the bundles, and return those of which all copies were marked long enough ago; remove leftovers."""
        wanted = {self._hex(deployment, digest) for digest in digests}
        self._allowed = {key: copies for key, copies in self._allowed.items() if key[0] != deployment}
        now = self.now()
        allowed = set()
        for hex_digest, copies in self._copies(deployment).items():
            for copy in copies:
                if not copy.beside and now - max(meta.modified for meta in copy.metas) > LEFTOVER_SECONDS:
                    self._delete(copy)
            stored = [copy for copy in copies if copy.beside]
            if hex_digest not in wanted or not stored:
                continue
            for copy in stored:
                if not copy.mark and now - _written(copy) >= self._pause:
                    key = f"{self._stem(Name(deployment, hex_digest, copy.nonce))}.doomed"
                    self._create(key, secrets.token_hex(NONCE_BYTES).encode())
            if all(self._is_doomed(copy, now) for copy in stored):
                allowed.add(f"sha256:{hex_digest}")
                self._allowed[deployment, hex_digest] = stored
        folder = f"{deployment}/patches"
        for meta in list(self._objects.list(folder)):
            # What has another name is of another store, whose prefix is this deployment's folder.
            if _PATCH.fullmatch(meta.key[len(folder) + 1 :]) and now - meta.modified > LEFTOVER_SECONDS:
                self._objects.delete(meta.key)
        return allowed

    def delete_bundle(self, deployment: str, digest: str) -> None:
        """Delete the copies of a bundle that ``may_delete`` found, and no others.

        What has become old enough since is not looked for: another server may have marked what the newest deploy names,
        before it knew that deploy. The caller has read the log after ``may_delete``, and not since.
        """
        for copy in self._allowed.pop((deployment, self._hex(deployment, digest)), ()):
            self._delete(copy)
        self._cache.forget_digest(deployment, digest)

    def put_patch(self, deployment: str, old: str, new: str, data: bytes) -> None:
        """Store the patch between two bundles."""
        self._put(f"{self._patches(deployment, old, new)}/{secrets.token_hex(NONCE_BYTES)}", data)

    def read_patch(self, deployment: str, old: str, new: str) -> bytes | None:
        """Return the patch between two bundles; ``None`` if there is none."""
        for meta in list(self._objects.list(self._patches(deployment, old, new))):
            if (data := self._objects.get(meta.key, large=True)) is not None:
                return data
        return None

    def read_state(self, deployment: str, key: str) -> bytes | None:
        """Return a record of the deployment's state; ``None`` if there is none."""
        return self._objects.get(self._state(deployment, key))

    def write_state(self, deployment: str, key: str, data: bytes) -> None:
        """Write or replace a record of the deployment's state."""
        if len(data) > MAX_STATE_BYTES:
            raise ValueError(f"a record of {len(data)} bytes is larger than {MAX_STATE_BYTES}")
        self._put(self._state(deployment, key), data)
        self._tell()

    def delete_state(self, deployment: str, key: str) -> None:
        """Delete a record of the deployment's state, if it is there."""
        path = self._state(deployment, key)
        self._check_probed()
        self._objects.delete(path)
        self._tell()

    def state_tag(self) -> str:
        """Return the text that the last change wrote."""
        return (self._objects.get(CHANGED) or b"").decode("ascii", "replace")

    def notes(self, deployment: str, kind: NoteKind) -> dict[str, float]:
        """Return the names of all notes, and when each was written; none that no server can have written."""
        folder = f"{self._folder(deployment)}/{kind}"
        found = {meta.key[len(folder) + 1 :]: meta for meta in self._objects.list(folder)}
        return {
            name: meta.modified
            for name, meta in found.items()
            if is_note(kind, name) and 0 < meta.size <= MAX_NOTE_BYTES
        }

    def read_note(self, deployment: str, kind: NoteKind, name: str) -> bytes | None:
        """Return a note; ``None`` if there is none."""
        return self._objects.get(self._note(deployment, kind, name))

    def read_notes(self, deployment: str, kind: NoteKind, names: Sequence[str]) -> list[bytes | None]:
        """Return the notes, several at once."""
        return in_threads(READ_THREADS, self._objects.get, [self._note(deployment, kind, name) for name in names])

    def write_note(self, deployment: str, kind: NoteKind, name: str, data: bytes) -> None:
        """Write or replace a note."""
        self._put(self._note(deployment, kind, name, data), data)

    def delete_note(self, deployment: str, kind: NoteKind, name: str) -> None:
        """Delete a note, if it is there."""
        key = self._note(deployment, kind, name)
        self._check_probed()
        self._objects.delete(key)

    def now(self) -> float:
        """Return the time of the storage: that of an object that was just written."""
        nonce = secrets.token_hex(NONCE_BYTES)
        key = f"{CLOCK_FOLDER}/{nonce}"
        self._put(key, nonce.encode())
        own = list(self._objects.list(OWN_FOLDER))  # one request for clock and probes
        now = next((meta.modified for meta in own if meta.key == key), None)
        if now is None:
            raise StoreAway(f"{self._shown(key)} was written, and is not listed.")
        for meta in own:
            is_brief = meta.key.startswith((f"{CLOCK_FOLDER}/", f"{PROBE_FOLDER}/"))
            if is_brief and now - meta.modified > LEFTOVER_SECONDS:
                self._objects.delete(meta.key)
        self._objects.delete(key)
        return now

    def committing(self, deployment: str) -> AbstractContextManager[None]:  # noqa: ARG002 - see may_delete
        """Do nothing: a bundle that ``keeps_bundle`` found is not deleted before the commit is over."""
        return contextlib.nullcontext()

    def deleting(self, deployment: str) -> AbstractContextManager[bool]:  # noqa: ARG002 - see may_delete
        """Do nothing: what ``may_delete`` returns is of no use to a commit."""
        return contextlib.nullcontext(enter_result=True)

    def capacity_bytes(self) -> None:
        """Return ``None``: a bucket has no limit."""
        return

    def check_writable(self) -> None:
        """Ask the storage to create an object that there is: it refuses that if it can be written at all."""
        self._check_probed()
        check_refuses(self._objects)

    # --- bundles -----------------------------------------------------------------------------------------------------

    def _copies(self, deployment: str, hex_digest: str = "") -> dict[str, list[_Stored]]:
        """Return all copies of all bundles, or of one, by digest without ``sha256:``."""
        root = f"{self._folder(deployment)}/bundles"
        found: dict[str, dict[str, dict[str, Meta]]] = defaultdict(lambda: defaultdict(dict))
        for meta in self._objects.list(f"{root}/{hex_digest}" if hex_digest else root):
            if match := _PART.fullmatch(meta.key[len(root) + 1 :]):
                found[match[1]][match[2]][match[3]] = meta
        return {
            hex_digest: [
                _Stored(nonce, parts.get("tar.zst"), parts.get("index"), parts.get("doomed"))
                for nonce, parts in copies.items()
            ]
            for hex_digest, copies in found.items()
        }

    def _complete(self, deployment: str, digest: str) -> list[_Stored]:
        """Return the copies of a bundle that have an index, and the size that it says."""
        hex_digest = self._hex(deployment, digest)
        copies = self._copies(deployment, hex_digest).get(hex_digest, [])
        complete = []
        for copy in copies:
            if copy.blob and copy.beside:
                with contextlib.suppress(StoreDamaged):  # then it is not stored
                    blob = self._described(Name(deployment, hex_digest, copy.nonce))
                    if blob and blob.size == copy.blob.size:
                        complete.append(copy)
        return complete

    def _described(self, name: Name) -> Blob | None:
        """Return what the index of a copy says about its bundle; ``None`` if it was deleted meanwhile."""
        if name.nonce in self._blobs:
            return self._blobs[name.nonce]
        key = f"{self._stem(name)}.index"
        data = self._objects.get(key, MAX_HEAD_BYTES)
        if data is None:
            return None
        with decoding(self._shown(key)):
            blob = decode_head(data)
        if len(self._blobs) >= KNOWN_BLOBS:
            self._blobs.clear()
        self._blobs[name.nonce] = blob
        return blob

    def _fetch(self, name: Name) -> BundleSource | None:
        """Fetch a copy of a bundle and open it; ``None`` if it was deleted meanwhile."""
        stem = self._stem(name)
        data = self._objects.get(f"{stem}.index", large=True)
        if data is None:
            return None
        with decoding(self._shown(f"{stem}.index")):
            blob, index = decode_index(data)
        with self._cache.scratch() as file:
            for final in (False, True):  # the first attempt may fill the volume
                with self._cache.filling(f"Fetching {self._shown(stem)}.tar.zst", final=final):
                    if not self._objects.get_to_file(f"{stem}.tar.zst", file, blob.size):
                        return None
                    break
            if describe(file) != blob:
                raise StoreDamaged(f"{self._shown(stem)}.tar.zst is damaged: its hash is not {blob.sha256}.")
            return self._cache.keep(name, file, blob, index)

    def _is_doomed(self, copy: _Stored, now: float) -> bool:
        return copy.mark is not None and now - copy.mark.modified >= self._pause

    def _delete(self, copy: _Stored) -> None:
        # The index first: without it, the bundle is not stored.
        for meta in copy.metas:
            self._objects.delete(meta.key)

    # --- writing -----------------------------------------------------------------------------------------------------

    def _check_probed(self) -> None:
        if not self.probed:
            raise StoreAway(
                f"The store {self.url} has not answered since the server started.",
                "The server tries again every few seconds; its log says what the store answers.",
            )

    def _create(self, key: str, data: bytes) -> bool:
        self._check_probed()
        return self._objects.create(key, data)

    def _put(self, key: str, data: bytes) -> None:
        self._check_probed()
        self._objects.put(key, data)

    def _tell(self) -> None:
        """Let ``state_tag`` of all servers become another text."""
        self._put(CHANGED, secrets.token_hex(NONCE_BYTES).encode())

    # --- keys --------------------------------------------------------------------------------------------------------

    def _shown(self, key: str) -> str:
        return f"{self.url}/{key}"

    @staticmethod
    def _folder(deployment: str) -> str:
        try:
            return check_deployment(deployment)
        except ValueError as error:
            raise DeploymentNotFound(f"{error}.") from error

    def _id(self, deployment: str) -> str:
        return f"{self._folder(deployment)}/log.json"

    def _state(self, deployment: str, key: str) -> str:
        return f"{self._folder(deployment)}/{check_state_key(key)}.state"

    def _note(self, deployment: str, kind: NoteKind, name: str, data: bytes = b"") -> str:
        return f"{self._folder(deployment)}/{kind}/{check_note(kind, name, data)}"

    def _entry(self, deployment: str, sequence: int) -> str:
        if not 1 <= sequence <= MAX_SEQUENCE:
            raise ValueError(f"{sequence} is not the sequence of a deploy")
        return f"{self._folder(deployment)}/deploys/{sequence:012d}.json"

    def _details(self, deployment: str, sequence: int, nonce: str) -> str:
        if not is_nonce(nonce):
            raise ValueError(f"{nonce[:40]!r} is not the nonce of a deploy")
        return f"{self._entry(deployment, sequence).removesuffix('.json')}.{nonce}.details"

    def _hex(self, deployment: str, digest: str) -> str:
        self._folder(deployment)
        if not is_digest(digest):
            raise ValueError(f"{digest[:80]!r} is not a digest")
        return digest.removeprefix("sha256:")

    @staticmethod
    def _stem(name: Name) -> str:
        return f"{name.deployment}/bundles/{name.hex}/{name.nonce}"

    def _patches(self, deployment: str, old: str, new: str) -> str:
        return f"{deployment}/patches/{self._hex(deployment, old)}-{self._hex(deployment, new)}"


def _log_file(log_id: str) -> bytes:
    return json.dumps(_LogFile(log_id)._asdict()).encode() + b"\n"


def _written(copy: _Stored) -> float:
    """Return when a complete copy was stored, by the storage's clock."""
    return copy.beside.modified if copy.beside else 0.0
