"""The volume of a dags folder: ``current``, the trees behind it, and who owns them.

::

    <root>/current -> .trees/<unique>/<version>     what Airflow reads; relative, so it holds wherever it is mounted
    <root>/.trees/<unique>/<version>/               a tree
    <root>/.trees/<unique>/manifest.zst             its manifest
    <root>/.trees/<unique>/deploy.json              what it is of (``Record``)
    <root>/.trees/<unique>/ended                    empty; its mtime is when the tree stopped being live
    <root>/.trees/lock                              whoever has it locked owns the root

``current`` points at a complete tree at every moment: it changes by one rename, after all else is written. A process
killed anywhere leaves at most a folder that is neither live nor ended, or a temporary link; ``sweep`` removes both.
Nothing outside ``.trees`` is touched but ``current``.
"""

import contextlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from dagferry_core.bundle.manifest import EMPTY, Manifest
from dagferry_core.errors import DagferryError
from dagferry_follow.volume import removal as removing
from dagferry_follow.volume import tree as trees
from dagferry_follow.volume.attributes import set_mode
from dagferry_follow.volume.lookup import UNIQUE, read_tree
from dagferry_follow.volume.records import (
    ENDED,
    DeployRef,
    OldTree,
    Record,
    TreeRules,
    count_kept,
    mark_ended,
    read_record,
    repaired,
    stored_bytes,
    write_record,
    write_records,
)
from dagferry_follow.volume.root import TREES, Root, failures
from dagferry_follow.volume.staging import StagingTree
from dagferry_follow.volume.tree import FOLDER_MODE, FULL_ERRORS, Damage, Tree, on_disk

REMOVE_AGAIN_SECONDS = 600.0
"""How often it is tried to remove what could not be removed; besides, after each swap."""
FEWEST = TreeRules(0, 0, 0)

_TEMPORARY_LINK = re.compile(r"link-[0-9a-f]{16}")

log = logging.getLogger(__name__)


class Live(NamedTuple):
    """The tree that ``current`` points at."""

    unique: str
    record: Record
    tree: Tree


class StagedDeploy(StagingTree):
    """A tree that is being built on a volume, in the folder ``unique``, to become the live tree of ``deploy``."""

    __slots__ = ("deploy", "unique")

    def __init__(self, root: Root, unique: str, deploy: DeployRef, manifest: Manifest, old: Tree | None) -> None:
        self.unique = unique
        self.deploy = deploy
        super().__init__(f"{root.folder_of(unique)}/{deploy.version}", manifest, old, modes=root.modes)


class Volume:
    """The trees under a root folder, which is owned until ``close``.

    ``live`` is the tree that is published, and ``old`` are those before it, newest first; ``load`` finds both. A deploy
    is published in three steps: ``stage`` a tree, fill it, ``swap`` it in.
    """

    def __init__(self, path: str) -> None:
        self.root = Root(path)
        self.live: Live | None = None
        self.old: list[OldTree] = []
        self._unremoved: set[str] = set()
        """What could not be removed."""
        self._removed_at = 0.0
        self._unknown = ""
        """What the link named at the start if that could not be checked: Airflow may have read its files."""

    def close(self) -> None:
        """Give up the ownership of the root folder."""
        self.root.close()

    # --- reading -----------------------------------------------------------------------------------------------------

    def load(self) -> Damage:
        """Find out what is published, and check it with its contents.

        Where ``current`` leads nowhere, it is led to the newest tree that is whole. A published tree about which too
        little is known to check it is damage without a ``live`` tree. Raises ``RootUnusable`` if ``current`` is not
        ours to change.
        """
        with failures(self.root.path):
            target = self.root.target()
            if not target or not os.path.isdir(f"{self.root.path}/{target}"):
                self._unknown = target
                return self._take_newest_whole()
            _, unique, version = target.split("/")
            try:
                self.live, damage = self._read(unique, version)
            except (DagferryError, OSError, ValueError) as error:
                log.warning("What is published cannot be checked: %s", error)
                self._unknown = target
                return Damage([target], [])
            return damage

    def _read(self, unique: str, version: str = "") -> tuple[Live, Damage]:
        """Return a tree and what is wrong with it; raise whatever its records are damaged by."""
        record, tree, damage = read_tree(self.root.path, unique, version, modes=self.root.modes)
        return Live(unique, record, tree), damage

    def _take_newest_whole(self) -> Damage:
        serials: dict[str, int] = {}
        for name in filter(UNIQUE.fullmatch, os.listdir(self.root.trees)):
            with contextlib.suppress(OSError, ValueError):
                serials[name] = read_record(self.root.folder_of(name)).serial
        for unique in sorted(serials, key=serials.__getitem__, reverse=True):
            with contextlib.suppress(DagferryError, OSError, ValueError):
                live, damage = self._read(unique)
                if not damage.corrupt:
                    self.root.point_at(self.root.target_of(unique, live.record.version))
                    self.live = live
                    log.warning("%s led nowhere. It leads to %s now.", self.root.link, live.record.version)
                    break
        else:
            damage = Damage([], [])
        for unique in serials.keys() - {self.live.unique if self.live else ""}:
            # One of them was live, and tasks may run on it: without a mark it would be swept.
            if not os.path.lexists(f"{self.root.trees}/{unique}/{ENDED}"):
                with contextlib.suppress(OSError):
                    mark_ended(self.root.folder_of(unique), time.time())
        return damage

    def check(self) -> Damage:
        """Compare what is published with what should be, without reading contents."""
        if not self.live:
            return Damage([], [])
        with failures(self.root.path):
            damage = trees.check(self.live.tree)
            if self.root.target() != self.root.target_of(self.live.unique, self.live.record.version):
                damage.unexpected.append(self.root.link)
            return damage

    # --- publishing --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def stage(self, deploy: DeployRef, manifest: Manifest) -> Iterator[StagedDeploy]:
        """Yield a tree beside the live one, to be filled with the files of ``manifest`` and then swapped in.

        Unless it was, it is removed at the end, and whatever fails, what was live stays live; what cannot be removed at
        once, ``retire`` removes later. A failure because the volume is full costs the old trees, too.
        """
        if self.root.own():
            self.old = []
        unique = os.urandom(8).hex()
        folder = self.root.folder_of(unique)
        target = self.root.target_of(unique, deploy.version)
        with failures(folder):
            try:
                for path in (folder, f"{self.root.path}/{target}"):
                    os.mkdir(path)
                    set_mode(path, FOLDER_MODE)
                staging = StagedDeploy(self.root, unique, deploy, manifest, self._before())
                with staging:
                    yield staging
            except BaseException as error:
                self.make_room(error, time.time())
                raise
            finally:
                if not self._is_live(unique, target):
                    self._remove(unique)

    def swap(self, staging: StagedDeploy, clock: Callable[[], float]) -> list[str]:
        """Make a filled tree live, and return the paths of its fresh files.

        To be called before the end of ``stage``. ``clock`` gives seconds since the epoch.
        """
        unique, deploy, manifest = staging.unique, staging.deploy, staging.manifest
        ending = self._ending()
        known = [tree.record.serial for tree in (self.live, ending, *self.old) if tree]
        size = sum(on_disk(entry.size) for entry in manifest.files.values())
        record = Record(*deploy, 1 + max(known, default=0), size, staging.new_bytes)
        record = write_records(self.root.folder_of(unique), record, manifest)
        now = clock()
        tree, fresh = staging.finalize(now)
        if ending:
            # First the mark, then the swap: a live tree with a mark is harmless, an old one without would be swept.
            # Where the old tree belongs to another user, or is gone, nothing of ours is to be swept.
            with contextlib.suppress(PermissionError, FileNotFoundError):
                mark_ended(self.root.folder_of(ending.unique), now)
        self.root.point_at(self.root.target_of(unique, deploy.version))
        if ending:
            self.old.insert(0, ending._replace(ended=now))
        self.live, self._unknown = Live(unique, record, tree), ""
        self._removed_at = 0.0
        return fresh

    def _is_live(self, unique: str, target: str) -> bool:
        if self.live and self.live.unique == unique:
            return True
        # Asked of the volume itself: a signal may have struck right after the rename.
        return os.path.islink(self.root.link) and os.readlink(self.root.link) == target

    def _before(self) -> Tree | None:
        """Return the tree whose files Airflow may have read, for a staged one to be compared with."""
        if self.live:
            return self.live.tree if self.live.tree.manifest.files else None
        return Tree(f"{self.root.path}/{self._unknown}", EMPTY, {}) if self._unknown else None

    def _ending(self) -> OldTree | None:
        """Return what a swap now will end, as far as it is still there."""
        unique = self.live.unique if self.live else self._unknown.split("/")[1] if self._unknown else ""
        folder = self.root.folder_of(unique)
        if not unique or not os.path.isdir(folder):
            return None
        if self.live:
            return OldTree(unique, self.live.record, 0)
        try:
            record = read_record(folder)
        except (OSError, ValueError):
            # Without a record the next start would sweep the tree, though tasks may still run on it.
            serial = 1 + max((tree.record.serial for tree in self.old), default=0)
            record = Record("", 0, self._unknown.rpartition("/")[2], "", serial, 0, 0)
            with contextlib.suppress(PermissionError):
                write_record(folder, record)
        return OldTree(unique, record, 0)

    def make_room(self, error: BaseException, now: float) -> bool:
        """Remove every tree that may go, if ``error`` is that the volume is full; tell whether there was any."""
        reason = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(reason, OSError) or reason.errno not in FULL_ERRORS:
            return False
        removed = self.retire(FEWEST, now)
        if not self.live:  # what is published cannot be checked: it stays, and so does the newest of the others
            spare, self.old = self.old[1:], self.old[:1]
            removed = sum(self._remove(tree.unique) for tree in reversed(spare))
        if removed:
            log.warning("The volume is full. %d old trees were removed before their time.", removed)
        return removed > 0

    # --- removing ----------------------------------------------------------------------------------------------------

    def sweep(self) -> int:
        """Remove what an earlier run left behind, find the old trees, and return how many leftovers there were."""
        leftovers = 0
        with failures(self.root.trees):
            for name in os.listdir(self.root.trees):
                ours = UNIQUE.fullmatch(name)
                if ours and (self.root.target().startswith(f"{TREES}/{name}/") or self._take_old(name)):
                    continue
                if ours or _TEMPORARY_LINK.fullmatch(name):
                    leftovers += self._remove(name)
        self.old.sort(key=lambda tree: tree.record.serial, reverse=True)
        return leftovers

    def _take_old(self, unique: str) -> bool:
        folder = self.root.folder_of(unique)
        try:
            ended = os.lstat(f"{folder}/{ENDED}").st_mtime
            self.old.append(OldTree(unique, read_record(folder), ended))
        except (OSError, ValueError):
            return False
        return True

    def retire(self, rules: TreeRules, now: float) -> int:
        """Remove the old trees that ``rules`` do not keep, and return how many."""
        if self._unremoved and not 0 <= now - self._removed_at < REMOVE_AGAIN_SECONDS:
            self._removed_at = now
            for unique in tuple(self._unremoved):
                self._remove(unique)
        if not self.live:
            return 0
        for place, tree in enumerate(self.old):
            if tree.ended > now:  # the clock was set back; or the tree would stay until it has caught up
                self.old[place] = tree._replace(ended=now)
                with contextlib.suppress(OSError):
                    mark_ended(self.root.folder_of(tree.unique), now)
        removed = repaired(self.old, rules)
        self.old = [tree for tree in self.old if tree not in removed]
        kept = count_kept(self.live.record, self.old, rules, now)
        removed += self.old[kept:]
        self.old = self.old[:kept]
        return sum(self._remove(tree.unique) for tree in reversed(removed))

    def _remove(self, name: str) -> bool:
        path = self.root.folder_of(name)
        try:
            if os.path.islink(path):
                os.unlink(path)
                return True
            # Without its mark it is a leftover, should the removal be cut short.
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

    def stored(self) -> tuple[int, int]:
        """Return how many trees are on the volume, with what could not be removed, and the bytes of the others."""
        records = [tree.record for tree in ([self.live] if self.live else []) + self.old]
        return len(records) + len(self._unremoved), stored_bytes(records)
