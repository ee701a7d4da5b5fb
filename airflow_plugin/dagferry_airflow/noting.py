"""Notes what parses read, for the process that publishes trees on the volume (``dagferry_follow.volume.known_reads``).

``Noting.note`` takes each parse of the dag processor that has ended. What cannot be written is tried again; until then
the guess of the server decides what is read again.
"""

import logging
import os
import re
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from dagferry_airflow.reads import Parse
from dagferry_core.bundle.manifest import Manifest
from dagferry_core.errors import DagferryError
from dagferry_core.source.observed import Contents, Observation, observe, opens_unseen
from dagferry_follow.small_files import read_bytes
from dagferry_follow.volume.known_reads import encode, read_known, write_reads
from dagferry_follow.volume.records import read_manifest
from dagferry_follow.volume.root import TREES
from dagferry_follow.volume.tree import CACHE

WRITE_SECONDS = 3.0
"""The least time between two writes."""
PAUSE_FACTOR = 20
"""How much longer than a write the pause after it is at least."""
FAILED_SECONDS = 30.0
"""The pause after a write that failed."""
MAX_TREES = 2
"""How many trees' manifests are kept: around a swap, parses of both end."""
MAX_SOURCES = 50_000
"""Of how many sources it is kept whether they open files unseen."""

_TREE = re.compile(r"[0-9a-f]{16}/[A-Za-z0-9-]+")

log = logging.getLogger(__name__)


class _Tree(NamedTuple):
    folder: str
    manifest: Manifest
    contents: Contents


class Noting:
    """Notes what the parses of the volume under ``root`` read. Not for several threads.

    ``write`` puts what is known on the volume, and raises ``OSError`` or ``DagferryError`` if it cannot; without it,
    that is done here. ``clock`` is in seconds and never goes backwards. Nothing here raises: a parse that is not noted
    has the guess.
    """

    def __init__(
        self, root: str, write: Callable[[bytes], None] | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._trees_folder = f"{root}/{TREES}"
        self._write = write or partial(write_reads, self._trees_folder)
        self._clock = clock
        self._known: dict[str, Observation] = {}
        self._trees: dict[str, _Tree] = {}  # the last used last
        self._unseen: dict[str, bool] = {}  # by the sha256 of a source
        self._is_loaded = self._is_changed = False
        self._write_at = clock()

    def note(self, parse: Parse) -> None:
        """Take note of a parse. Of one that saw several trees, or none, nothing is known."""
        if len(parse.trees) != 1:
            return
        if not self._is_loaded:
            self._known, self._is_loaded = read_known(self._trees_folder), True
        try:
            tree = self._tree(next(iter(parse.trees)))
            if tree and parse.file in tree.manifest.files:
                self._note(tree, parse)
        except (OSError, ValueError) as error:
            log.debug("What %s read could not be noted: %s", parse.file, error)

    def flush(self) -> None:
        """Write what is new, unless the last write was just now. To be called again and again."""
        started = self._clock()
        if not self._is_changed or started < self._write_at:
            return
        pause = WRITE_SECONDS
        try:
            self._write(encode(self._known))
            self._is_changed = False
        except (OSError, DagferryError) as error:
            log.debug("What DAG files read could not be noted: %s", error)
            pause = FAILED_SECONDS
        now = self._clock()
        self._write_at = now + max(pause, PAUSE_FACTOR * (now - started))

    def _note(self, tree: _Tree, parse: Parse) -> None:
        opened = {path for path in parse.opened if _is_inside(path)} | {parse.file}
        listed = {path for path in parse.listed if not path or _is_inside(path)}
        is_whole = parse.well and parse.ended is not None and not parse.cut
        before = self._known.get(parse.file)
        after = observe(
            parse.file,
            opened,
            listed,
            tree.contents,
            mtime=os.stat(f"{tree.folder}/{parse.file}").st_mtime_ns,
            before=before,
            whole=is_whole and not any(self._opens_unseen(tree, path) for path in opened),
        )
        if after is None:
            self._known.pop(parse.file, None)
        else:
            self._known[parse.file] = after
        self._is_changed = self._is_changed or before != after

    def _opens_unseen(self, tree: _Tree, path: str) -> bool:
        entry = tree.manifest.files.get(path)
        if not entry or not path.endswith(".py"):
            return False
        if entry.sha256 not in self._unseen:
            if len(self._unseen) >= MAX_SOURCES:
                self._unseen.clear()
            self._unseen[entry.sha256] = opens_unseen(read_bytes(f"{tree.folder}/{path}", entry.size))
        return self._unseen[entry.sha256]

    def _tree(self, name: str) -> _Tree | None:
        """Return the tree ``<unique>/<version>``; ``None`` if it has another form. Raises as ``read_manifest`` does."""
        if not _TREE.fullmatch(name):
            return None
        tree = self._trees.pop(name, None)
        if not tree:
            folder = f"{self._trees_folder}/{name}"
            manifest = read_manifest(os.path.dirname(folder))
            tree = _Tree(folder, manifest, Contents(manifest))
            self._known = {path: seen for path, seen in self._known.items() if path in manifest.files}
        self._trees[name] = tree
        while len(self._trees) > MAX_TREES:
            del self._trees[next(iter(self._trees))]
        return tree


def _is_inside(path: str) -> bool:
    """Return whether a path is one of the bundle; ``__pycache__`` is not."""
    return not {"", ".", "..", CACHE} & set(path.split("/"))
