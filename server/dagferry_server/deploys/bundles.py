"""Bundles in the store: opened to read single files, and stored together with their index.

Everything here is synchronous and runs in threads.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import BinaryIO, NamedTuple

from dagferry_core.bundle.frames import RangeRead
from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.bundle.reader import BundleFile, Index, Part, stored_frames
from dagferry_core.bundle.walk import walk
from dagferry_core.bundle.writer import write_bundle
from dagferry_core.limits import MIB
from dagferry_core.source.dag_ids import dag_ids
from dagferry_core.source.reads import read_hints
from dagferry_core.source.scan import ANYTHING, imported_names
from dagferry_server.deploys.tree import Tree
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

    def open_content(self, entry: Entry) -> RangeRead:
        """Return what reads the content of one of its files at any place."""
        read = super().open_content(entry)

        def checked(offset: int, size: int) -> bytes:
            with _reading(self._name):
                return read(offset, size)

        return checked

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
    """What was found in a Python source: its ``imported_names``, its ``read_hints`` and its ``dag_ids``."""

    imports: tuple[str, ...]
    reads: tuple[str, ...]
    dags: tuple[str, ...] = ()


_ANY = Source((ANYTHING,), (ANYTHING,))


def tree_of(bundle: BundleFile, name: str) -> Tree:
    """Return the tree of an open bundle; ``name`` is what an error calls it."""
    return Tree(name, bundle.manifest, bundle.open_content, (bundle,))


def known_sources(bundles: Iterable[BundleFile], new: Manifest) -> dict[str, Source]:
    """Return what was found in the Python sources that ``bundles`` and ``new`` have in common, by their sha256."""
    wanted = {entry.sha256 for entry in new.files.values()}
    known: dict[str, Source] = {}
    for bundle in bundles:
        files, reads, dags = bundle.manifest.files, bundle.reads, bundle.dags
        if reads is None or dags is None:
            continue
        for path, names in bundle.imports.items():
            if files[path].sha256 in wanted:
                known[files[path].sha256] = Source(names, reads.get(path, (ANYTHING,)), dags.get(path, ()))
    return known


def ids_by_path(tree: Tree, bundles: Iterable[BundleFile]) -> dict[str, tuple[str, ...]]:
    """Return the ids of the DAGs of a tree, by the paths of the files that have some.

    Only files that none of the ``bundles`` has are read, and none over ``MAX_SOURCE_BYTES``.
    """
    known = known_sources(bundles, tree.manifest)
    found: dict[str, tuple[str, ...]] = {}
    for path, entry in tree.manifest.files.items():
        if not path.endswith(".py") or entry.size > MAX_SOURCE_BYTES:
            continue
        source = known.get(entry.sha256)
        if ids := source.dags if source else dag_ids(tree.open_content(entry)(0, entry.size)):
            found[path] = ids
    return found


class _Scan:
    """What is found in the Python files of a tree, file by file. ``known`` has results by their sha256."""

    def __init__(self, known: Mapping[str, Source]) -> None:
        self.imports: dict[str, tuple[str, ...]] = {}
        self.reads: dict[str, tuple[str, ...]] = {}
        self.dags: dict[str, tuple[str, ...]] = {}
        self._known = known
        self._names_bytes = 0

    def add(self, entry: Entry, read: RangeRead) -> None:
        """Look into a file, if it is Python."""
        if entry.path.endswith(".py"):
            source = self._look_into(entry, read)
            self.imports[entry.path], self.reads[entry.path] = source.imports, source.reads
            if source.dags:
                self.dags[entry.path] = source.dags
            for names in source:
                self._names_bytes += sum(map(len, names)) + NAME_BYTES * len(names)

    def _look_into(self, entry: Entry, read: RangeRead) -> Source:
        if self._names_bytes > MAX_IMPORTS_BYTES:
            return _ANY
        if entry.sha256 in self._known:
            return self._known[entry.sha256]
        if entry.size > MAX_SOURCE_BYTES:
            return _ANY
        content = read(0, entry.size)
        names = imported_names(content)
        return Source(names, read_hints(content, names), dag_ids(content))


def put_bundle(store: Store, deployment: str, tree: Tree, current: BundleFile | None = None) -> None:
    """Store ``tree`` as a bundle of ``deployment``.

    Frames that ``current`` or one of the tree's bundles has too are copied, and sources that were scanned for them are
    not scanned again; then these bundles' sources are forgotten. Raises ``StoreDamaged``, with the tree's name, if a
    content is not the one that the manifest names.
    """
    bundles = list(dict.fromkeys(bundle for bundle in (current, *tree.bundles) if bundle))
    scan = _Scan(known_sources(bundles, tree.manifest))
    for bundle in bundles:
        bundle.forget_sources()

    def open_content(entry: Entry) -> RangeRead:
        read = tree.open_content(entry)
        scan.add(entry, read)  # here, because earlier files are compressed meanwhile
        return read

    def stored_frame(parts: Sequence[Part]) -> tuple[bytes, str] | None:
        for bundle in bundles:
            # An old bundle that cannot be read must not prevent the deploy of a new one.
            with suppress(StoreError):
                if frame := bundle.stored_frame(parts):
                    return frame
        return None

    def write(out: BinaryIO) -> bytes:
        with decoding(tree.name):
            frames = write_bundle(tree.manifest, open_content, out, stored_frame)
        return Index(frames, scan.imports, scan.reads, scan.dags).encode()

    store.put_bundle(deployment, tree.manifest.digest, write)
