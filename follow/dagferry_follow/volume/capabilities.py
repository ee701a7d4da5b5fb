"""What a volume supports, tried out in a temporary folder before anything is published on it.

It must support symbolic links, replacing a file by rename, and setting modification times: without these a swap is not
safe, or Airflow does not see what changed. Modes are optional: CIFS, Azure Files, gcsfuse and vfat show the same mode
for every file, whatever is set, so there modes must not be compared with what was published.
"""

import functools
import os
import stat
from collections.abc import Callable

from dagferry_follow.errors import RootUnusable
from dagferry_follow.log import Log
from dagferry_follow.volume import removal as removing
from dagferry_follow.volume.attributes import set_mode
from dagferry_follow.volume.tree import FOLDER_MODE, FULL_ERRORS, OWNER_AND_OTHERS, SECOND_NS

FILE_MODES = (0o755, 0o644)
"""The modes that files of a bundle have."""
TRIED_MTIME_NS = 1_600_000_000 * SECOND_NS
"""An even second: the coarsest volumes keep only even seconds."""
OTHERS_READ, OTHERS_ENTER = 0o004, 0o005

LINKS_HINT = (
    "Mount a CIFS or Azure Files share with the option mfsymlinks. vfat and exFAT have no symbolic links at all. "
    "Any local disk does, and so does an emptyDir."
)
RENAME_HINT = "Use a volume where a rename replaces an existing file, as on every local disk."
MTIME_HINT = (
    "Use a volume that keeps modification times. If all files belong to a fixed user, as on CIFS and Azure Files, "
    "mount it with uid= of the user that the sidecar runs as, or with noperm."
)

log = Log(__name__)


def keeps_modes(root: str, folder: str) -> bool:
    """Try out the volume of ``root`` in ``folder``, which is created and removed; return whether it keeps modes.

    Returns ``False`` also if the volume is too full to find out. Raises ``RootUnusable`` if it lacks something
    required, and ``OSError`` if ``folder`` cannot be created or removed.
    """
    try:
        os.mkdir(folder)
    except OSError as error:
        if error.errno in FULL_ERRORS:
            return False
        raise
    try:
        return _try(root, folder)
    except OSError as error:
        if error.errno in FULL_ERRORS:
            return False
        raise
    finally:
        removing.remove(folder)


def _try(root: str, folder: str) -> bool:
    file, link = f"{folder}/file", f"{folder}/link"
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    kept = _try_modes(root, folder, file)
    try:
        os.utime(file, ns=(TRIED_MTIME_NS, TRIED_MTIME_NS))
    except OSError as error:
        raise _lacking(error, f"{root} does not support setting modification times", MTIME_HINT) from error
    if os.stat(file).st_mtime_ns != TRIED_MTIME_NS:
        raise RootUnusable(f"{root} does not keep modification times.", MTIME_HINT)
    try:
        os.symlink("nowhere", link)
    except OSError as error:
        raise _lacking(error, f"{root} does not support symbolic links", LINKS_HINT) from error
    try:
        os.rename(link, file)
    except OSError as error:
        raise _lacking(error, f"{root} does not support replacing a file by rename", RENAME_HINT) from error
    return kept


def _lacking(error: OSError, what: str, hint: str) -> Exception:
    return error if error.errno in FULL_ERRORS else RootUnusable(f"{what}: {error.strerror}.", hint)


def _try_modes(root: str, folder: str, file: str) -> bool:
    shown = {}
    for path, mode in ((folder, FOLDER_MODE), *((file, mode) for mode in FILE_MODES)):
        set_mode(path, mode)
        shown[path, mode] = stat.S_IMODE(os.stat(path).st_mode)
    if all(found & OWNER_AND_OTHERS == mode & OWNER_AND_OTHERS for (_, mode), found in shown.items()):
        return True
    of_folder, of_file = shown[folder, FOLDER_MODE], shown[file, FILE_MODES[-1]]
    text = f"{root} does not keep modes: folders show {of_folder:04o}, files {of_file:04o}. Modes are not compared."
    if of_folder & OTHERS_ENTER == OTHERS_ENTER and of_file & OTHERS_READ:
        _log_once(log.info, text)
    else:
        _log_once(log.warning, f"{text} Users other than the owner cannot read files: mount it with other modes.")
    return False


@functools.cache
def _log_once(write: Callable[[str, str], None], text: str) -> None:
    # The DAG bundle opens its volume again and again.
    write("%s", text)
