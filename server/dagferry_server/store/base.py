"""What a store is: for each deployment a log of entries that are written once, and bundles that the entries name.

An implementation is synchronous; the server calls it from threads, several at once. Everything it is asked to write is
durable when the call returns. One test suite runs against every implementation.

The rules that make it a log, kept by the caller: a bundle is put before an entry names it, the entry after the newest
is created with ``create_entry`` (the sequence is the lock), nothing is ever edited, and a bundle is deleted only while
no commit to its deployment is under way: a commit holds ``committing``, and who deletes ``deleting``.

Every method raises one of three errors, all of them ``StoreError``: ``StoreFull`` if there is no space left,
``StoreAway`` if the storage cannot be asked now, which may pass, and ``StoreDamaged`` if it did answer, and what it has
does not decode or is missing. A store never reports data as damaged or missing because it could not ask for it. A
digest, nonce or sequence that is invalid is a ``ValueError``, before the storage is asked.
"""

import errno
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from io import FileIO
from typing import BinaryIO

from dagferry_core.errors import DagferryError, FormatError
from dagferry_server.errors import StoreAway, StoreDamaged, StoreFull

COMMIT_WAIT_SECONDS = 30.0
"""How long a commit waits for another server that deletes bundles; a batch takes milliseconds."""
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


class BundleSource(AbstractContextManager["BundleSource"]):
    """A stored bundle, open for reading until it is closed, also if it is deleted or stored anew meanwhile.

    ``size`` is its size in bytes, and ``encoded_index`` what was stored beside it. Several threads may read at once.
    """

    file: FileIO | None = None
    """The file that holds exactly the bundle, if there is one: then the kernel can send it. Nobody else may use it."""

    def __init__(self, size: int, encoded_index: bytes) -> None:
        self.size = size
        self.encoded_index = encoded_index

    @abstractmethod
    def read(self, offset: int, size: int) -> bytes:
        """Return the ``size`` bytes at ``offset``, fewer only where the bundle ends, and none beyond its end.

        Neither number is negative. Raises ``StoreAway`` if they cannot be read now.
        """

    @abstractmethod
    def close(self) -> None:
        """Read nothing more."""

    def __exit__(self, *_: object) -> None:
        self.close()


class Store(ABC):
    """Where deploy logs and bundles are kept. Deployments are named by checked names, bundles by their digest."""

    @abstractmethod
    def deployments(self) -> list[str]:
        """Return the names of all deployments that there is data of, in ascending order.

        Anything else that lies in the storage is skipped.
        """

    @abstractmethod
    def prepare(self, deployment: str) -> None:
        """Make the deployment's place, with a new log id if it has none, and remove what an earlier run left over."""

    @abstractmethod
    def log_id(self, deployment: str) -> str:
        """Return the random name of the deployment's log."""

    @abstractmethod
    def new_log_id(self, deployment: str) -> str:
        """Give the log a new name and return it: after a backup was restored, so that nobody takes it for the old."""

    @abstractmethod
    def sequences(self, deployment: str) -> list[int]:
        """Return the sequences of all entries, readable or not, in ascending order."""

    @abstractmethod
    def read_entry(self, deployment: str, sequence: int) -> bytes:
        """Return an entry as it was stored; ``StoreDamaged`` if there is none."""

    @abstractmethod
    def newer(self, deployment: str, after: int) -> list[bytes]:
        """Return the entries ``after + 1``, ``after + 2`` and so on, up to the first that there is not, as stored.

        Usually there is none, and the call is cheap then.
        """

    @abstractmethod
    def create_entry(self, deployment: str, sequence: int, data: bytes) -> bool:
        """Store an entry unless the sequence is taken already: then return ``False`` and change nothing.

        An entry that is there with the very same bytes is the caller's own, because each has a nonce: the answer to an
        earlier attempt got lost on its way, and this is ``True``.
        """

    @abstractmethod
    def put_details(self, deployment: str, sequence: int, nonce: str, data: bytes) -> None:
        """Store what goes with the entry that is about to be created, and has this nonce; durable as soon as that."""

    @abstractmethod
    def read_details(self, deployment: str, sequence: int, nonce: str) -> bytes:
        """Return the details of an entry; ``StoreDamaged`` if there are none."""

    @abstractmethod
    def delete_details(self, deployment: str, sequence: int, nonce: str) -> None:
        """Delete the details of an entry that did not come to be, or whose bundle is gone, if they are there."""

    @abstractmethod
    def bundles(self, deployment: str) -> dict[str, int]:
        """Return the digest of every stored bundle and the bytes it takes."""

    @abstractmethod
    def has_bundle(self, deployment: str, digest: str) -> bool:
        """Tell whether the bundle is stored."""

    @abstractmethod
    def put_bundle(self, deployment: str, digest: str, write: Callable[[BinaryIO], bytes]) -> None:
        """Store a bundle: ``write`` writes it to a file and returns its index. It appears whole or not at all."""

    @abstractmethod
    def open_bundle(self, deployment: str, digest: str) -> BundleSource:
        """Open a bundle; ``BundleGone`` if it is not there. The caller closes it."""

    @abstractmethod
    def delete_bundle(self, deployment: str, digest: str) -> None:
        """Delete a bundle, if it is there. Whoever has it open reads it to its end."""

    @abstractmethod
    def committing(self, deployment: str) -> AbstractContextManager[None]:
        """Hold off deletions, those of other servers too, from before a bundle is looked for until an entry names it.

        Raises ``StoreAway`` if they go on for ``COMMIT_WAIT_SECONDS``.
        """

    @abstractmethod
    def deleting(self, deployment: str) -> AbstractContextManager[bool]:
        """Hold off commits, those of other servers too; ``False`` if one is under way: then nothing may be deleted."""

    @abstractmethod
    def capacity_bytes(self) -> int:
        """Return how many bytes the storage could hold in all."""

    @abstractmethod
    def check_writable(self) -> None:
        """Write something small and remove it again; raise if that does not work."""


@contextmanager
def storage_errors(action: str, missing: DagferryError | None = None) -> Iterator[None]:
    """Turn an ``OSError`` of the block into ``StoreFull`` or ``StoreAway``, which say that ``action`` failed.

    A file that is not there is ``missing``, if that is given.
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
