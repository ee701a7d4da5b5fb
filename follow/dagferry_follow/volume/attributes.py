"""Modes and mtimes of files, as far as a volume takes them."""

import errno
import os

FINE_NS = 10**7
"""Volumes that keep mtimes at least so finely need no rounding."""
COARSE_NS = (10**9, 2 * 10**9)
"""What coarser ones keep: whole seconds; every other one, as vfat."""

_MODE_REFUSED = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


def set_mode(where: int | str, mode: int) -> None:
    """Set the mode of an open file, or of a path. A volume that keeps none may refuse; a check sees what came of it."""
    try:
        os.chmod(where, mode)
    except OSError as error:
        if error.errno not in _MODE_REFUSED:
            raise


def set_mtime(folder: int, name: str, mtime: int) -> int:
    """Set the mtime of a file in ns, and return what the volume made of it: some keep whole seconds only."""
    os.utime(name, ns=(mtime, mtime), dir_fd=folder, follow_symlinks=False)
    return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime_ns


def stamp_mtime(folder: int, name: str, mtime: int) -> int:
    """Set an mtime that stands for a moment, in ns; return what the volume made of it, which is not before that moment.

    Airflow reads a file whose mtime is after its last parse: rounded down, what changed would pass for read already.
    """
    found = set_mtime(folder, name, mtime)
    for coarse in COARSE_NS:
        if mtime - found < FINE_NS:
            break
        found = set_mtime(folder, name, mtime + coarse)
    return found


def same_mtime(found: int, known: int) -> bool:
    """Tell whether a file has the mtime it was given, in ns.

    Some volumes show the one that was set, and later only its seconds: sshfs, and others that keep more in memory than
    on the other side.
    """
    return found == known or (found % COARSE_NS[0] == 0 and 0 < known - found < COARSE_NS[-1])
