"""Dags folders on disk for tests of the client: made from a dict, and read as a deploy reads them."""

from collections.abc import Mapping
from pathlib import Path

import tarmaker
from dagferry_client.local.folder import find_dags_folder
from dagferry_client.local.hash_cache import HashCache
from dagferry_client.local.pack import pack
from dagferry_client.local.scan import Include
from dagferry_client.local.tree import LocalTree, read_tree


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write files, and the folders they are in; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def read(folder: Path, *includes: Include, hashes: Path | None = None) -> LocalTree:
    """Read a dags folder; without ``hashes``, nothing is cached."""
    found = find_dags_folder(str(folder))
    return read_tree(found, includes, HashCache(str(hashes or folder.parent / ".hashes"), found.path))


def packed(tree: LocalTree, changed: list[str] | None = None) -> bytes:
    """Return the archive of a tree, or of some of its files."""
    with pack(tree, changed) as file:
        return file.read()


def contents(folder: Path, *includes: Include) -> dict[str, bytes]:
    """Return what a server would have of a dags folder."""
    return {path: content for path, (content, _) in tarmaker.tree(packed(read(folder, *includes))).items()}
