"""The trees that are checked, in the folder of the checker: the live one, and candidates, which share its files.

::

    <work-dir>/current -> .checker/trees/<n>    the tree that is being checked, where DAG files find it
    <work-dir>/.checker/trees/<n>/              a tree; unchanged files are hard links
    <work-dir>/.checker/scratch/                what is temporary: homes of DAG files, the engine's folder

``current`` has the path of the dags folder if the work folder is mounted where Airflow's is: so DAG files that name
their folder find it.
"""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator, Sequence

from dagferry_checker.leftovers import clear_away, remove_tree
from dagferry_core.bundle.manifest import Manifest
from dagferry_follow.errors import RootInUse, RootUnusable, VolumeFailed
from dagferry_follow.volume.staging import Content, StagingTree
from dagferry_follow.volume.tree import FOLDER_MODE, Tree

CURRENT = "current"
OWN_FOLDER = ".checker"
MAX_TREES = 4
"""How many trees are kept: the live one, and the last candidates, one of which becomes live."""


class TreeStore:
    """The trees in a work folder, owned until ``close``. What an earlier run left is removed.

    Raises ``RootUnusable``, and ``RootInUse`` if another process works there.
    """

    def __init__(self, folder: str) -> None:
        self.folder = os.path.realpath(folder)
        self._own = f"{self.folder}/{OWN_FOLDER}"
        self.scratch = f"{self._own}/scratch"
        self._trees = f"{self._own}/trees"
        self._kept: list[Tree] = []
        self._number = 0
        try:
            os.makedirs(self._own, exist_ok=True)
            self._lock = os.open(f"{self._own}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in (self.scratch, self._trees):
                clear_away(path)
                os.mkdir(path)
        except BlockingIOError as error:
            raise RootInUse(f"Another checker works in {folder}.", "Give each its own --work-dir.") from error
        except OSError as error:
            raise RootUnusable(
                f"{folder} cannot be used: {error.strerror}.", "Set --work-dir to a folder that can be written to."
            ) from error

    def close(self) -> None:
        """Remove the trees, and release the folder."""
        for path in (self.scratch, self._trees):
            remove_tree(path)
        with contextlib.suppress(OSError):
            os.unlink(self.current)
        os.close(self._lock)

    @property
    def current(self) -> str:
        """The path of the tree that is being checked."""
        return f"{self.folder}/{CURRENT}"

    def make(self, manifest: Manifest, content: Content, old: Tree | None) -> Tree:
        """Build a tree, with links to the files of ``old``; raises what ``StagingTree`` does."""
        self._number += 1
        folder = f"{self._trees}/{self._number}"
        try:
            os.mkdir(folder, FOLDER_MODE)
        except OSError as error:
            raise VolumeFailed(f"{folder} cannot be created: {error.strerror}.") from error
        try:
            with StagingTree(folder, manifest, old) as staging:
                staging.populate(content)
                tree, _ = staging.finalize(time.time())
        except BaseException:
            remove_tree(folder)
            raise
        self._kept.append(tree)
        return tree

    def find(self, digest: str) -> Tree | None:
        """Return the newest kept tree with this content."""
        return next((tree for tree in reversed(self._kept) if tree.manifest.digest == digest), None)

    @contextlib.contextmanager
    def showing(self, tree: Tree) -> Iterator[str]:
        """Let ``current`` lead to a tree during the block; yield the path of ``current``."""
        target = os.path.relpath(tree.folder, self.folder)
        temporary = f"{self._own}/{CURRENT}"
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            os.symlink(target, temporary)
            os.rename(temporary, self.current)
        except OSError as error:
            if error.errno in {errno.EISDIR, errno.ENOTEMPTY}:
                raise RootUnusable(f"{self.current} is a folder.", "Set --work-dir to an empty folder.") from error
            raise VolumeFailed(f"{self.current} cannot be changed: {error.strerror}.") from error
        yield self.current

    def retire(self, live: Tree | None, beside: Sequence[Tree] = ()) -> None:
        """Remove the oldest trees but the ``live`` one and those of the deployments ``beside``, which do not count."""
        spared = {id(live), *map(id, beside)}
        while len(self._kept) > MAX_TREES + len(beside):
            number = next(number for number, tree in enumerate(self._kept) if id(tree) not in spared)
            remove_tree(self._kept.pop(number).folder)
