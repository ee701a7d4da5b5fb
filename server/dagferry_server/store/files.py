"""How the local store writes: a file appears under its name complete and durable, or not at all, and is private."""

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable
from typing import BinaryIO

TEMPORARY = ".new-"
"""The prefix of the name of a file that is not complete yet."""

BUFFER_BYTES = 1 << 20

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700
SHARED_FILE, FOR_GROUP = 0o660, 0o070
"""In a folder that its setgid bit shares with a group, whatever the umask: the next server may be another of them."""


def publish(folder: str, name: str, write: Callable[[BinaryIO], object], *, exclusive: bool = False) -> bool:
    """Write a file under a temporary name, sync it and give it its name; return whether it got it.

    That is ``False`` only with ``exclusive``, if the name exists. The name itself is durable after ``sync_folder``,
    which the caller calls once for all files of a step.
    """
    temporary = os.path.join(folder, TEMPORARY + secrets.token_hex(8))
    final = os.path.join(folder, name)
    try:
        with open(temporary, "xb", buffering=BUFFER_BYTES, opener=open_private) as file:
            _give_to_owner(file.fileno(), folder)
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if not exclusive:
            os.rename(temporary, final)
            return True
        try:
            # A rename would replace an existing file; a link fails, and so decides who was first.
            os.link(temporary, final)
        except FileExistsError:
            return False
        return True
    finally:
        with contextlib.suppress(OSError):  # a file that stays is removed at the next start
            remove(temporary)


def remove(path: str) -> None:
    """Delete a file, if it exists."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def sync_folder(folder: str) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: str, mode: int = PRIVATE_FOLDER) -> None:
    """Create a folder durably, and its parents with the usual permissions, if missing."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    make_folder(parent, 0o777)
    os.mkdir(path, mode)
    if _is_shared(parent):
        os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) | FOR_GROUP)
    sync_folder(parent)


def make_private(folder: str, names: Iterable[str] = ()) -> None:
    """Remove the permissions of others from a folder and some of its files: older versions created them with some.

    The group keeps its permissions if the folder is setgid: that is how Kubernetes (fsGroup) shares a volume with the
    users it runs a pod as. What belongs to another user, or is on a volume with fixed modes, stays as it is.
    """
    from_others = 0o007 if _is_shared(folder) else 0o077
    for path in (folder, *(os.path.join(folder, name) for name in names)):
        mode = stat.S_IMODE(os.stat(path).st_mode)
        if mode & from_others:
            with contextlib.suppress(OSError):
                os.chmod(path, mode & ~from_others)


def _give_to_owner(descriptor: int, folder: str) -> None:
    """Give a file that root writes, as new-log-id may, to the owner of the folder, who could not read it otherwise."""
    if os.geteuid() != 0:
        return
    owner = os.stat(folder)
    if owner.st_uid != 0:
        with contextlib.suppress(OSError):
            os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _is_shared(folder: str) -> bool:
    return bool(os.stat(folder).st_mode & stat.S_ISGID)


def open_private(path: str, flags: int) -> int:
    """Open a file, and create it for the owner alone, or for the group too where its folder is shared with it."""
    descriptor = os.open(path, flags, PRIVATE_FILE)
    if flags & os.O_CREAT and _is_shared(os.path.dirname(path)):
        with contextlib.suppress(OSError):  # it was there, and belongs to another user of the group
            os.fchmod(descriptor, SHARED_FILE)
    return descriptor


def sweep(folder: str, prefix: str = TEMPORARY) -> int:
    """Delete the files whose name starts with ``prefix``, left by a run that was killed; return their number."""
    names = [name for name in os.listdir(folder) if name.startswith(prefix)]
    for name in names:
        remove(os.path.join(folder, name))
    return len(names)


def sweep_orphans(folder: str, pattern: "re.Pattern[str]", suffix: str) -> None:
    """Delete the files whose name matches ``pattern`` and that lack the file they belong to.

    The name of that file is the pattern's first group, followed by ``suffix``.
    """
    names = set(os.listdir(folder))
    for name in names:
        if (match := pattern.fullmatch(name)) and match[1] + suffix not in names:
            remove(os.path.join(folder, name))
