"""The old trees of a volume: which ones are there, which are kept, and what is removed.

A tree that was live stays as long as ``TreeRules`` keep it, or a process holds it (``in_use``), if all of them fit.
Everything else among the trees is a leftover of a process that was killed.
"""

import contextlib
import os
import re
import sys
from collections.abc import Sequence
from itertools import pairwise

from dagferry_follow.log import Log
from dagferry_follow.volume import in_use
from dagferry_follow.volume import removal as removing
from dagferry_follow.volume.lookup import UNIQUE
from dagferry_follow.volume.records import (
    ENDED,
    OldTree,
    Record,
    TreeRules,
    choose_kept,
    mark_ended,
    read_manifest,
    read_record,
    recounted,
    stored_bytes,
)
from dagferry_follow.volume.root import TREES, Root, failures
from dagferry_follow.volume.tree import FULL_ERRORS

REMOVE_AGAIN_SECONDS = 600.0
"""How often removing what could not be removed is tried again; it is also tried after each swap."""
FEWEST = TreeRules(0, 0, sys.maxsize)
"""Keep the tree that was live last, and those that processes use."""

_TEMPORARY = re.compile(r"link-[0-9a-f]{16}|(sidecar|parsed\.json|reads\.json)\.[0-9a-f]{8}")
"""The names of a new link, and of files beside the trees (``beside``), before they are renamed."""

log = Log(__name__)


class OldTrees:
    """The old ``trees`` under a root folder, newest first; ``sweep`` finds them.

    In its methods ``live`` is the record of the live tree, ``None`` if nothing is published, or if that cannot be
    checked.
    """

    def __init__(self, root: Root) -> None:
        self.trees: list[OldTree] = []
        self.used = 0
        """How many of them processes used when ``retire`` last looked."""
        self._root = root
        self._unremoved: set[str] = set()
        """Names of the folders that could not be removed."""
        self._removed_at = 0.0
        self._recounted: set[tuple[str, str]] = set()
        """Neighbours that are not, by their serials; how much they share was found out."""

    def sweep(self) -> int:
        """Find the old trees, remove what an earlier run left behind, and return how many leftovers were removed."""
        leftovers = 0
        with failures(self._root.trees):
            for name in os.listdir(self._root.trees):
                ours = UNIQUE.fullmatch(name)
                if ours and (self._root.target().startswith(f"{TREES}/{name}/") or self._find(name)):
                    continue
                if ours or _TEMPORARY.fullmatch(name):
                    leftovers += self.remove(name)
        self._sort()
        self._recount()
        return leftovers

    def _sort(self) -> None:
        self.trees.sort(key=lambda tree: tree.record.serial, reverse=True)

    def _find(self, unique: str) -> bool:
        folder = self._root.folder_of(unique)
        try:
            ended = os.lstat(f"{folder}/{ENDED}").st_mtime
            self.trees.append(OldTree(unique, read_record(folder), ended))
        except (OSError, ValueError):
            return False
        return True

    def add(self, ended: OldTree | None) -> None:
        """Take note of a swap, and of the tree that it ended, if any."""
        if ended:
            self.trees.insert(0, ended)
        self._removed_at = 0.0

    def forget(self) -> None:
        """Take note that someone removed all trees."""
        self.trees, self.used = [], 0

    # --- removing ----------------------------------------------------------------------------------------------------

    def retire(self, live: Record | None, rules: TreeRules, now: float) -> int:
        """Remove the trees that ``rules`` do not keep at ``now``, and return how many were removed."""
        if self._unremoved and not 0 <= now - self._removed_at < REMOVE_AGAIN_SECONDS:
            self._removed_at = now
            for unique in tuple(self._unremoved):
                self.remove(unique)
        if not live:
            return 0
        for place, tree in enumerate(self.trees):
            if tree.ended > now:  # the clock was set back; the tree must not stay until it has caught up
                self.trees[place] = tree._replace(ended=now)
                with contextlib.suppress(OSError):
                    mark_ended(self._root.folder_of(tree.unique), now)
        used = in_use.used(self._root.path, [tree.unique for tree in self.trees])
        kept = choose_kept(live, self.trees, rules, now, used)
        stay = {tree.unique for tree in kept.trees}
        unused = [tree for tree in self.trees if tree.unique not in stay | used]
        self.trees = kept.trees
        removed = self._remove_unused(unused) + sum(self._give_up(tree) for tree in reversed(kept.given_up))
        self.used = len(used & {tree.unique for tree in self.trees})
        self._recount()
        return removed

    def _remove_unused(self, trees: Sequence[OldTree]) -> int:
        """Remove these trees, the oldest first, but those that a process uses now; return how many were removed."""
        removed = 0
        for tree in reversed(trees):
            with in_use.unless_used(self._root.folder_of(tree.unique)) as is_unused:
                if is_unused:
                    removed += self.remove(tree.unique)
                else:
                    self.trees.append(tree)
                    self._sort()
        return removed

    def _give_up(self, tree: OldTree) -> bool:
        """Remove a tree that a process uses, and return whether it is gone."""
        log.warning(
            "The tree of %s is removed although tasks use it: the trees do not fit. Give the volume more space, or "
            "trees more of it.",
            tree.record.version,
        )
        return self.remove(tree.unique)

    def make_room(self, live: Record | None, error: BaseException, now: float) -> bool:
        """If ``error`` says that the volume is full, remove all trees that may go; return whether there were any.

        If processes use all of them, only the oldest is removed: so each attempt costs one.
        """
        reason = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(reason, OSError) or reason.errno not in FULL_ERRORS:
            return False
        removed = self.retire(live, FEWEST, now)
        if not live:  # the published tree cannot be checked: keep it, and the newest of the others
            spare, self.trees = self.trees[1:], self.trees[:1]
            removed = self._remove_unused(spare)
        if removed:
            log.warning("The volume is full. %d old trees were removed early.", removed)
        elif self.trees[1:]:
            removed = self._give_up(self.trees.pop())
        return removed > 0

    def remove(self, name: str) -> bool:
        """Remove a tree, a temporary link or file, and return whether it is gone; if not, ``retire`` tries it again."""
        path = self._root.folder_of(name)
        try:
            if os.path.islink(path) or os.path.isfile(path):
                os.unlink(path)
                return True
            # Without its mark it is a leftover, should the removal be interrupted.
            with contextlib.suppress(FileNotFoundError, PermissionError):
                os.unlink(f"{path}/{ENDED}")
            removing.remove(path)
        except OSError as error:
            if name not in self._unremoved:
                log.warning("%s cannot be removed: %s", path, error.strerror)
                self._unremoved.add(name)
            return False
        self._unremoved.discard(name)
        return True

    # --- counting ----------------------------------------------------------------------------------------------------

    def _recount(self) -> None:
        """Find out what those trees share that have lost the trees between them."""
        for place, (newer, older) in enumerate(pairwise(self.trees)):
            pair = (newer.unique, older.unique)
            if newer.record.serial == older.record.serial + 1 or pair in self._recounted:
                continue
            with contextlib.suppress(OSError, ValueError):
                files = [read_manifest(self._root.folder_of(unique)) for unique in pair]
                self.trees[place] = recounted(newer, *files)
            self._recounted.add(pair)
        there = {tree.unique for tree in self.trees}
        self._recounted = {pair for pair in self._recounted if there.issuperset(pair)}

    def stored(self, live: Record | None) -> tuple[int, int]:
        """Return how many trees are on the volume, and their bytes without those that could not be removed."""
        records = [live] if live else []
        records += [tree.record for tree in self.trees]
        return len(records) + len(self._unremoved), stored_bytes(records)
