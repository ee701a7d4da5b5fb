"""Finds trees on a volume by their records, live or not. It writes nothing, so read permission is enough.

What the records say about a tree counts only after its contents were compared with its manifest.
"""

import contextlib
import os
import re

from dagferry_core.errors import DagferryError
from dagferry_core.names import version_time
from dagferry_follow.volume import tree as trees
from dagferry_follow.volume.in_use import is_published
from dagferry_follow.volume.records import ENDED, RECORD, Record, read_manifest, read_record
from dagferry_follow.volume.root import TREES
from dagferry_follow.volume.tree import Damage, Tree

UNIQUE = re.compile(r"[0-9a-f]{16}")
"""The name of the folder of one tree and its records."""


def read_tree(root: str, unique: str, version: str = "", *, modes: bool) -> tuple[Record, Tree, Damage]:
    """Return a tree (of ``version``, if given) and what is wrong with it; ``modes``: whether to compare modes.

    Raises ``OSError``, ``ValueError`` or ``DagferryError`` if its records are missing or damaged.
    """
    folder = f"{root}/{TREES}/{unique}"
    record = read_record(folder)
    manifest = read_manifest(folder)
    if (record.version, record.digest) != (version or record.version, manifest.digest):
        raise ValueError("the records of a tree contradict each other")
    tree, damage = trees.read_and_check(f"{folder}/{record.version}", manifest, modes=modes)
    return record, tree, damage


def trees_of(root: str, version: str) -> list[str]:
    """Return the unique names of the trees of a version under ``root``, intact or not; contents are not read."""
    with contextlib.suppress(OSError):
        names = filter(UNIQUE.fullmatch, os.listdir(f"{root}/{TREES}"))
        return [unique for unique in names if os.path.isdir(f"{root}/{TREES}/{unique}/{version}")]
    return []


def intact_tree(root: str, version: str, log_id: str = "") -> Tree | None:
    """Return a tree of a version whose files all have their published content; ``None`` if there is none.

    With a ``log_id``, it is of that log: another one may have a version of the same name.
    """
    for unique in trees_of(root, version):
        with contextlib.suppress(DagferryError, OSError, ValueError):
            record, tree, damage = read_tree(root, unique, version, modes=False)
            if log_id and record.log_id != log_id:
                continue
            if not damage.corrupt:
                return tree
    return None


def tree_at(root: str, moment: float) -> tuple[str, str] | None:
    """Return unique name and version of the tree that was the newest at ``moment``, in seconds since the epoch.

    ``None`` if it is not under ``root``. A deploy counts from when it was made, by the server's clock, so that all pods
    choose the same: one that went live here later, as in a pod that started later, was live elsewhere. Within the
    second that a version names, it counts from when its tree was written here.
    """
    found: list[tuple[int, str, str]] = []
    counting = -1
    with contextlib.suppress(OSError):
        for unique in filter(UNIQUE.fullmatch, os.listdir(f"{root}/{TREES}")):
            with contextlib.suppress(OSError, ValueError):
                folder = f"{root}/{TREES}/{unique}"
                record = read_record(folder)
                if is_published(root, unique):
                    found.append((record.serial, unique, record.version))
                    if _counts_from(folder, record.version) <= moment:
                        counting = max(counting, record.serial)
    after = None
    for serial, unique, version in sorted(found, reverse=True):
        if serial == counting:
            return (unique, version) if after is None or _is_until(root, unique, serial, after, moment) else None
        after = serial
    return None


def _is_until(root: str, unique: str, serial: int, after: int, moment: float) -> bool:
    """Return whether a tree was live until ``after`` was, as far as it matters: those between them may be removed.

    A task may hold an old tree, which then stays without those that followed it.
    """
    if after == serial + 1:
        return True
    with contextlib.suppress(OSError):
        return os.lstat(f"{root}/{TREES}/{unique}/{ENDED}").st_mtime >= moment
    return False


def _counts_from(folder: str, version: str) -> float:
    """Return from when on a deploy counts; a seed or an empty tree from when it was written."""
    written = os.stat(f"{folder}/{RECORD}").st_mtime
    try:
        made = version_time(version)
    except ValueError:
        return written
    return written if made <= written < made + 1 else made
