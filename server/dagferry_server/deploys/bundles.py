"""Bundles in the store: opened to read single files, and stored together with their index.

Everything here is synchronous and runs in threads.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import BinaryIO, NamedTuple

from dagferry_core.archive.check import CheckedArchive
from dagferry_core.bundle.frames import RangeRead
from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.bundle.reader import BundleFile, Index, Part, stored_frames
from dagferry_core.bundle.walk import walk
from dagferry_core.bundle.writer import write_bundle
from dagferry_core.limits import MIB
from dagferry_core.source.reads import read_hints
from dagferry_core.source.scan import ANYTHING, imported_names
from dagferry_server.errors import StoreError
from dagferry_server.store.base import BundleSource, Store, decoding

MAX_SOURCE_BYTES = 4 * MIB
"""A larger .py file is not scanned: it counts as importing and reading everything."""
MAX_IMPORTS_BYTES = 20 * MIB
"""The total size of the names that a bundle's files import and read; the files beyond it count as importing and reading
everything, too."""
NAME_BYTES = 64
"""Memory that a name takes in addition to its text: 13 million short ones, from an upload of 28 KiB, took 2 GB."""


class StoredBundleFile(BundleFile):
    """A bundle of the store. If it is damaged, reading raises ``StoreDamaged``, which names it by ``name``."""

    def __init__(
        self, source: BundleSource, name: str, known: Manifest | None, when_large: Callable[[], object]
    ) -> None:
        self._name = name
        with _reading(name):
            super().__init__(source.read, Index.decode(source.encoded_index), known, when_large)

    def contents(self, path: str) -> Iterator[bytes]:
        """Yield the content of a file in pieces."""
        return _read(super().contents(path), self._name)

    def stored_frame(self, parts: Sequence[Part]) -> tuple[bytes, str] | None:
        """Return the frame that holds exactly ``parts``, if there is one, and the sha256 it had when it was written."""
        with _reading(self._name):
            return super().stored_frame(parts)

    def verify(self) -> None:
        """Read all of it."""
        with _reading(self._name):
            super().verify()


def _reading(name: str) -> AbstractContextManager[None]:
    return decoding(f"Bundle {name}")


def _read(pieces: Iterator[bytes], name: str) -> Iterator[bytes]:
    with _reading(name):
        yield from pieces


@contextmanager
def open_bundle(
    store: Store,
    deployment: str,
    digest: str,
    known: Manifest | None = None,
    when_large: Callable[[], object] = lambda: None,
) -> Iterator[BundleFile]:
    """Open a stored bundle for reading single files; ``known`` and ``when_large`` are those of ``BundleFile``.

    Raises ``BundleGone`` if it is not there, ``StoreDamaged`` if it is damaged, ``StoreAway`` if it cannot be read now.
    """
    with store.open_bundle(deployment, digest) as source:
        yield StoredBundleFile(source, f"{digest} of {deployment}", known, when_large)


def contents_of(store: Store, deployment: str, digest: str) -> Iterator[tuple[Entry, Iterator[bytes]]]:
    """Yield every file of a stored bundle and its content in pieces, without holding the manifest in memory.

    Raises what ``open_bundle`` raises.
    """
    name = f"{digest} of {deployment}"
    with store.open_bundle(deployment, digest) as source, _reading(name):
        for entry, pieces in walk(source.read, stored_frames(source.encoded_index)):
            yield entry, _read(pieces, name)


class Source(NamedTuple):
    """What was found in a Python source: its ``imported_names`` and its ``read_hints``."""

    imports: tuple[str, ...]
    reads: tuple[str, ...]


_ANY = Source((ANYTHING,), (ANYTHING,))


def known_sources(bundle: BundleFile | None, new: Manifest) -> dict[str, Source]:
    """Return what was found in the Python sources that a bundle and ``new`` have in common, by their sha256."""
    if bundle is None or bundle.reads is None:
        return {}
    files, reads = bundle.manifest.files, bundle.reads
    wanted = {entry.sha256 for entry in new.files.values()}
    return {
        files[path].sha256: Source(names, reads.get(path, (ANYTHING,)))
        for path, names in bundle.imports.items()
        if files[path].sha256 in wanted
    }


def put_bundle(
    store: Store,
    deployment: str,
    checked: CheckedArchive,
    spool: BinaryIO,
    known: Mapping[str, Source],
    *,
    current: BundleFile | None = None,
) -> None:
    """Store the files that ``check_archive`` wrote to ``spool`` as a bundle. ``known`` has the results for contents
    that were scanned before. Frames that the bundle ``current`` has too are copied from it.
    """
    spool.flush()
    fd = spool.fileno()

    imports: dict[str, tuple[str, ...]] = {}
    reads: dict[str, tuple[str, ...]] = {}
    names_bytes = 0

    def look_into(entry: Entry) -> Source:
        if names_bytes > MAX_IMPORTS_BYTES:
            return _ANY
        if entry.sha256 in known:
            return known[entry.sha256]
        if entry.size > MAX_SOURCE_BYTES:
            return _ANY
        content = os.pread(fd, entry.size, checked.offsets[entry.path])
        names = imported_names(content)
        return Source(names, read_hints(content, names))

    def open_content(entry: Entry) -> RangeRead:
        nonlocal names_bytes
        # Here, because earlier files are compressed meanwhile.
        if entry.path.endswith(".py"):
            source = look_into(entry)
            imports[entry.path], reads[entry.path] = source
            names_bytes += sum(map(len, source.imports)) + sum(map(len, source.reads))
            names_bytes += NAME_BYTES * (len(source.imports) + len(source.reads))
        start = checked.offsets[entry.path]
        return lambda offset, size: os.pread(fd, size, start + offset)

    def stored_frame(parts: Sequence[Part]) -> tuple[bytes, str] | None:
        try:
            return current.stored_frame(parts) if current else None
        except StoreError:  # an old bundle that cannot be read must not prevent the deploy of a new one
            return None

    def write(out: BinaryIO) -> bytes:
        with decoding("The unpacked upload"):
            frames = write_bundle(checked.manifest, open_content, out, stored_frame)
        return Index(frames, imports, reads).encode()

    store.put_bundle(deployment, checked.manifest.digest, write)
