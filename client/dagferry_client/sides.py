"""What ``dagferry diff`` compares: versions of a deployment, and a dags folder of this machine."""

import os
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from dagferry_client.api import Api
from dagferry_client.compare import Difference, FileState
from dagferry_client.deploy_log import ChangedFile, OnlyThere
from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.errors import FormatError
from dagferry_follow.errors import AnswerInvalid


class Side(Protocol):
    """One side: its name, and the content of its files."""

    name: str

    def read(self, path: str) -> bytes:
        """Return the content of a file."""

    def manifest(self) -> Manifest:
        """Return all files."""


class VersionSide:
    """A version of a deployment."""

    def __init__(self, api: Api, deployment: str, version: str) -> None:
        self._api = api
        self._deployment = deployment
        self.name = version

    def read(self, path: str) -> bytes:
        """Return the content of a file."""
        return self._api.file(self._deployment, self.name, path)

    def manifest(self) -> Manifest:
        """Return all files."""
        try:
            return self._api.files(self._deployment, self.name).manifest()
        except FormatError as error:
            raise AnswerInvalid(f"The server's answer cannot be understood: {error}.") from error


class FolderSide:
    """What would be deployed of a folder of this machine; a server may exclude more. Links are followed."""

    def __init__(self, path: str) -> None:
        from dagferry_client.local.cache_folder import cache_folder  # noqa: PLC0415
        from dagferry_client.local.folder import find_dags_folder  # noqa: PLC0415 - what compares versions needs none
        from dagferry_client.local.hash_cache import HashCache  # noqa: PLC0415
        from dagferry_client.local.tree import read_tree  # noqa: PLC0415

        folder = find_dags_folder(path)
        self._tree = read_tree(folder, (), HashCache(os.path.join(cache_folder(), "hashes"), folder.path))
        self.name = folder.shown

    @property
    def warnings(self) -> list[str]:
        """What is unusual about the folder."""
        return self._tree.warnings

    def read(self, path: str) -> bytes:
        """Return the content of a file."""
        from dagferry_client.local.errors import FolderChanged  # noqa: PLC0415

        try:
            with open(self._tree.sources[path], "rb") as file:
                return file.read()
        except OSError as error:
            raise FolderChanged(path) from error

    def manifest(self) -> Manifest:
        """Return all files."""
        return self._tree.manifest


class Differences(NamedTuple):
    """The files that differ between two sides, sorted by path; ``cut`` if the server did not list all of them."""

    old: Side
    new: Side
    files: list[Difference]
    cut: bool


def differences(api: Api, deployment: str, old: Side, new: Side) -> Differences:
    """Return what differs. The server compares two versions; a folder is compared here."""
    if isinstance(old, VersionSide) and isinstance(new, VersionSide):
        found = api.diff(deployment, old.name, new.name)
        files = [
            *(Difference(file.path, None, _state(file)) for file in found.added),
            *(Difference(file.path, *_states(file)) for file in found.changed),
            *(Difference(file.path, _state(file), None) for file in found.removed),
        ]
        return Differences(old, new, sorted(files), found.cut)
    return Differences(old, new, sorted(_between(old.manifest(), new.manifest())), cut=False)


def _between(old: Manifest, new: Manifest) -> Iterator[Difference]:
    for paths in new.changes_from(old):
        for path in paths:
            yield Difference(path, _of(old.files.get(path)), _of(new.files.get(path)))


def _of(entry: Entry | None) -> FileState | None:
    return FileState(entry.size, entry.mode, entry.sha256) if entry else None


def _state(file: OnlyThere) -> FileState:
    return FileState(file.size, file.mode, file.sha256)


def _states(file: ChangedFile) -> tuple[FileState, FileState]:
    return FileState(file.old_size, file.old_mode, file.old_sha256), FileState(file.size, file.mode, file.sha256)
