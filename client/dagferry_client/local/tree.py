"""The dags folder as a bundle: its manifest, made by hashing every file, and where the content of each file is."""

import hashlib
import os
from collections.abc import Sequence
from typing import NamedTuple

from dagferry_client.local.checkout import line_end_warnings, read_checkout
from dagferry_client.local.errors import FolderChanged, FolderInvalid, Problem
from dagferry_client.local.folder import DagsFolder
from dagferry_client.local.hash_cache import HashCache
from dagferry_client.local.scan import Include, LocalFile, scan
from dagferry_core.archive.name_warnings import name_warnings, wrong_level
from dagferry_core.archive.paths import case_collisions, quoted
from dagferry_core.archive.secret_files import secret_warnings
from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.limits import PIECE_BYTES


class LocalTree(NamedTuple):
    """What would be deployed.

    ``sources`` has for each path of the manifest where its content is. ``outside`` are the files and folders outside of
    the dags folder that are part of it. ``warnings`` are about the folder; those about the bundle are in
    ``bundle_warnings``, and in a server's answer.
    """

    manifest: Manifest
    sources: dict[str, str]
    outside: list[str]
    warnings: list[str]


def read_tree(folder: DagsFolder, includes: Sequence[Include], hashes: HashCache) -> LocalTree:
    """Read the whole dags folder. Raises ``FolderInvalid``, ``FolderChanged`` and ``IgnoreFileInvalid``."""
    checkout = read_checkout(folder.path)
    found = scan(folder, includes, checkout)
    manifest = Manifest(_entries(found.files, hashes))
    hashes.save()
    sources = {file.path: file.source for file in found.files}
    python = [source for path, source in sources.items() if path.endswith(".py")]
    warnings = [
        *found.warnings,
        *_wrong_level(folder, manifest),
        *(line_end_warnings(python) if checkout.autocrlf else ()),
    ]
    return LocalTree(manifest, sources, found.outside, warnings)


def bundle_warnings(manifest: Manifest) -> list[str]:
    """Return the warnings that a server's answer to an upload would have."""
    paths = manifest.files
    return [*name_warnings(paths), *case_collisions(paths), *secret_warnings(paths)]


def _wrong_level(folder: DagsFolder, manifest: Manifest) -> list[str]:
    if not wrong_level(manifest.files):
        return []
    top = next(iter(manifest.files)).partition("/")[0]
    inner = os.path.join(folder.shown, top)
    return [
        f"All files lie in the folder {quoted(top)}. If the dags folder is in there, deploy {quoted(inner)} instead."
    ]


def _entries(files: Sequence[LocalFile], hashes: HashCache) -> list[Entry]:
    problems: list[Problem] = []
    entries = [entry for file in files if (entry := _entry(file, hashes, problems))]
    if problems:
        raise FolderInvalid(problems, "Check their permissions, or list them in .dagferryignore.")
    return entries


def _entry(file: LocalFile, hashes: HashCache, problems: list[Problem]) -> Entry | None:
    sha256 = hashes.get(file)
    try:
        if sha256 is None:
            sha256 = _sha256(file)
            hashes.put(file, sha256)
        return Entry(file.path, file.size, file.mode, sha256)
    except FileNotFoundError as error:
        raise FolderChanged(file.path) from error
    except OSError as error:
        problems.append(Problem(file.path, f"{quoted(file.path)} cannot be read: {error.strerror}."))
        return None


def _sha256(file: LocalFile) -> str:
    digest = hashlib.sha256()
    size = 0
    with open(file.source, "rb", buffering=0) as content:
        while piece := content.read(PIECE_BYTES):
            digest.update(piece)
            size += len(piece)
    if size != file.size:
        raise FolderChanged(file.path)
    return digest.hexdigest()
