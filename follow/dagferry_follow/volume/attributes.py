"""Modes and mtimes of files, as far as a volume supports them."""

import errno
import os

FINE_NS = 10**7
"""Volumes that keep mtimes at least this precisely need no rounding."""
COARSE_NS = (10**9, 2 * 10**9)
"""What coarser volumes keep: whole seconds, or even seconds as vfat does."""

_MODE_REFUSED = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


def set_mode(where: int | str, mode: int) -> None:
    """Set the mode of an open file, or of a path. A volume without modes may refuse; a check finds out later."""
    try:
        os.chmod(where, mode)
    except OSError as error:
        if error.errno not in _MODE_REFUSED:
            raise


def set_mtime(folder: int, name: str, mtime: int) -> int:
    """Set the mtime of a file in ns, and return what the volume made of it: some keep only whole seconds."""
    os.utime(name, ns=(mtime, mtime), dir_fd=folder, follow_symlinks=False)
    return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime_ns


def set_mtime_not_before(folder: int, name: str, mtime: int) -> int:
    """Set the mtime of a file in ns, rounded up to what the volume can keep, and return it.

    Airflow reads a file again if its mtime is after the last parse. Rounded down, a change could look as if it had been
    read already.
    """
    found = set_mtime(folder, name, mtime)
    for coarse in COARSE_NS:
        if mtime - found < FINE_NS:
            break
        found = set_mtime(folder, name, mtime + coarse)
    return found


def same_mtime(found: int, known: int) -> bool:
    """Return whether a file has the mtime it was given, in ns.

    Some volumes first show the mtime that was set, and later only its seconds: sshfs, and others that keep more in
    memory than they store.
    """
    return found == known or (found % COARSE_NS[0] == 0 and 0 < known - found < COARSE_NS[-1])
