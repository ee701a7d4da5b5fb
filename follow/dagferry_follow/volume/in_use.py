"""Which trees processes use: each process holds a shared lock (``flock``) on a file of its tree.

A process that reads a tree for as long as it runs, such as a task of Airflow, calls ``hold``; a process that removes
trees spares those that are held. The kernel releases the lock when the process ends, however it ends, so there is
nothing to clean up after a kill. The lock belongs to the open file: a forked child has it too, until it ends; a program
that is started (``exec``) does not, so no program that a task leaves behind keeps a tree.

Permission to read is enough to hold a tree, also through a read-only mount. The file is the tree's manifest: every tree
has one, those of older releases too, and it is written once.
"""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterable, Iterator

from dagferry_follow.small_files import open_file
from dagferry_follow.volume.records import ENDED, MANIFEST
from dagferry_follow.volume.root import CURRENT, TREES

HOLD_ATTEMPTS = 50
"""How often ``hold`` tries while another process has the file locked: one that only looks has it for microseconds."""
HOLD_PAUSE_SECONDS = 0.01

_BUSY = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES})
"""What ``flock`` fails with where another process has the lock; NFS has ``EACCES`` for it."""
_NOT_NOW = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""What opening a file fails with for lack of something that has nothing to do with the file."""


def hold(root: str, unique: str) -> int:
    """Use the tree ``unique`` under ``root`` until this process ends, and return the descriptor that holds it.

    Raises ``FileNotFoundError`` if the tree is gone, or is being removed, and another ``OSError`` if this volume has no
    locks, or the file cannot be read.
    """
    folder = f"{root}/{TREES}/{unique}"
    path = f"{folder}/{MANIFEST}"
    fd = open_file(path)
    try:
        for _ in range(HOLD_ATTEMPTS):
            if is_held := _lock(fd, fcntl.LOCK_SH):
                break
            time.sleep(HOLD_PAUSE_SECONDS)
        # It may have been removed, or half of it, before it was locked.
        if not (is_held and is_published(root, unique) and os.path.samestat(os.fstat(fd), os.lstat(path))):
            raise _gone(path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def used(root: str, uniques: Iterable[str]) -> frozenset[str]:
    """Return the unique names of those of the trees under ``root`` that any process holds."""
    found = set()
    for unique in uniques:
        with unless_used(f"{root}/{TREES}/{unique}") as is_unused:
            if not is_unused:
                found.add(unique)
    return frozenset(found)


@contextlib.contextmanager
def unless_used(folder: str) -> Iterator[bool]:
    """Yield whether no process holds the tree in ``folder``; then none can until the end of the block.

    A tree that cannot be locked counts as unused: it stays for as long as the rules say, as without locks.
    """
    try:
        fd = _open(f"{folder}/{MANIFEST}")
    except OSError as error:
        yield error.errno not in _NOT_NOW
        return
    try:
        try:
            is_unused = _lock(fd, fcntl.LOCK_EX)
        except OSError:
            is_unused = True
        yield is_unused
    finally:
        os.close(fd)


def _open(path: str) -> int:
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path, os.O_RDWR | flags)  # NFS gives an exclusive lock only to who may write
    except OSError:
        return os.open(path, os.O_RDONLY | flags)


def _lock(fd: int, kind: int) -> bool:
    """Lock an open file, and return whether that was possible at once."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise
    return True


def is_published(root: str, unique: str) -> bool:
    """Return whether a tree was live or is; a removal takes its mark first."""
    if os.path.lexists(f"{root}/{TREES}/{unique}/{ENDED}"):
        return True
    with contextlib.suppress(OSError):
        return os.readlink(f"{root}/{CURRENT}").startswith(f"{TREES}/{unique}/")
    return False


def _gone(path: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
