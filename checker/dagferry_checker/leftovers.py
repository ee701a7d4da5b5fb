"""Removes what DAG files may have written to: nested however deep, without permissions, or with files of others."""

import contextlib
import os
import tempfile

from dagferry_follow.volume.removal import remove

ASIDE = ".left-"


def remove_tree(path: str) -> None:
    """Remove a folder with all in it, or what a DAG file put in its place. What cannot be removed stays."""
    with contextlib.suppress(OSError):
        if os.path.isdir(path) and not os.path.islink(path):
            remove(path)
        else:
            os.unlink(path)


def clear_away(path: str) -> None:
    """Let nothing be at ``path``: what cannot be removed gets another name beside it, and is tried again next time."""
    folder, name = os.path.split(path)
    for other in os.listdir(folder):
        if other == name or other.startswith(f"{name}{ASIDE}"):
            remove_tree(f"{folder}/{other}")
    if os.path.lexists(path):
        os.rename(path, tempfile.mkdtemp(prefix=f"{name}{ASIDE}", dir=folder))
