"""The old trees of a volume: which ones are there, which are kept, and what is removed.

A tree that was live stays for the tasks that still use it, as long as ``TreeRules`` keep it. Everything else among the
trees is a leftover of a process that was killed.
"""

import contextlib
import os
import re

from dagferry_follow.log import Log
from dagferry_follow.volume import removal as removing
from dagferry_follow.volume.lookup import UNIQUE
from dagferry_follow.volume.records import (
    ENDED,
    OldTree,
    Record,
    TreeRules,
    count_kept,
    mark_ended,
    read_record,
    stored_bytes,
    superseded_repairs,
)
from dagferry_follow.volume.root import TREES, Root, failures
from dagferry_follow.volume.tree import FULL_ERRORS

REMOVE_AGAIN_SECONDS = 600.0
"""How often removing what could not be removed is tried again; it is also tried after each swap."""
FEWEST = TreeRules(0, 0, 0)

_TEMPORARY_LINK = re.compile(r"link-[0-9a-f]{16}")

log = Log(__name__)


class OldTrees:
    """The old ``trees`` under a root folder, newest first; ``sweep`` finds them.

    In its methods ``live`` is the record of the live tree, ``None`` if nothing is published, or if that cannot be
    checked.
    """

    def __init__(self, root: Root) -> None:
        self.trees: list[OldTree] = []
        self._root = root
        self._unremoved: set[str] = set()
        """Names of the folders that could not be removed."""
        self._removed_at = 0.0

    def sweep(self) -> int:
        """Find the old trees, remove what an earlier run left behind, and return how many leftovers were removed."""
        leftovers = 0
        with failures(self._root.trees):
            for name in os.listdir(self._root.trees):
                ours = UNIQUE.fullmatch(name)
                if ours and (self._root.target().startswith(f"{TREES}/{name}/") or self._find(name)):
                    continue
                if ours or _TEMPORARY_LINK.fullmatch(name):
                    leftovers += self.remove(name)
        self.trees.sort(key=lambda tree: tree.record.serial, reverse=True)
        return leftovers

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
        self.trees = []

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
        removed = superseded_repairs(self.trees, rules)
        self.trees = [tree for tree in self.trees if tree not in removed]
        kept = count_kept(live, self.trees, rules, now)
        removed += self.trees[kept:]
        self.trees = self.trees[:kept]
        return sum(self.remove(tree.unique) for tree in reversed(removed))

    def make_room(self, live: Record | None, error: BaseException, now: float) -> bool:
        """If ``error`` says that the volume is full, remove all trees that may go; return whether there were any."""
        reason = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(reason, OSError) or reason.errno not in FULL_ERRORS:
            return False
        removed = self.retire(live, FEWEST, now)
        if not live:  # the published tree cannot be checked: keep it, and the newest of the others
            spare, self.trees = self.trees[1:], self.trees[:1]
            removed = sum(self.remove(tree.unique) for tree in reversed(spare))
        if removed:
            log.warning("The volume is full. %d old trees were removed early.", removed)
        return removed > 0

    def remove(self, name: str) -> bool:
        """Remove a tree, or a temporary link, and return whether it is gone; if not, ``retire`` tries it again."""
        path = self._root.folder_of(name)
        try:
            if os.path.islink(path):
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

    def stored(self, live: Record | None) -> tuple[int, int]:
        """Return how many trees are on the volume, and their bytes without those that could not be removed."""
        records = [live] if live else []
        records += [tree.record for tree in self.trees]
        return len(records) + len(self._unremoved), stored_bytes(records)
