"""The volume of a dags folder: the link ``current``, and the trees behind it.

::

    <root>/current -> .trees/<unique>/<version>     what Airflow reads; relative, so it holds wherever it is mounted
    <root>/.trees/<unique>/<version>/               a tree
    <root>/.trees/<unique>/manifest.zst             its manifest
    <root>/.trees/<unique>/deploy.json              its deploy (``Record``)
    <root>/.trees/<unique>/ended                    empty; its mtime is when the tree stopped being live
    <root>/.trees/lock                              the process that locks it owns the root; holds the volume's id
    <root>/.trees/reads.json                        what Airflow was seen to read, if it tells (``known_reads``)

``current`` points at a complete tree at every moment: it changes by one rename, after everything else is written. A
process killed at any point leaves at most a folder that is neither live nor ended, or a temporary link; ``sweep``
removes both. Apart from ``current``, nothing outside ``.trees`` is touched.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from dagferry_core.bundle.manifest import EMPTY, Manifest
from dagferry_core.errors import DagferryError
from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.log import Log
from dagferry_follow.volume import tree as trees
from dagferry_follow.volume.attributes import set_mode
from dagferry_follow.volume.lookup import UNIQUE, read_tree
from dagferry_follow.volume.old_trees import OldTrees
from dagferry_follow.volume.records import (
    ENDED,
    OldTree,
    Record,
    TreeRules,
    mark_ended,
    read_manifest,
    read_record,
    write_record,
    write_records,
)
from dagferry_follow.volume.root import Root, failures
from dagferry_follow.volume.staging import StagingTree
from dagferry_follow.volume.tree import FOLDER_MODE, Damage, Tree, on_disk

log = Log(__name__)


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

    ``live`` is the published tree, found by ``load``; ``old`` are the previous ones, found by ``sweep``. A
    deploy is published in three steps: ``stage`` a tree, ``populate`` it, ``swap`` it in.
    """

    def __init__(self, path: str) -> None:
        self.root = Root(path)
        self.live: Live | None = None
        self._old_trees = OldTrees(self.root)
        self._unknown = ""
        """The link's target when it was loaded, if that tree could not be checked: Airflow may have read its files."""

    def close(self) -> None:
        """Release the ownership of the root folder."""
        self.root.close()

    # --- reading -----------------------------------------------------------------------------------------------------

    def load(self) -> Damage:
        """Find the published tree, and check it including contents.

        If ``current`` is missing or dangling, it is pointed at the newest intact tree. A published tree that cannot be
        checked, because its records are damaged, is damage without a ``live`` tree. Raises ``RootUnusable`` if
        ``current`` must not be replaced.
        """
        with failures(self.root.path):
            target = self.root.target()
            if not target or not os.path.isdir(f"{self.root.path}/{target}"):
                self._unknown = target
                return self._recover_newest_intact()
            _, unique, version = target.split("/")
            try:
                self.live, damage = self._read(unique, version)
            except (DagferryError, OSError, ValueError) as error:
                log.warning("The published tree cannot be checked: %s", error)
                self._unknown = target
                return Damage([target], [])
            return damage

    def _read(self, unique: str, version: str = "") -> tuple[Live, Damage]:
        """Return a tree and what is wrong with it; raise whatever its records are damaged by."""
        record, tree, damage = read_tree(self.root.path, unique, version, modes=self.root.modes)
        return Live(unique, record, tree), damage

    def _recover_newest_intact(self) -> Damage:
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
                    log.warning(
                        "%s was missing or dangling. It now points at %s, the newest intact tree.",
                        self.root.link,
                        live.record.version,
                    )
                    break
        else:
            damage = Damage([], [])
        for unique in serials.keys() - {self.live.unique if self.live else ""}:
            # One of them was live, and tasks may still use it: without a mark it would be swept.
            if not os.path.lexists(f"{self.root.trees}/{unique}/{ENDED}"):
                with contextlib.suppress(OSError):
                    mark_ended(self.root.folder_of(unique), time.time())
        return damage

    def check(self) -> Damage:
        """Compare the published tree with its manifest, without reading contents."""
        if not self.live:
            return Damage([], [])
        with failures(self.root.path):
            damage = trees.check(self.live.tree)
            if self.root.target() != self.root.target_of(self.live.unique, self.live.record.version):
                damage.unexpected.append(self.root.link)
            return damage

    # --- publishing --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def stage(self, deploy: DeployRef, manifest: Manifest, retained: Tree | None = None) -> Iterator[StagedDeploy]:
        """Yield a tree beside the live one, to be filled with the files of ``manifest`` and then swapped in.

        ``retained`` is an old tree of ``manifest``, for contents that a patch names without having them. A tree that
        was not swapped in is removed at the end, and the live tree stays live after any error; ``retire`` later removes
        what cannot be removed at once. If the volume is full, the old trees are removed too.
        """
        if self.root.own():
            self._old_trees.forget()
        unique = os.urandom(8).hex()
        folder = self.root.folder_of(unique)
        target = self.root.target_of(unique, deploy.version)
        with failures(folder):
            try:
                for path in (folder, f"{self.root.path}/{target}"):
                    os.mkdir(path)
                    set_mode(path, FOLDER_MODE)
                staging = StagedDeploy(self.root, unique, deploy, manifest, self._before())
                staging.retained = retained
                staging.reads_in = self.root.trees
                with staging:
                    yield staging
            except BaseException as error:
                self.make_room(error, time.time())
                raise
            finally:
                if not self._is_live(unique, target):
                    self._old_trees.remove(unique)

    def swap(self, staging: StagedDeploy, clock: Callable[[], float]) -> list[str]:
        """Make a filled tree live, and return the paths of its fresh files.

        To be called before the end of ``stage``. ``clock`` gives seconds since the epoch.
        """
        unique, deploy, manifest = staging.unique, staging.deploy, staging.manifest
        ending = self._ending()
        known = [tree.record.serial for tree in (self.live, ending, *self.old) if tree]
        size = sum(on_disk(entry.size) for entry in manifest.files.values())
        serial = 1 + max(known, default=0)
        record = Record(*deploy[:4], serial, size, staging.new_bytes, deploy.entry_sha256)
        record = write_records(self.root.folder_of(unique), record, manifest)
        now = clock()
        tree, fresh = staging.finalize(now)
        if ending:
            # First the mark, then the swap: a live tree with a mark is harmless, an old one without would be swept.
            # If the old tree belongs to another user, or is gone, there is nothing of ours to sweep.
            with contextlib.suppress(PermissionError, FileNotFoundError):
                mark_ended(self.root.folder_of(ending.unique), now)
        self.root.point_at(self.root.target_of(unique, deploy.version))
        self._old_trees.add(ending._replace(ended=now) if ending else None)
        self.live, self._unknown = Live(unique, record, tree), ""
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
        """Return the tree that a swap would end now, if it still exists."""
        unique = self.live.unique if self.live else self._unknown.split("/")[1] if self._unknown else ""
        folder = self.root.folder_of(unique)
        if not unique or not os.path.isdir(folder):
            return None
        if self.live:
            return OldTree(unique, self.live.record, 0)
        try:
            record = read_record(folder)
        except (OSError, ValueError):
            # Without a record the next start would sweep the tree, though tasks may still use it.
            serial = 1 + max((tree.record.serial for tree in self.old), default=0)
            record = Record("", 0, self._unknown.rpartition("/")[2], "", serial, 0, 0)
            with contextlib.suppress(PermissionError):
                write_record(folder, record)
        return OldTree(unique, record, 0)

    # --- old trees ---------------------------------------------------------------------------------------------------

    @property
    def old(self) -> Sequence[OldTree]:
        """The trees before the live one, newest first."""
        return self._old_trees.trees

    @property
    def used(self) -> int:
        """How many of them processes used when ``retire`` last looked."""
        return self._old_trees.used

    def retained(self, digest: str) -> Tree | None:
        """Return the newest old tree with this content, unchecked and without mtimes; ``None`` if there is none."""
        for old in self.old:
            if old.record.digest == digest:
                folder = self.root.folder_of(old.unique)
                with contextlib.suppress(OSError, ValueError):
                    manifest = read_manifest(folder)
                    if manifest.digest == digest:
                        return Tree(f"{folder}/{old.record.version}", manifest, {}, self.root.modes)
        return None

    def sweep(self) -> int:
        """Find the old trees, remove what an earlier run left behind, and return how many leftovers were removed."""
        return self._old_trees.sweep()

    def retire(self, rules: TreeRules, now: float) -> int:
        """Remove the old trees that ``rules`` do not keep, and return how many were removed."""
        return self._old_trees.retire(self._live_record, rules, now)

    def make_room(self, error: BaseException, now: float) -> bool:
        """If ``error`` says that the volume is full, remove all trees that may go; return whether there were any."""
        return self._old_trees.make_room(self._live_record, error, now)

    def stored(self) -> tuple[int, int]:
        """Return how many trees are on the volume, and their bytes without those that could not be removed."""
        return self._old_trees.stored(self._live_record)

    @property
    def _live_record(self) -> Record | None:
        return self.live.record if self.live else None
