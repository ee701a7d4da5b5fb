"""Bundles of an object store on the local disk: those that this server stored or fetched.

::

    <folder>/<deployment>.<hex>.<nonce>.index   what the store has beside the bundle
    <folder>/<deployment>.<hex>.<nonce>.bundle  the bundle; it has this name when both are complete
    <folder>/.new-*                             a file that is not complete; removed at the next start

A name never gets another content. Together the files take about ``max_bytes``: above that, the one that was not used
for the longest time goes. What is open stays readable. Bundles are not synced: one of an earlier run is compared with
its sha256 before it is used.
"""

import contextlib
import hashlib
import os
import re
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from io import FileIO
from typing import IO, BinaryIO, NamedTuple

from dagferry_core.limits import PIECE_BYTES
from dagferry_runtime.logs import log_failure
from dagferry_server.errors import StoreError, StoreFull
from dagferry_server.store.base import BundleSource, storage_errors
from dagferry_server.store.files import TEMPORARY, make_folder, publish, remove, sweep
from dagferry_server.store.local import LocalBundle
from dagferry_server.store.stored_index import Blob, decode_index, encode_index

CACHE_NAME = ".cache"

_BUNDLE = re.compile(r"([a-z0-9-]{1,63})\.([0-9a-f]{64})\.([0-9a-f]{32})\.bundle")


class Name(NamedTuple):
    """What a cached bundle is known by; ``hex`` is its digest without ``sha256:``."""

    deployment: str
    hex: str
    nonce: str


class BundleCache:
    """The cache in ``folder``, which is created if missing. Safe for several threads of one process."""

    def __init__(self, folder: str, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._sizes: OrderedDict[Name, int] = OrderedDict()
        """The least recently used one first."""
        self._unverified: set[Name] = set()
        with storage_errors(f"Opening the cache {folder}"):
            make_folder(folder)
            sweep(folder)
            self._find()

    def scratch(self) -> IO[bytes]:
        """Return a new file for ``keep``; it is removed when it is closed, if it was not kept."""
        with storage_errors(f"Opening a file in {self._folder}"):
            return tempfile.NamedTemporaryFile(prefix=TEMPORARY, dir=self._folder)

    def keep(self, name: Name, file: IO[bytes], blob: Blob, index: bytes) -> BundleSource:
        """Give a file of ``scratch`` its name, and return it opened; other bundles of its digest go.

        If the volume does not take it, that is logged, and the bundle is there until it is closed.
        """
        with storage_errors(f"Writing to the cache {self._folder}"):
            file.flush()
            opened = FileIO(file.name)
        try:
            with storage_errors(f"Writing to the cache {self._folder}"):
                self._name_file(name, file, encode_index(blob, index))
        except StoreError as error:
            log_failure("A bundle is not kept in the cache", error, deployment=name.deployment)
            self.forget(name)
            return LocalBundle(opened, index, _shown(name))
        except BaseException:
            opened.close()
            raise
        with self._lock:
            for other in [other for other in self._sizes if other[:2] == name[:2] and other != name]:
                self._remove(other)
            self._sizes[name] = blob.size + len(index)
            self._sizes.move_to_end(name)
            self._shrink()
        return LocalBundle(opened, index, _shown(name))

    def open(self, deployment: str, digest: str) -> BundleSource | None:
        """Open the bundle of a digest, if it is here and intact."""
        hex_digest = digest.removeprefix("sha256:")
        with self._lock:
            name = next((name for name in reversed(self._sizes) if name[:2] == (deployment, hex_digest)), None)
            if name is None:
                return None
            self._sizes.move_to_end(name)
        try:
            with open(f"{self._stem(name)}.index", "rb") as file:
                blob, index = decode_index(file.read())
            opened = FileIO(self._path(name))
            if name in self._unverified and blob != describe(opened):
                opened.close()
                raise ValueError("it is damaged")
        except (OSError, ValueError):  # it was removed meanwhile, or a crash damaged it: the store has it
            self.forget(name)
            return None
        self._unverified.discard(name)
        return LocalBundle(opened, index, _shown(name))

    def _name_file(self, name: Name, file: IO[bytes], index: bytes) -> None:
        publish(self._folder, f"{self._stem(name)}.index", lambda out: out.write(index))
        with contextlib.suppress(FileExistsError):
            os.link(file.name, self._path(name))

    @contextlib.contextmanager
    def filling(self, action: str, *, final: bool = True) -> Iterator[None]:
        """Make room for the next attempt if the volume gets full in the block, which writes to a file of ``scratch``.

        The half of the bundles goes that was not used for the longest time. The error is raised only if ``final``.
        """
        try:
            with storage_errors(action):
                yield
        except StoreFull:
            with self._lock:
                for name in list(self._sizes)[: (len(self._sizes) + 1) // 2]:
                    self._remove(name)
            if final:
                raise

    def forget_digest(self, deployment: str, digest: str) -> None:
        """Remove the bundles of a digest, if they are here."""
        hex_digest = digest.removeprefix("sha256:")
        with self._lock:
            for name in [name for name in self._sizes if name[:2] == (deployment, hex_digest)]:
                self._remove(name)

    def forget(self, name: Name) -> None:
        """Remove a bundle, if it is here."""
        with self._lock:
            self._remove(name)

    def _find(self) -> None:
        """Take what an earlier run left: the sizes, and the order of use as far as it is known."""
        found = []
        names = set(os.listdir(self._folder))
        for text in names:
            if match := _BUNDLE.fullmatch(text):
                status = os.stat(os.path.join(self._folder, text))
                found.append((status.st_mtime, status.st_size, Name(*match.groups())))
        for _, size, name in sorted(found):
            self._sizes[name] = size
            self._unverified.add(name)
        for text in names - {f"{'.'.join(name)}.{kind}" for name in self._sizes for kind in ("bundle", "index")}:
            if text.endswith(".index"):
                remove(os.path.join(self._folder, text))
        self._shrink()

    def _shrink(self) -> None:
        while sum(self._sizes.values()) > self._max_bytes:
            self._remove(next(iter(self._sizes)))

    def _remove(self, name: Name) -> None:
        self._sizes.pop(name, None)
        self._unverified.discard(name)
        with contextlib.suppress(OSError):
            remove(self._path(name))
            remove(f"{self._stem(name)}.index")

    def _stem(self, name: Name) -> str:
        return os.path.join(self._folder, ".".join(name))

    def _path(self, name: Name) -> str:
        return f"{self._stem(name)}.bundle"


def write_and_describe(file: IO[bytes], write: Callable[[BinaryIO], bytes]) -> tuple[Blob, bytes]:
    """Let ``write`` write a bundle to the file, and return what it is and its index."""
    index = write(file)  # type: ignore[arg-type]
    file.flush()
    return describe(file), index


def describe(file: IO[bytes] | FileIO) -> Blob:
    """Return the size and the hash of a file's content."""
    digest, size = hashlib.sha256(), 0
    while piece := os.pread(file.fileno(), PIECE_BYTES, size):
        digest.update(piece)
        size += len(piece)
    return Blob(size, digest.hexdigest())


def _shown(name: Name) -> str:
    return f"bundle sha256:{name.hex} of {name.deployment}"
