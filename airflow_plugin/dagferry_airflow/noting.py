"""Notes what parses read, for whoever publishes trees on the volume (``dagferry_follow.volume.known_reads``).

``Noting.note`` takes each finished parse of the dag processor. If the volume is read-only here, nothing is noted, and
the guess of the server decides what is read again.
"""

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from dagferry_core.bundle.manifest import Manifest
from dagferry_core.source.observed import Contents, Observation, observe, opens_unseen
from dagferry_follow.volume.known_reads import read_known, write_known
from dagferry_follow.volume.lookup import UNIQUE
from dagferry_follow.volume.records import read_manifest, read_record
from dagferry_follow.volume.root import CURRENT, TREES
from dagferry_follow.volume.tree import CACHE, OPEN_FILE

WRITE_SECONDS = 3.0
"""The least time between two writes."""
PAUSE_FACTOR = 20
"""How much of the time may go into writing: this part of it."""
MAX_TREES = 2
"""How many trees' manifests are kept: around a swap, parses of both end."""
MAX_SOURCES = 50_000
"""Of how many sources it is kept whether they open files unseen."""

_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})

log = logging.getLogger(__name__)


class _Tree(NamedTuple):
    folder: str
    serial: int
    manifest: Manifest
    contents: Contents


class Noting:
    """Notes what the parses of the volume under ``root`` read. Not for several threads.

    ``clock`` is in seconds and never goes backwards. Nothing here raises: a parse that is not noted has the guess.
    """

    def __init__(self, root: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._clock = clock
        self._known: dict[str, Observation] = {}
        self._newest: _Tree | None = None
        self._trees: dict[str, _Tree] = {}  # by version, the last used last
        self._unseen: dict[str, bool] = {}  # by the sha256 of a source
        self._loaded = self._changed = self._is_read_only = False
        self._write_at = clock()

    def note(
        self, file: str, opened: Iterable[str], listed: Iterable[str], versions: Iterable[str], *, whole: bool = True
    ) -> None:
        """Take note of a parse of ``file``: what it ``opened`` and ``listed``, as paths in the bundle.

        Of a parse that saw several ``versions``, or none, nothing is known. ``whole``: it ended without an error and
        started no other program.
        """
        seen = set(versions)
        if len(seen) != 1 or self._is_read_only:
            return
        try:
            tree = self._tree(seen.pop())
            if tree and file in tree.manifest.files:
                self._note(tree, file, opened, listed, whole=whole)
            self.flush()
        except (OSError, ValueError) as error:
            log.debug("What %s read could not be noted: %s", file, error)

    def flush(self, *, at_once: bool = False) -> None:
        """Write what is new, unless the last write was just now; to be called now and then, and at the end."""
        started = self._clock()
        if not self._changed or (started < self._write_at and not at_once):
            return
        files = self._newest.manifest.files if self._newest else {}
        self._known = {path: one for path, one in self._known.items() if path in files}
        try:
            write_known(f"{self._root}/{TREES}", self._known)
            self._changed = False
        except OSError as error:
            log.debug("What DAG files read could not be noted: %s", error)
            self._is_read_only = error.errno in _READ_ONLY
        now = self._clock()
        self._write_at = now + max(WRITE_SECONDS, PAUSE_FACTOR * (now - started))

    def _note(self, tree: _Tree, file: str, opened: Iterable[str], listed: Iterable[str], *, whole: bool) -> None:
        if not self._loaded:
            self._known, self._loaded = read_known(f"{self._root}/{TREES}"), True
        if not self._newest or tree.serial >= self._newest.serial:
            self._newest = tree
        files = {path for path in opened if _is_inside(path)} | {file}
        folders = {path for path in listed if path in {"", "."} or _is_inside(path)}
        folders = {"" if path == "." else path for path in folders}
        whole = whole and not any(self._opens_unseen(tree, path) for path in files)
        mtime = os.stat(f"{tree.folder}/{file}").st_mtime_ns
        before = self._known.get(file)
        after = observe(file, files, folders, tree.contents, mtime=mtime, before=before, whole=whole)
        if after is None:
            self._known.pop(file, None)
        else:
            self._known[file] = after
        self._changed = self._changed or before != after

    def _opens_unseen(self, tree: _Tree, path: str) -> bool:
        entry = tree.manifest.files.get(path)
        if not entry or not path.endswith(".py"):
            return False
        if entry.sha256 not in self._unseen:
            if len(self._unseen) >= MAX_SOURCES:
                self._unseen.clear()
            with open(os.open(f"{tree.folder}/{path}", OPEN_FILE), "rb") as file:
                self._unseen[entry.sha256] = opens_unseen(file.read(entry.size))
        return self._unseen[entry.sha256]

    # --- trees -------------------------------------------------------------------------------------------------------

    def _tree(self, version: str) -> _Tree | None:
        """Return the newest tree of ``version`` on the volume; ``None`` if it is gone."""
        tree = self._trees.pop(version, None)
        if not tree or not os.path.isdir(tree.folder):
            tree = self._read(version)
        if tree:
            self._trees[version] = tree
            while len(self._trees) > MAX_TREES:
                del self._trees[next(iter(self._trees))]
        return tree

    def _read(self, version: str) -> _Tree | None:
        found: dict[int, str] = {}
        for folder in self._folders(version):
            with contextlib.suppress(OSError, ValueError):
                found[read_record(os.path.dirname(folder)).serial] = folder
        if not found:
            return None
        serial = max(found)
        manifest = read_manifest(os.path.dirname(found[serial]))
        return _Tree(found[serial], serial, manifest, Contents(manifest))

    def _folders(self, version: str) -> Iterator[str]:
        live = os.path.realpath(f"{self._root}/{CURRENT}")
        if os.path.basename(live) == version:
            yield live
            return
        trees = f"{self._root}/{TREES}"
        for unique in filter(UNIQUE.fullmatch, os.listdir(trees)):
            if os.path.isdir(f"{trees}/{unique}/{version}"):
                yield f"{trees}/{unique}/{version}"


def _is_inside(path: str) -> bool:
    """Return whether a path is one of the bundle; ``__pycache__`` is not."""
    return not {"", ".", "..", CACHE} & set(path.split("/"))
