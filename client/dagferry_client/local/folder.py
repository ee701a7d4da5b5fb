"""Finds the dags folder that is to be deployed: the folder given, or ``dags/`` in it.

    dagferry deploy                the folder dags/ here, or the current folder if it is named so
    dagferry deploy my-project     my-project/dags, as an Astro project has it
    dagferry deploy some/dags      itself, as any folder that has no dags/ in it

A link is followed: the folder that it points at is deployed.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

from dagferry_client.local.errors import FolderNotFound
from dagferry_core.archive.paths import ROOT, quoted

MAX_FOLDERS_SEARCHED = 500
MAX_FOLDERS_SUGGESTED = 3
SUGGESTED_DEPTH = 3
"""How many folders are searched for a dags folder to suggest, how many are suggested, and how deep they may be."""


class DagsFolder(NamedTuple):
    """The dags folder: ``path`` is absolute and has no links; ``shown`` is how the caller would write it.

    ``project`` is the folder that has the dags folder, or the link to it, under the name ``name``.
    """

    path: str
    shown: str
    project: str
    name: str


def find_dags_folder(given: str | None) -> DagsFolder:
    """Return the dags folder at ``given``, or, with ``None``, that of the current folder. Raises ``FolderNotFound``."""
    if given is None:
        return _here()
    if not os.path.isdir(given):
        raise _not_a_folder(given)
    inside = os.path.join(given, ROOT)
    if os.path.basename(os.path.abspath(given)) != ROOT and os.path.lexists(inside):
        if os.path.isdir(inside):
            return _dags_folder(inside)
        if os.path.islink(inside):
            raise _not_a_folder(inside)
    return _dags_folder(given)


def bounds(folder: DagsFolder) -> tuple[str, ...]:
    """Return the folders that links in the dags folder may lead to: itself, its project, and its Git checkout.

    A link that came with somebody else's change must not send this machine's own files, such as keys in the home
    folder, to every pod. So the root and the home folder never count.
    """
    too_wide = {os.path.realpath(os.sep), os.path.realpath(os.path.expanduser("~"))}
    found = [folder.path, os.path.dirname(folder.path), checkout(folder.path), folder.project, checkout(folder.project)]
    return tuple(dict.fromkeys(path for path in found if path and path not in too_wide))


def is_within(path: str, folder: str) -> bool:
    """Return whether ``path`` is ``folder`` or below it; both are absolute and have no links."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _here() -> DagsFolder:
    if os.path.lexists(ROOT):
        if os.path.isdir(ROOT):
            return _dags_folder(ROOT)
        raise _not_a_folder(ROOT)
    here = os.getcwd()
    if os.path.basename(here) == ROOT:
        return _dags_folder(here)
    found = list(_search(here))
    raise FolderNotFound(
        f"There is no folder {ROOT!r} in {quoted(here)}.",
        f"Name the dags folder, for example: dagferry deploy {found[0]}" if found else None,
    )


def _dags_folder(path: str) -> DagsFolder:
    project, name = os.path.split(os.path.abspath(path))
    return DagsFolder(os.path.realpath(path), path, os.path.realpath(project), name)


def _not_a_folder(path: str) -> FolderNotFound:
    if os.path.islink(path) and not os.path.exists(path):
        return FolderNotFound(f"{quoted(path)} is a link to {quoted(os.readlink(path))}, which does not exist.")
    if os.path.exists(path):
        return FolderNotFound(
            f"{quoted(path)} is a file, not a folder.",
            "Name the dags folder that it is in. An archive is uploaded with curl, not with dagferry deploy.",
        )
    found = list(_search(os.getcwd()))
    return FolderNotFound(
        f"There is no folder {quoted(path)}.", f"These are here: {', '.join(found)}" if found else None
    )


def checkout(path: str) -> str:
    """Return the top folder of the Git checkout that ``path`` is in, ``""`` if in none."""
    while not os.path.lexists(os.path.join(path, ".git")):
        above = os.path.dirname(path)
        if above == path:
            return ""
        path = above
    return path


def _search(top: str) -> Iterator[str]:
    """Yield folders below ``top`` that are named as a dags folder, to suggest them."""
    found = 0
    for searched, (parent, folders, _) in enumerate(os.walk(top)):
        depth = parent.removeprefix(top).count(os.sep)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if depth < SUGGESTED_DEPTH else []
        if ROOT in folders:
            found += 1
            yield os.path.relpath(os.path.join(parent, ROOT), top)
        if searched == MAX_FOLDERS_SEARCHED or found == MAX_FOLDERS_SUGGESTED:
            return
