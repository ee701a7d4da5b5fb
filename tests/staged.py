"""Trees that are built one after another, each over the one before."""

import io
import os
from pathlib import Path

from dagferry_core.bundle.manifest import Manifest
from dagferry_core.bundle.patch import Patch
from dagferry_core.bundle.reader import decompressed, read_tar
from dagferry_follow.volume.staging import StagingTree
from dagferry_follow.volume.tree import Tree, read_and_check
from treemaker import Stored, manifest_of

A = {
    "dag.py": b"from team import helper\n",
    "other.py": b"import os\n",
    "team/__init__.py": b"",
    "team/helper.py": b"rate = 1\n",
    "sql/load.sql": b"select 1\n",
    "run.sh": b"#!/bin/sh\n",
}
MODES = {"run.sh": 0o755}
B = {**A, "team/helper.py": b"rate = 2\n"}
LONG_AGO = 1_600_000_000


class Volume:
    """A place for trees, each built from the one before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trees: list[Tree] = []
        self.fresh: list[str] = []

    def staging(self, manifest: Manifest, *, alone: bool = False) -> StagingTree:
        folder = self.folder / f"tree-{len(self.trees)}"
        folder.mkdir()
        folder.chmod(0o755)
        return StagingTree(str(folder), manifest, self.trees[-1] if self.trees and not alone else None)

    def whole(self, files: dict[str, bytes], now: float = 2e9, *, alone: bool = False) -> Tree:
        stored = Stored(files, {path: mode for path, mode in MODES.items() if path in files})
        manifest, content = read_tar(decompressed(io.BytesIO(stored.body).read))
        with self.staging(manifest, alone=alone) as staging:
            staging.populate(content)
            return self.stamped(staging, now)

    def patched(
        self, old: dict[str, bytes], new: dict[str, bytes], now: float = 2e9, intercept=lambda patch: patch
    ) -> Tree:
        stored = [Stored(files, {path: mode for path, mode in MODES.items() if path in files}) for files in (old, new)]
        body = stored[1].patch_from(stored[0])
        assert body is not None
        patch = intercept(Patch.parse(body))
        with self.staging(patch.apply_to(self.trees[-1].manifest)) as staging:
            staging.populate(patch)
            return self.stamped(staging, now)

    def stamped(self, staging: StagingTree, now: float) -> Tree:
        tree, self.fresh = staging.finalize(now)
        self.trees.append(tree)
        self.new_bytes = staging.new_bytes
        return tree

    def aged(self, files: dict[str, bytes]) -> Tree:
        """A published tree whose files are old."""
        tree = self.whole(files, alone=True)
        for path in files:
            os.utime(Path(tree.folder, path), (LONG_AGO, LONG_AGO))
        self.trees[-1] = read_and_check(tree.folder, tree.manifest)[0]
        return self.trees[-1]


def holds(tree: Tree, files: dict[str, bytes]) -> bool:
    _, damage = read_and_check(tree.folder, tree.manifest)
    return not damage and tree.manifest.digest == manifest_of(files, MODES).digest


def inode(tree: Tree, path: str) -> int:
    return os.stat(Path(tree.folder, path)).st_ino


def blocks(files: dict[str, bytes]) -> int:
    """What files take on disk."""
    return sum(-(-len(text) // 4096) * 4096 for text in files.values())


def linked(new: Tree, old: Tree) -> set[str]:
    return {path for path in new.manifest.files if path in old.manifest.files and inode(new, path) == inode(old, path)}
