"""Removing a tree, by folder descriptor: symbolic links are never followed."""

import os
import stat

from dagferry_follow.volume.tree import FOLDER_MODE, OPEN_FOLDER


def remove(folder: str) -> None:
    """Remove a folder and everything in it, also if someone took away the permission to write.

    What cannot be removed stays (bytecode of another user, for example), the rest is removed; then one of the
    ``OSError``s is raised.
    """
    try:
        fd = os.open(folder, OPEN_FOLDER)
    except FileNotFoundError:
        return
    try:
        refusal = _empty(fd)
    finally:
        os.close(fd)
    if refusal:
        raise refusal
    os.rmdir(folder)


def _empty(fd: int) -> OSError | None:
    try:
        if os.fstat(fd).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            os.fchmod(fd, FOLDER_MODE)
        with os.scandir(fd) as items:
            names = [(item.name, item.is_dir(follow_symlinks=False)) for item in items]
    except OSError as error:
        return error
    refusal: OSError | None = None
    for name, is_folder in names:
        refusal = (_remove_folder(name, fd) if is_folder else _remove_file(name, fd)) or refusal
    return refusal


def _remove_folder(name: str, parent: int) -> OSError | None:
    try:
        fd = os.open(name, OPEN_FOLDER, dir_fd=parent)
        try:
            refusal = _empty(fd)
        finally:
            os.close(fd)
        if not refusal:
            os.rmdir(name, dir_fd=parent)
    except OSError as error:
        return error
    return refusal


def _remove_file(name: str, parent: int) -> OSError | None:
    try:
        os.unlink(name, dir_fd=parent)
    except OSError as error:
        return error
    return None
