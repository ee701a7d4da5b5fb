"""How the local store writes: a file appears under its name whole and durable, or not at all, for its owner alone."""

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable
from typing import BinaryIO

TEMPORARY = ".new-"
"""What the name of every file starts with that is not finished yet."""

BUFFER_BYTES = 1 << 20

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


def publish(folder: str, name: str, write: Callable[[BinaryIO], object], *, exclusive: bool = False) -> bool:
    """Write a file aside, sync it, and give it its name; ``exclusive`` returns ``False`` if the name is taken.

    The name itself is durable only after ``sync_folder``, which the caller calls once for all files of a step.
    """
    temporary = os.path.join(folder, TEMPORARY + secrets.token_hex(8))
    final = os.path.join(folder, name)
    try:
        with open(temporary, "xb", buffering=BUFFER_BYTES, opener=_privately) as file:
            _give_to_owner(file.fileno(), folder)
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if not exclusive:
            os.rename(temporary, final)
            return True
        try:
            # A rename would replace what is there; a link fails, and so decides who was first.
            os.link(temporary, final)
        except FileExistsError:
            return False
        return True
    finally:
        with contextlib.suppress(OSError):  # what stays is swept at the next start
            remove(temporary)


def remove(path: str) -> None:
    """Delete a file that may be gone already."""
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
    """Make a folder, and its parents as everybody has them, durably."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    make_folder(parent, 0o777)
    os.mkdir(path, mode)
    sync_folder(parent)


def make_private(folder: str, names: Iterable[str] = ()) -> None:
    """Take from others what they may do with a folder and some of its files, as older versions made them.

    Its group keeps what it has if the folder is setgid: so Kubernetes (fsGroup) shares a volume with the users it runs
    a pod as. What belongs to somebody else, or is on a volume with fixed modes, stays as it is.
    """
    from_others = 0o007 if os.stat(folder).st_mode & stat.S_ISGID else 0o077
    for path in (folder, *(os.path.join(folder, name) for name in names)):
        mode = stat.S_IMODE(os.stat(path).st_mode)
        if mode & from_others:
            with contextlib.suppress(OSError):
                os.chmod(path, mode & ~from_others)


def _give_to_owner(descriptor: int, folder: str) -> None:
    """Give what root writes, as with new-log-id, to whom the folder belongs: else they could not read it."""
    if os.geteuid() != 0:
        return
    owner = os.stat(folder)
    if owner.st_uid != 0:
        with contextlib.suppress(OSError):
            os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _privately(path: str, flags: int) -> int:
    return os.open(path, flags, PRIVATE_FILE)


def sweep(folder: str, prefix: str = TEMPORARY) -> int:
    """Delete the files whose name starts with ``prefix``, left by a run that was killed; return how many there were."""
    names = [name for name in os.listdir(folder) if name.startswith(prefix)]
    for name in names:
        remove(os.path.join(folder, name))
    return len(names)


def sweep_orphans(folder: str, pattern: "re.Pattern[str]", suffix: str) -> None:
    """Delete the files that match ``pattern``, but have no file beside them that ends in ``suffix`` instead.

    The pattern's first group is what the two names start with.
    """
    names = set(os.listdir(folder))
    for name in names:
        if (match := pattern.fullmatch(name)) and match[1] + suffix not in names:
            remove(os.path.join(folder, name))
