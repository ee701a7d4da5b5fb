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
import errno
import fcntl
import logging
import os
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from dagferry_core import tree as trees
from dagferry_core.draft import Draft
from dagferry_core.errors import DagferryError, RootInUse, RootUnusable, VolumeFailed
from dagferry_core.manifest import Manifest
from dagferry_core.records import (
    ENDED,
    DeployRef,
    OldTree,
    Record,
    TreeRules,
    count_kept,
    mark_ended,
    read_manifest,
    read_record,
    stored_bytes,
    write_records,
)
from dagferry_core.tree import FOLDER_MODE, Damage, Tree

CURRENT = "current"
TREES = ".trees"
LOCK = "lock"

_UNIQUE = re.compile(r"[0-9a-f]{16}")
_TEMPORARY_LINK = re.compile(r"link-[0-9a-f]{16}")
_TARGET = re.compile(r"\.trees/([0-9a-f]{16})/([A-Za-z0-9-]+)")

log = logging.getLogger(__name__)


class Live(NamedTuple):
    """The tree that ``current`` points at."""

    unique: str
    record: Record
    tree: Tree


class Volume:
    """A root folder and its trees, owned until ``close``.

    ``live`` is the tree that is published, and ``old`` are those before it, newest first; ``load`` finds both.
    Raises ``RootUnusable`` if the folder cannot be used, ``RootInUse`` if it has an owner.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.live: Live | None = None
        self.old: list[OldTree] = []
        self._unfinished: list[str] = []
        """What failed attempts left, where it could not be removed at once."""
        self._trees = f"{root}/{TREES}"
        self._link = f"{root}/{CURRENT}"
        try:
            if not os.path.isdir(root):
                os.makedirs(root, FOLDER_MODE)
                os.chmod(root, FOLDER_MODE)
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._trees)
                os.chmod(self._trees, FOLDER_MODE)
            self._target()
            self._lock = os.open(f"{self._trees}/{LOCK}", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise RootUnusable(f"{error.filename or root} cannot be used: {error.strerror}.") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise RootInUse(f"Another sidecar owns {root}.") from error
        except OSError as error:
            os.close(self._lock)
            raise RootUnusable(f"{self._trees}/{LOCK} cannot be locked: {error.strerror}.") from error

    def close(self) -> None:
        """Give up the ownership."""
        os.close(self._lock)

    # --- reading -----------------------------------------------------------------------------------------------------

    def load(self) -> Damage:
        """Find out what is published, and check it with its contents.

        A published tree about which too little is known to check it is damage without a ``live`` tree. Raises
        ``RootUnusable`` if ``current`` is not ours to change.
        """
        with _failures(self.root):
            target = self._target()
            if not target or not os.path.isdir(f"{self.root}/{target}"):
                return Damage([], [])
            _, unique, version = target.split("/")
            try:
                record = read_record(f"{self._trees}/{unique}")
                manifest = read_manifest(f"{self._trees}/{unique}")
                if (record.version, record.digest) != (version, manifest.digest):
                    raise ValueError("the records of a tree contradict each other")
            except (DagferryError, OSError, ValueError) as error:
                log.warning("What is published cannot be checked: %s", error)
                return Damage([target], [])
            tree, damage = trees.read_and_check(f"{self.root}/{target}", manifest)
            self.live = Live(unique, record, tree)
            return damage

    def check(self) -> Damage:
        """Compare what is published with what should be, without reading contents."""
        if not self.live:
            return Damage([], [])
        with _failures(self.root):
            damage = trees.check(self.live.tree)
            if self._target() != self._target_of(self.live.unique, self.live.record.version):
                damage.odd.append(self._link)
            return damage

    def published_version(self) -> str:
        """Return the version that ``current`` leads to right now, or ``""``; safe to call from any thread."""
        with contextlib.suppress(OSError, RootUnusable):
            target = self._target()
            if target and os.path.isdir(f"{self.root}/{target}"):
                return target.rpartition("/")[2]
        return ""

    def _target(self) -> str:
        try:
            target = os.readlink(self._link)
        except FileNotFoundError:
            return ""
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise RootUnusable(f"{self._link} is not a link. Move it away, or use another --root.", "") from error
        if not _TARGET.fullmatch(target):
            raise RootUnusable(f"{self._link} leads to {target}, which is no tree of a sidecar. Remove the link.", "")
        return target

    @staticmethod
    def _target_of(unique: str, version: str) -> str:
        return f"{TREES}/{unique}/{version}"

    # --- publishing --------------------------------------------------------------------------------------------------

    def publish(
        self, deploy: DeployRef, manifest: Manifest, fill: Callable[[Draft], None], clock: Callable[[], float]
    ) -> list[str]:
        """Build a tree of ``manifest`` aside by ``fill``, make it live, and return the paths of its fresh files.

        Whatever fails, what was live stays live and nothing is left behind; what cannot be removed at once, ``retire``
        removes later. ``clock`` gives seconds since the epoch.
        """
        unique = os.urandom(8).hex()
        folder = f"{self._trees}/{unique}"
        target = self._target_of(unique, deploy.version)
        with _failures(folder):
            try:
                os.mkdir(folder)
                os.chmod(folder, FOLDER_MODE)
                os.mkdir(f"{self.root}/{target}")
                os.chmod(f"{self.root}/{target}", FOLDER_MODE)
                before = self.live.tree if self.live and self.live.tree.manifest.files else None
                with Draft(f"{self.root}/{target}", manifest, before) as draft:
                    fill(draft)
                serial = 1 + max((tree.record.serial for tree in self._all()), default=0)
                record = Record(*deploy, serial, manifest.size, draft.new_bytes)
                write_records(folder, record, manifest)
                now = clock()
                tree, fresh = draft.stamp(now)
                self._swap(target, now)
            except BaseException:
                # Asked of the volume itself: a signal may have struck right after the rename.
                if not os.path.islink(self._link) or os.readlink(self._link) != target:
                    self._unfinished.append(unique)
                    self._remove_unfinished()
                raise
            if self.live:
                self.old.insert(0, OldTree(self.live.unique, self.live.record, now))
            self.live = Live(unique, record, tree)
            return fresh

    def _swap(self, target: str, now: float) -> None:
        if self.live:
            # First the mark, then the swap: a live tree with a mark is harmless, an old one without would be swept.
            # Where the old tree belongs to another user, or is gone, there is no mark and nothing of ours to sweep.
            with contextlib.suppress(PermissionError, FileNotFoundError):
                mark_ended(f"{self._trees}/{self.live.unique}", now)
        temporary = f"{self._trees}/link-{os.urandom(8).hex()}"
        os.symlink(target, temporary)
        try:
            os.rename(temporary, self._link)
        except BaseException as error:
            with contextlib.suppress(FileNotFoundError):  # a signal may strike right after the rename
                os.unlink(temporary)
            if isinstance(error, IsADirectoryError):
                raise RootUnusable(f"{self._link} is not a link. Move it away, or use another --root.", "") from error
            raise

    # --- removing ----------------------------------------------------------------------------------------------------

    def sweep(self) -> int:
        """Remove what an earlier run left behind, find the old trees, and return how many leftovers there were."""
        leftovers = 0
        with _failures(self._trees):
            for name in os.listdir(self._trees):
                ours = _UNIQUE.fullmatch(name)
                if ours and (self._is_live(name) or self._take_old(name)):
                    continue
                if ours or _TEMPORARY_LINK.fullmatch(name):
                    leftovers += self._remove(name)
        self.old.sort(key=lambda tree: tree.record.serial, reverse=True)
        return leftovers

    def _is_live(self, unique: str) -> bool:
        return self._target().startswith(f"{TREES}/{unique}/")

    def _take_old(self, unique: str) -> bool:
        folder = f"{self._trees}/{unique}"
        try:
            ended = os.lstat(f"{folder}/{ENDED}").st_mtime
            self.old.append(OldTree(unique, read_record(folder), ended))
        except (OSError, ValueError):
            return False
        return True

    def retire(self, rules: TreeRules, now: float) -> int:
        """Remove the old trees that ``rules`` do not keep, and return how many."""
        self._remove_unfinished()
        if not self.live:
            return 0
        for place, tree in enumerate(self.old):
            if tree.ended > now:  # the clock was set back; or the tree would stay until it has caught up
                self.old[place] = tree._replace(ended=now)
                with contextlib.suppress(OSError):
                    mark_ended(f"{self._trees}/{tree.unique}", now)
        kept = count_kept(self.live.record, self.old, rules, now)
        removed, self.old = self.old[kept:], self.old[:kept]
        return sum(self._remove(tree.unique) for tree in reversed(removed))

    def _remove_unfinished(self) -> None:
        for unique in tuple(self._unfinished):
            with contextlib.suppress(OSError):
                trees.remove(f"{self._trees}/{unique}")
                self._unfinished.remove(unique)

    def _remove(self, name: str) -> bool:
        path = f"{self._trees}/{name}"
        try:
            if os.path.islink(path):
                os.unlink(path)
                return True
            # Without its mark it is a leftover, should the removal be cut short.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{path}/{ENDED}")
            trees.remove(path)
        except OSError as error:
            log.warning("%s cannot be removed: %s", path, error.strerror)
            return False
        return True

    # --- counting ----------------------------------------------------------------------------------------------------

    def _all(self) -> list[Live | OldTree]:
        return [*([self.live] if self.live else []), *self.old]

    def stored(self) -> tuple[int, int]:
        """Return the number of trees on the volume, the live one included, and their bytes."""
        records = [tree.record for tree in self._all()]
        return len(records), stored_bytes(records)


@contextlib.contextmanager
def _failures(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # Calls by folder descriptor know no more than a last name, or a number.
        known = isinstance(error.filename, str) and os.path.isabs(error.filename)
        raise VolumeFailed(f"{error.filename if known else path}: {error.strerror}.") from error
