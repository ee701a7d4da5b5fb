"""Bundles for tests, made by core alone: from a dict of paths and contents."""

import hashlib
import io

from dagferry_core.bundle.frames import RangeRead
from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.bundle.patch import MAX_PATCH_BYTES, make_patch
from dagferry_core.bundle.reader import BundleFile, Index
from dagferry_core.bundle.writer import write_bundle
from dagferry_core.source.dag_ids import dag_ids
from dagferry_core.source.graph import touched
from dagferry_core.source.reads import read_hints
from dagferry_core.source.scan import imported_names


def manifest_of(files: dict[str, bytes], modes: dict[str, int] | None = None) -> Manifest:
    return Manifest(
        Entry(path, len(content), (modes or {}).get(path, 0o644), hashlib.sha256(content).hexdigest())
        for path, content in files.items()
    )


def range_read(content: bytes) -> RangeRead:
    """Read from a bundle in memory as from one in a store."""
    return lambda offset, size: content[offset : offset + size]


class Stored:
    """A bundle as the server stores it."""

    def __init__(self, files: dict[str, bytes], modes: dict[str, int] | None = None) -> None:
        self.manifest = manifest_of(files, modes)
        out = io.BytesIO()
        frames = write_bundle(self.manifest, lambda entry: range_read(files[entry.path]), out)
        self.body = out.getvalue()
        names = {path: imported_names(text) for path, text in files.items() if path.endswith(".py")}
        self.reads = {path: read_hints(files[path], imports) for path, imports in names.items()}
        found = {path: dag_ids(files[path]) for path in names}
        self.dags = {path: ids for path, ids in found.items() if ids}
        self.bundle = BundleFile(range_read(self.body), Index(frames, names, self.reads, self.dags))

    def patch_from(self, old: "Stored") -> bytes | None:
        """The patch as a server makes it, with the files to touch."""
        touch = touched(old.manifest, self.manifest, self.bundle.imports, self.reads)
        return make_patch(old.bundle, self.bundle, touch, MAX_PATCH_BYTES)
