"""The contract of a store: for each deployment, a log of entries that are written once, and the bundles they name.

Beside them, a deployment has a few small records of its state, such as its freeze; and notes, of which the storage
says when they were written: leases, which say what versions somebody still needs, and notes about candidates, which are
contents that are checked before they are deployed. These alone may be replaced.

An implementation is synchronous; the server calls it from several threads at once. Everything it writes is durable when
the call returns. One test suite runs against every implementation: ``tests/server/store/test_contract.py``.

The caller keeps the rules that make it a log. A bundle is stored before an entry names it. The entry after the newest
is created with ``create_entry``: the sequence is the lock. No entry is ever edited.

No bundle is deleted that a commit in progress relies on. A commit holds ``committing`` and a deletion ``deleting``: on
a local disk they exclude each other. A store that several servers use at once cannot do that. There, a deletion has two
steps that are ``DELETION_PAUSE_SECONDS`` apart, see ``may_delete``; a commit asks ``keeps_bundle``, and creates its
entry within ``MAX_COMMIT_SECONDS``. See docs/adr/0038.

A method that fails raises one of three errors, all of them ``StoreError``. ``StoreFull``: there is no space left.
``StoreAway``: the storage cannot be asked now; that may pass. ``StoreDamaged``: the storage answered, and what it has
does not decode, or is missing. A store never reports data as damaged or missing because it could not ask for it. An
invalid digest, nonce, sequence, or name of a record or a note is a ``ValueError``, and an invalid deployment name
``DeploymentNotFound``, before the storage is asked.
"""

import errno
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from io import FileIO
from typing import BinaryIO, Final, Literal

from dagferry_core.errors import DagferryError, FormatError
from dagferry_server.errors import StoreAway, StoreDamaged, StoreError, StoreFull

COMMIT_WAIT_SECONDS = 30.0
"""How long a commit waits for another server that deletes bundles; a batch takes milliseconds."""
MAX_COMMIT_SECONDS = 600.0
"""How old a bundle that a commit has stored or found may be when its entry is created; a commit takes seconds."""
DELETION_PAUSE_SECONDS = 3600.0
"""How long a bundle of a shared store is marked before it is deleted, and how old it is when it is marked."""
MAX_STATE_BYTES = 64 * 1024
"""The maximum size of a record of a deployment's state; they have a few hundred bytes."""
NoteKind = Literal["candidates", "leases"]
"""What a note is about. It is the name of the folder that has these notes."""
CANDIDATES: Final = "candidates"
LEASES: Final = "leases"
MAX_NOTE_BYTES = 64 * 1024
"""The maximum size of a note."""
LOG_ID_BYTES = 16
NOTE_NAMES: dict[NoteKind, re.Pattern[str]] = {
    CANDIDATES: re.compile(r"[0-9a-f]{32}\.[a-z]{1,20}"),
    LEASES: re.compile(r"[a-z0-9-]{1,100}"),
}
"""What the name of a note may be: id and word, or the holder of the lease."""
_STATE_KEY = re.compile(r"[a-z]{1,20}")
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


class BundleSource(AbstractContextManager["BundleSource"]):
    """A stored bundle, open for reading until it is closed, even if it is deleted or stored again meanwhile.

    ``size`` is its size in bytes, and ``encoded_index`` what was stored beside it. Several threads may read at once.
    """

    file: FileIO | None = None
    """The file that holds the bundle and nothing else, if there is one: the kernel can send it. Not for reading."""

    def __init__(self, size: int, encoded_index: bytes) -> None:
        self.size = size
        self.encoded_index = encoded_index

    @abstractmethod
    def read(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes at ``offset``: fewer only where the bundle ends, and none beyond its end.

        Neither number is negative. Raises ``StoreAway`` if the bytes cannot be read now.
        """

    @abstractmethod
    def close(self) -> None:
        """Release what the source holds; it is not read again."""

    def __exit__(self, *_: object) -> None:
        self.close()


class Store(ABC):
    """Where deploy logs and bundles are kept. A deployment is known by its name, a bundle by its digest."""

    shared: bool = False
    """Whether other servers may use it at the same time, so that their changes have to be looked for."""

    def probe(self) -> None:  # noqa: B027 - a local disk needs none
        """Find out whether the storage keeps what a store promises; until then, a shared store creates nothing.

        Raises ``SetupError`` if it does not, and ``StoreAway`` if it cannot be asked now.
        """

    @abstractmethod
    def deployments(self) -> list[str]:
        """Return the names of all deployments that the store has data of, in ascending order.

        Anything else in the storage is skipped.
        """

    @abstractmethod
    def prepare(self, deployment: str) -> bool:
        """Create what the deployment needs, with a log id if it has none; remove what an earlier run left behind.

        Return whether this made a new, empty log.
        """

    @abstractmethod
    def log_id(self, deployment: str) -> str:
        """Return the random name of the deployment's log."""

    @abstractmethod
    def write_log_id(self, deployment: str, log_id: str) -> None:
        """Give the log this name, 32 hex digits: of a copy of the log, the name that the original has."""

    def new_log_id(self, deployment: str) -> str:
        """Give the log a new name and return it: after a restore from a backup, it is not the log that it was."""
        log_id = secrets.token_hex(LOG_ID_BYTES)
        self.write_log_id(deployment, log_id)
        return log_id

    @abstractmethod
    def sequences(self, deployment: str) -> list[int]:
        """Return the sequences of all entries, readable or not, in ascending order."""

    @abstractmethod
    def read_entry(self, deployment: str, sequence: int) -> bytes:
        """Return an entry as it was stored; ``StoreDamaged`` if there is none."""

    def read_entries(self, deployment: str, sequences: Sequence[int]) -> list[bytes | StoreError]:
        """Return each of the entries as ``read_entry`` does, or the error that it raises."""
        return [self._entry_or_error(deployment, sequence) for sequence in sequences]

    def _entry_or_error(self, deployment: str, sequence: int) -> bytes | StoreError:
        try:
            return self.read_entry(deployment, sequence)
        except StoreError as error:
            return error

    @abstractmethod
    def newer(self, deployment: str, after: int) -> list[bytes]:
        """Return the entries ``after + 1``, ``after + 2`` and so on as they were stored, up to the first gap.

        Usually there are none, and then the call is cheap.
        """

    @abstractmethod
    def create_entry(self, deployment: str, sequence: int, data: bytes) -> bool:
        """Store an entry; if its sequence is taken, return ``False`` and change nothing.

        An entry with exactly the same bytes is the caller's own, because each has a nonce: the response to an earlier
        attempt was lost. Then return ``True``.
        """

    @abstractmethod
    def put_details(self, deployment: str, sequence: int, nonce: str, data: bytes) -> None:
        """Store the details of the entry with this nonce, before it is created; they are durable when it is."""

    @abstractmethod
    def read_details(self, deployment: str, sequence: int, nonce: str) -> bytes:
        """Return the details of an entry; ``StoreDamaged`` if there are none."""

    @abstractmethod
    def delete_details(self, deployment: str, sequence: int, nonce: str) -> None:
        """Delete the details, if they exist, of an entry that was not created, or whose bundle was deleted."""

    @abstractmethod
    def bundles(self, deployment: str) -> dict[str, int]:
        """Return the digest of every stored bundle, and about how many bytes it takes in the storage."""

    @abstractmethod
    def has_bundle(self, deployment: str, digest: str) -> bool:
        """Return whether the bundle is stored."""

    def keeps_bundle(self, deployment: str, digest: str) -> bool:
        """Return whether the bundle is stored, and stays for the rest of a commit, though no entry names it yet.

        If not, the commit stores it again.
        """
        return self.has_bundle(deployment, digest)

    @abstractmethod
    def put_bundle(self, deployment: str, digest: str, write: Callable[[BinaryIO], bytes]) -> None:
        """Store a bundle: ``write`` writes it to a file and returns its index. It appears whole or not at all."""

    @abstractmethod
    def open_bundle(self, deployment: str, digest: str) -> BundleSource:
        """Open a bundle; ``BundleGone`` if it is not there. The caller closes it."""

    @abstractmethod
    def may_delete(self, deployment: str, digests: Collection[str]) -> set[str]:
        """Note that no deploy that is kept names these bundles, and return those that may be deleted now.

        The caller then reads the entries again that are newer than what it knows, and deletes what they do not name.
        Also removes what no bundle will ever need, such as the rest of an upload whose server was killed.
        """

    @abstractmethod
    def delete_bundle(self, deployment: str, digest: str) -> None:
        """Delete a bundle, if it is there, and ``may_delete`` allows it. A source that is open stays readable."""

    @abstractmethod
    def put_patch(self, deployment: str, old: str, new: str, data: bytes) -> None:
        """Store the patch between two bundles, by their digests, for other servers; where there are none, do nothing.

        It is deleted within a few days.
        """

    @abstractmethod
    def read_patch(self, deployment: str, old: str, new: str) -> bytes | None:
        """Return the patch between two bundles that another server stored; ``None`` if there is none."""

    @abstractmethod
    def read_state(self, deployment: str, key: str) -> bytes | None:
        """Return the record ``key`` of the deployment's state as it was written last; ``None`` if there is none."""

    @abstractmethod
    def write_state(self, deployment: str, key: str, data: bytes) -> None:
        """Write or replace a record of a deployment that was prepared; ``ValueError`` above ``MAX_STATE_BYTES``.

        A reader at the same time, on any server, gets the old content or the new one. The last writer wins.
        """

    @abstractmethod
    def delete_state(self, deployment: str, key: str) -> None:
        """Delete a record, if it is there."""

    @abstractmethod
    def state_tag(self) -> str:
        """Return what becomes another text when other servers create or delete a deployment, or change its records.

        A new log id does so too. Cheap enough to be asked every second.
        """

    @abstractmethod
    def notes(self, deployment: str, kind: NoteKind) -> dict[str, float]:
        """Return the names of all notes of a kind, and when each was written last, by the storage's clock.

        That is in seconds since the epoch, as precise as the storage has it; compare it with ``now``. One that is
        written or deleted meanwhile may be missing or not.
        """

    @abstractmethod
    def read_note(self, deployment: str, kind: NoteKind, name: str) -> bytes | None:
        """Return a note as it was written last; ``None`` if there is none."""

    def read_notes(self, deployment: str, kind: NoteKind, names: Sequence[str]) -> list[bytes | None]:
        """Return each of the notes as ``read_note`` does, or raise what it raises for one of them."""
        return [self.read_note(deployment, kind, name) for name in names]

    @abstractmethod
    def write_note(self, deployment: str, kind: NoteKind, name: str, data: bytes) -> None:
        """Write or replace a note of a deployment that was prepared; ``ValueError`` above ``MAX_NOTE_BYTES``.

        A reader at the same time gets the old content or the new one.
        """

    @abstractmethod
    def delete_note(self, deployment: str, kind: NoteKind, name: str) -> None:
        """Delete a note, if it is there."""

    def delete_notes(self, deployment: str, kind: NoteKind) -> None:
        """Delete all notes of a kind."""
        for name in self.notes(deployment, kind):
            self.delete_note(deployment, kind, name)

    @abstractmethod
    def now(self) -> float:
        """Return the time by the storage's clock, in seconds since the epoch; the storage is asked for it."""

    @abstractmethod
    def committing(self, deployment: str) -> AbstractContextManager[None]:
        """Keep everyone, other servers too, from deleting bundles until the block ends.

        A commit holds this from before it looks for its bundle until an entry names it. Raises ``StoreAway`` if a
        deletion goes on for ``COMMIT_WAIT_SECONDS``.
        """

    @abstractmethod
    def deleting(self, deployment: str) -> AbstractContextManager[bool]:
        """Keep everyone, other servers too, from committing until the block ends.

        It is ``False`` if a commit is in progress: then nothing may be deleted.
        """

    @abstractmethod
    def capacity_bytes(self) -> int | None:
        """Return how many bytes the storage can hold in total; ``None`` if there is no such limit."""

    @abstractmethod
    def check_writable(self) -> None:
        """Raise ``StoreError`` unless the storage can be written. Leaves nothing behind."""


def check_state_key(key: str) -> str:
    """Return ``key`` if it can name a record of a deployment's state (1 to 20 of a-z); ``ValueError`` otherwise."""
    if not _STATE_KEY.fullmatch(key):
        raise ValueError(f"{key[:40]!r} is not the name of a record")
    return key


def is_note(kind: NoteKind, name: str) -> bool:
    """Return whether ``name`` can name a note of this kind."""
    return NOTE_NAMES[kind].fullmatch(name) is not None


def check_note(kind: NoteKind, name: str, data: bytes = b"") -> str:
    """Return ``name`` if it can name a note, and if ``data`` is not too large for one; ``ValueError`` otherwise."""
    if not is_note(kind, name):
        raise ValueError(f"{name[:60]!r} is not the name of a note among the {kind}")
    if len(data) > MAX_NOTE_BYTES:
        raise ValueError(f"a note of {len(data)} bytes is larger than {MAX_NOTE_BYTES}")
    return name


@contextmanager
def storage_errors(action: str, missing: DagferryError | None = None) -> Iterator[None]:
    """Turn an ``OSError`` of the block into ``StoreFull`` or ``StoreAway``, which say that ``action`` failed.

    If ``missing`` is given, it is raised for a file that does not exist.
    """
    try:
        yield
    except OSError as error:
        if missing and isinstance(error, FileNotFoundError):
            raise missing from error
        kind = StoreFull if error.errno in _NO_SPACE else StoreAway
        raise kind(f"{action} failed: {error.strerror or error}.") from error


@contextmanager
def decoding(what: str) -> Iterator[None]:
    """Turn a ``FormatError`` of the block into ``StoreDamaged``, which says that ``what`` is damaged."""
    try:
        yield
    except FormatError as error:
        raise StoreDamaged(f"{what} is damaged: {error}.") from error
