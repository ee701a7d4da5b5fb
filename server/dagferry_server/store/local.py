"""The store on a local disk.

::

    <root>/<deployment>/log.json                            {"log_id": "…"}
    <root>/<deployment>/deploys/000000000042.json           an entry
    <root>/<deployment>/deploys/000000000042.<nonce>.details
    <root>/<deployment>/bundles/<hex>.tar.zst, <hex>.index  a bundle
    <root>/<deployment>/<key>.state                         a record of its state
    <root>/<deployment>/<kind>/<name>                       a note; its mtime says when it was written
    <root>/<deployment>/commit.lock                         flock: shared by commits, exclusive to a deletion

A file is written under a temporary name in the same folder, synced, and then linked (an entry, so that the first one
wins) or renamed (everything else); then the folder is synced. Only then does a call return. Names are checked when they
are passed in and when they are listed, so the store ignores files that are not its own.

One process at a time may use a root: see ``dagferry_server.store.data_folder``.
"""

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from io import FileIO
from typing import BinaryIO, NamedTuple

from dagferry_core.deploy_details import MAX_DETAILS_BYTES
from dagferry_core.deploylog import is_nonce
from dagferry_core.errors import FormatError
from dagferry_core.names import MAX_SEQUENCE, check_deployment, is_deployment, is_digest
from dagferry_core.typed import typed_json
from dagferry_runtime.logs import log_failure
from dagferry_server.errors import BundleGone, DeploymentNotFound, StoreDamaged, StoreFull
from dagferry_server.pacing import paced
from dagferry_server.store.base import (
    MAX_NOTE_BYTES,
    MAX_STATE_BYTES,
    NOTE_NAMES,
    BundleSource,
    NoteKind,
    Store,
    check_note,
    check_state_key,
    is_note,
    storage_errors,
)
from dagferry_server.store.files import (
    TEMPORARY,
    make_folder,
    make_private,
    publish,
    remove,
    sweep,
    sweep_orphans,
    sync_folder,
)
from dagferry_server.store.locks import committing, deleting

LOG_NAME = "log.json"
PROBE_NAME = ".writable"
COMMIT_LOCK_NAME = "commit.lock"
MAX_ENTRY_BYTES = 64 * 1024
"""No more of an entry is read; it has a few hundred bytes, or 12 KiB with the longest description."""

_ENTRY = re.compile(r"([0-9]{12})\.json")
_DETAILS = re.compile(r"([0-9]{12})\.[0-9a-f]{16}\.details")
_INDEX = re.compile(r"(.*)\.index")
_BUNDLE = re.compile(r"([0-9a-f]{64})\.tar\.zst")
_LOG_ID = re.compile(r"[0-9a-f]{32}")


class _LogFile(NamedTuple):
    log_id: str


class LocalBundle(BundleSource):
    """A bundle in an open file. It does not change: a bundle that is stored again is another file of the same name."""

    file: FileIO

    def __init__(self, file: FileIO, encoded_index: bytes, name: str) -> None:
        super().__init__(os.fstat(file.fileno()).st_size, encoded_index)
        self.file = file
        self._name = name

    def read(self, offset: int, size: int) -> bytes:
        """Return the bytes at ``offset``; see ``BundleSource``."""
        # Never more than there is: a damaged index may ask for a terabyte, and the buffer would be allocated.
        left = min(size, self.size - offset)
        with storage_errors(f"Reading {self._name}"):
            return os.pread(self.file.fileno(), left, offset) if left > 0 else b""

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class LocalStore(Store):
    """A store in the folder ``root``, which exists."""

    def __init__(self, root: str) -> None:
        self._root = root

    def deployments(self) -> list[str]:
        """Return the names of all folders that have a log."""
        with storage_errors(f"Listing the deployments in {self._root}"):
            with os.scandir(self._root) as entries:
                names = sorted(entry.name for entry in entries if is_deployment(entry.name) and entry.is_dir())
            # A backup may have been made before a log id was written, or without it.
            return [name for name in names if any(map(_exists, (self._id(name), self._deploys(name))))]

    def prepare(self, deployment: str) -> bool:
        """Create the deployment's folders, with a log id if it has none, and remove what an earlier run left behind.

        Return whether this made a new, empty log.
        """
        with storage_errors(f"Preparing the store of {deployment}"):
            for folder in (self._folder(deployment), self._deploys(deployment), self._bundles(deployment)):
                make_folder(folder)
                make_private(folder)
                sweep(folder)
            for folder in (self._notes(deployment, kind) for kind in NOTE_NAMES):
                if os.path.isdir(folder):
                    sweep(folder)
            # A run that was killed may have created names and not synced them.
            sync_folder(self._folder(deployment))
            # An index without its bundle, or details without their entry, are of no use.
            sweep_orphans(self._bundles(deployment), _INDEX, ".tar.zst")
            sweep_orphans(self._deploys(deployment), _DETAILS, ".json")
            make_private(self._bundles(deployment), os.listdir(self._bundles(deployment)))
        try:
            self.log_id(deployment)
        except StoreDamaged as error:
            # A log with deploys is now one of unknown origin: sidecars follow the new id, with a warning.
            has_deploys = bool(self.sequences(deployment))
            if has_deploys:
                log_failure("The log id cannot be read; a new one is written", error, deployment=deployment)
            self.new_log_id(deployment)
            return not has_deploys
        return False

    def log_id(self, deployment: str) -> str:
        """Return the random name of the deployment's log."""
        action = f"Reading the log id of {deployment}"
        missing = StoreDamaged(f"{action} failed: {LOG_NAME} is missing.")
        with storage_errors(action, missing), open(self._id(deployment), "rb") as file:
            data = file.read(MAX_ENTRY_BYTES)
        try:
            log_id = typed_json(_LogFile, data).log_id
        except FormatError as error:
            raise StoreDamaged(f"{action} failed: {LOG_NAME} is damaged: {error}.") from error
        if not _LOG_ID.fullmatch(log_id):
            raise StoreDamaged(f"{action} failed: {log_id[:40]!r} is not a log id.")
        return log_id

    def write_log_id(self, deployment: str, log_id: str) -> None:
        """Give the log this name."""
        folder = self._folder(deployment)
        with storage_errors(f"Writing the log id of {deployment}"):
            publish(folder, LOG_NAME, lambda file: file.write(json.dumps(_LogFile(log_id)._asdict()).encode() + b"\n"))
            sync_folder(folder)

    def sequences(self, deployment: str) -> list[int]:
        """Return the sequences of all entries in ascending order."""
        with storage_errors(f"Listing the deploys of {deployment}"):
            # Callers rely on an entry that they see, even if its writer was killed before it synced the name.
            sync_folder(self._deploys(deployment))
            names = os.listdir(self._deploys(deployment))
        return sorted(int(match[1]) for match in map(_ENTRY.fullmatch, names) if match)

    def read_entry(self, deployment: str, sequence: int) -> bytes:
        """Return an entry as it was stored."""
        missing = StoreDamaged(f"{deployment} has no entry {sequence} in its deploy log.")
        with storage_errors(f"Reading deploy {sequence} of {deployment}", missing):
            return self._read(deployment, sequence)

    def newer(self, deployment: str, after: int) -> list[bytes]:
        """Return the entries that follow ``after``."""
        found: list[bytes] = []
        with storage_errors(f"Looking for deploys of {deployment} after {after}"):
            with contextlib.suppress(FileNotFoundError):
                while after + len(found) < MAX_SEQUENCE:
                    found.append(self._read(deployment, after + len(found) + 1))
            if found:
                sync_folder(self._deploys(deployment))  # see sequences
        return found

    def create_entry(self, deployment: str, sequence: int, data: bytes) -> bool:
        """Store an entry unless its sequence is taken."""
        path = self._entry(deployment, sequence)
        folder, name = os.path.split(path)
        with storage_errors(f"Writing deploy {sequence} of {deployment}"):
            created = publish(folder, name, lambda file: file.write(data), exclusive=True)
            # NFS repeats a link whose response was lost, and then reports that the name exists.
            if not created and self._read(deployment, sequence) != data:
                return False
            try:
                sync_folder(folder)
            except OSError:
                remove(path)
                raise
        return True

    def put_details(self, deployment: str, sequence: int, nonce: str, data: bytes) -> None:
        """Store the details of an entry; their name is synced together with the name of the entry."""
        folder, name = os.path.split(self._details(deployment, sequence, nonce))
        with storage_errors(f"Writing the details of deploy {sequence} of {deployment}"):
            publish(folder, name, lambda file: file.write(data))

    def read_details(self, deployment: str, sequence: int, nonce: str) -> bytes:
        """Return the details of an entry."""
        what = f"the details of deploy {sequence} of {deployment}"
        missing = StoreDamaged(f"The details of deploy {sequence} of {deployment} are missing.")
        with (
            storage_errors(f"Reading {what}", missing),
            open(self._details(deployment, sequence, nonce), "rb") as file,
        ):
            return file.read(MAX_DETAILS_BYTES)

    def delete_details(self, deployment: str, sequence: int, nonce: str) -> None:
        """Delete the details of an entry, if they are there."""
        with storage_errors(f"Deleting the details of deploy {sequence} of {deployment}"):
            remove(self._details(deployment, sequence, nonce))

    def bundles(self, deployment: str) -> dict[str, int]:
        """Return the digest of every stored bundle and the bytes it takes, its index included."""
        found = {}
        sizes: dict[str, int] = {}
        with storage_errors(f"Listing the bundles of {deployment}"), os.scandir(self._bundles(deployment)) as entries:
            for entry in paced(entries):
                # A commit renames or removes its temporary files meanwhile, and retention deletes bundles.
                with contextlib.suppress(FileNotFoundError):
                    sizes[entry.name] = entry.stat().st_size
        for name, size in paced(sizes.items()):
            if match := _BUNDLE.fullmatch(name):
                found[f"sha256:{match[1]}"] = size + sizes.get(f"{match[1]}.index", 0)
        return found

    def has_bundle(self, deployment: str, digest: str) -> bool:
        """Return whether the bundle is stored."""
        paths = self._bundle(deployment, digest)
        with storage_errors(f"Looking for a bundle of {deployment}"):
            if not all(map(_exists, paths)):
                return False
            sync_folder(self._bundles(deployment))  # see sequences
        return True

    def put_bundle(self, deployment: str, digest: str, write: Callable[[BinaryIO], bytes]) -> None:
        """Store a bundle; see ``Store``."""
        bundle, index = self._bundle(deployment, digest)
        folder = self._bundles(deployment)
        encoded = b""

        def write_and_keep_index(file: BinaryIO) -> None:
            nonlocal encoded
            encoded = write(file)
            # Inside publish, so that the index has its name before the bundle has.
            publish(folder, os.path.basename(index), lambda out: out.write(encoded))

        with storage_errors(f"Storing a bundle of {deployment}"):
            try:
                publish(folder, os.path.basename(bundle), write_and_keep_index)
                sync_folder(folder)
            except BaseException:
                if not _exists(bundle):
                    remove(index)
                raise

    def open_bundle(self, deployment: str, digest: str) -> LocalBundle:
        """Open a bundle; ``BundleGone`` if it is not there."""
        bundle, index = self._bundle(deployment, digest)
        gone = BundleGone(f"The bundle {digest} of {deployment} is no longer stored.")
        with storage_errors(f"Opening a bundle of {deployment}", gone):
            with open(index, "rb") as file:
                encoded = file.read()
            return LocalBundle(FileIO(bundle), encoded, f"bundle {digest} of {deployment}")

    def may_delete(self, deployment: str, digests: Collection[str]) -> set[str]:  # noqa: ARG002 - a lock protects them
        """Return the bundles: they may all be deleted, under the lock."""
        return set(digests)

    def delete_bundle(self, deployment: str, digest: str) -> None:
        """Delete a bundle, if it is there."""
        with storage_errors(f"Deleting a bundle of {deployment}"):
            # The bundle first: an index without one is removed at the next start.
            for path in self._bundle(deployment, digest):
                remove(path)

    def put_patch(self, deployment: str, old: str, new: str, data: bytes) -> None:
        """Do nothing: the only server has the patch in memory."""

    def read_patch(self, deployment: str, old: str, new: str) -> bytes | None:  # noqa: ARG002 - see above
        """Return ``None``: there are none."""
        return None

    def state_tag(self) -> str:
        """Return an empty text: no other server changes anything."""
        return ""

    def read_state(self, deployment: str, key: str) -> bytes | None:
        """Return a record of the deployment's state; ``None`` if there is none."""
        path = self._state(deployment, key)
        with storage_errors(f"Reading the {key} of {deployment}"):
            try:
                with open(path, "rb") as file:
                    sync_folder(self._folder(deployment))  # see sequences
                    return file.read(MAX_STATE_BYTES)
            except FileNotFoundError:
                return None

    def write_state(self, deployment: str, key: str, data: bytes) -> None:
        """Write or replace a record of the deployment's state."""
        if len(data) > MAX_STATE_BYTES:
            raise ValueError(f"a record of {len(data)} bytes is larger than {MAX_STATE_BYTES}")
        folder, name = os.path.split(self._state(deployment, key))
        with storage_errors(f"Writing the {key} of {deployment}"):
            publish(folder, name, lambda file: file.write(data))
            sync_folder(folder)

    def delete_state(self, deployment: str, key: str) -> None:
        """Delete a record of the deployment's state, if it is there."""
        path = self._state(deployment, key)
        with storage_errors(f"Deleting the {key} of {deployment}"):
            remove(path)
            sync_folder(self._folder(deployment))

    def notes(self, deployment: str, kind: NoteKind) -> dict[str, float]:
        """Return the names of all notes, and when each was written."""
        folder, found = self._notes(deployment, kind), {}
        with storage_errors(f"Listing the {kind} of {deployment}"):
            try:
                entries = os.scandir(folder)
            except FileNotFoundError:  # a folder that cannot be asked has notes, for all that is known
                os.stat(self._folder(deployment))  # a volume that is away has no folders at all
                return {}
            with entries:
                for entry in entries:
                    # Another thread may delete it meanwhile.
                    with contextlib.suppress(FileNotFoundError):
                        if is_note(kind, entry.name):
                            found[entry.name] = entry.stat().st_mtime
        return found

    def read_note(self, deployment: str, kind: NoteKind, name: str) -> bytes | None:
        """Return a note; ``None`` if there is none."""
        path = self._note(deployment, kind, name)
        with (
            storage_errors(f"Reading the {kind} of {deployment}"),
            contextlib.suppress(FileNotFoundError),
            open(path, "rb") as file,
        ):
            return file.read(MAX_NOTE_BYTES)
        return None

    def write_note(self, deployment: str, kind: NoteKind, name: str, data: bytes) -> None:
        """Write or replace a note."""
        folder, name = os.path.split(self._note(deployment, kind, name, data))
        with storage_errors(f"Writing to the {kind} of {deployment}"):
            make_folder(folder)
            publish(folder, name, lambda file: file.write(data))
            sync_folder(folder)

    def delete_note(self, deployment: str, kind: NoteKind, name: str) -> None:
        """Delete a note, if it is there."""
        path = self._note(deployment, kind, name)
        with storage_errors(f"Deleting from the {kind} of {deployment}"):
            remove(path)

    def now(self) -> float:
        """Return what time it is for the volume, which may be on another machine, with another clock.

        That needs no space: retention asks, which is what frees a full volume.
        """
        action = "Asking the volume for the time"
        with (
            contextlib.suppress(StoreFull),
            storage_errors(action),
            tempfile.TemporaryFile(prefix=TEMPORARY, dir=self._root) as file,
        ):
            return os.fstat(file.fileno()).st_mtime
        with storage_errors(action):  # there may be no more files either
            os.utime(self._root)
            return os.stat(self._root).st_mtime

    def committing(self, deployment: str) -> AbstractContextManager[None]:
        """Keep others from deleting; see ``Store``."""
        return committing(self._lock(deployment), deployment)

    def deleting(self, deployment: str) -> AbstractContextManager[bool]:
        """Keep others from committing; see ``Store``."""
        return deleting(self._lock(deployment), deployment)

    def capacity_bytes(self) -> int:
        """Return the size of the volume."""
        with storage_errors("Asking the volume for its size"):
            volume = os.statvfs(self._root)
        return volume.f_frsize * volume.f_blocks

    def check_writable(self) -> None:
        """Write and remove a small file."""
        with storage_errors("Writing to the data folder"):
            publish(self._root, PROBE_NAME, lambda file: file.write(b"writable\n"))
            remove(os.path.join(self._root, PROBE_NAME))

    def _read(self, deployment: str, sequence: int) -> bytes:
        with open(self._entry(deployment, sequence), "rb") as file:
            return file.read(MAX_ENTRY_BYTES)

    def _folder(self, deployment: str) -> str:
        try:
            return os.path.join(self._root, check_deployment(deployment))
        except ValueError as error:
            raise DeploymentNotFound(f"{error}.") from error

    def _id(self, deployment: str) -> str:
        return os.path.join(self._folder(deployment), LOG_NAME)

    def _deploys(self, deployment: str) -> str:
        return os.path.join(self._folder(deployment), "deploys")

    def _bundles(self, deployment: str) -> str:
        return os.path.join(self._folder(deployment), "bundles")

    def _state(self, deployment: str, key: str) -> str:
        return os.path.join(self._folder(deployment), f"{check_state_key(key)}.state")

    def _notes(self, deployment: str, kind: NoteKind) -> str:
        return os.path.join(self._folder(deployment), kind)

    def _note(self, deployment: str, kind: NoteKind, name: str, data: bytes = b"") -> str:
        return os.path.join(self._notes(deployment, kind), check_note(kind, name, data))

    def _lock(self, deployment: str) -> str:
        return os.path.join(self._folder(deployment), COMMIT_LOCK_NAME)

    def _entry(self, deployment: str, sequence: int) -> str:
        if not 1 <= sequence <= MAX_SEQUENCE:
            raise ValueError(f"{sequence} is not the sequence of a deploy")
        return os.path.join(self._deploys(deployment), f"{sequence:012d}.json")

    def _details(self, deployment: str, sequence: int, nonce: str) -> str:
        if not is_nonce(nonce):
            raise ValueError(f"{nonce[:40]!r} is not the nonce of a deploy")
        return f"{self._entry(deployment, sequence).removesuffix('.json')}.{nonce}.details"

    def _bundle(self, deployment: str, digest: str) -> tuple[str, str]:
        if not is_digest(digest):
            raise ValueError(f"{digest[:80]!r} is not a digest")
        stem = os.path.join(self._bundles(deployment), digest.removeprefix("sha256:"))
        return stem + ".tar.zst", stem + ".index"


def _exists(path: str) -> bool:
    """Return whether the file exists; unlike ``os.path.exists``, raise ``OSError`` if that is not known."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    return True
