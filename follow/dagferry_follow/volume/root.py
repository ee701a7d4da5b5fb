"""The root folder of a volume: which process owns it, and the link in it that Airflow reads through."""

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator

from dagferry_follow.errors import RootInUse, RootUnusable, VolumeFailed
from dagferry_follow.log import Log
from dagferry_follow.volume.attributes import set_mode
from dagferry_follow.volume.capabilities import keeps_modes
from dagferry_follow.volume.tree import FOLDER_MODE

CURRENT = "current"
TREES = ".trees"
LOCK = "lock"
LOCK_HINT = (
    "The volume must support file locks (flock). Mount NFS with local_lock=flock if its server does not support them, "
    "and a CIFS or Azure Files share with nobrl."
)

ID_BYTES = 16

_ID = re.compile(rb"[0-9a-f]{32}")
_TARGET = re.compile(r"\.trees/([0-9a-f]{16})/([A-Za-z0-9-]+)")

log = Log(__name__)


class Root:
    """The root folder ``path``, owned until ``close``.

    ``trees`` is the folder of its trees, ``link`` the link ``current``; ``modes`` is whether its volume keeps modes.
    Raises ``RootUnusable`` if the folder cannot be used or its volume lacks what it must have, ``RootInUse`` if it has
    an owner.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.trees = f"{path}/{TREES}"
        self.link = f"{path}/{CURRENT}"
        self._lock = -1
        self._id = b""
        self.own()
        try:
            with failures(path):
                self.modes = keeps_modes(path, self.folder_of(os.urandom(8).hex()))
        except BaseException:
            self.close()
            raise

    def own(self) -> bool:
        """Create the folders and lock them, unless that is done; return whether the folder of the trees is new.

        Someone may have removed them since. Raises ``RootUnusable`` or ``RootInUse``.
        """
        path = f"{self.trees}/{LOCK}"
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(self._lock), os.lstat(path)):
                return False
        if self._lock >= 0:
            log.warning("%s is missing. It is created again.", path)
        try:
            made = self._make_folders()
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise RootUnusable(f"{error.filename or self.path} cannot be used: {error.strerror}.") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise RootInUse(f"Another sidecar owns {self.path}.") from error
        except OSError as error:
            os.close(lock)
            raise RootUnusable(f"{path} cannot be locked: {error.strerror}.", LOCK_HINT) from error
        self.close()
        self._lock = lock
        if self._id:
            self._write_id()
        return made

    def identity(self) -> str:
        """Return the random id of this volume, which is made when it is first asked for, and kept in the lock's file.

        A volume that cannot keep it gets another one at the next start.
        """
        if not self._id:
            with contextlib.suppress(OSError):
                self._id = os.pread(self._lock, 2 * ID_BYTES + 1, 0)
            if not _ID.fullmatch(self._id):
                self._id = os.urandom(ID_BYTES).hex().encode()
                self._write_id()
        return self._id.decode()

    def _write_id(self) -> None:
        try:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, self._id, 0)
        except OSError as error:
            log.warning("The volume's id cannot be kept in %s/%s: %s.", self.trees, LOCK, error.strerror)

    def _make_folders(self) -> bool:
        if not os.path.isdir(self.path):
            os.makedirs(self.path, FOLDER_MODE)
            set_mode(self.path, FOLDER_MODE)
        mode = stat.S_IMODE(os.stat(self.path).st_mode)
        if not mode & 0o055:
            try:
                os.chmod(self.path, mode | 0o055)  # noqa: S103 - other users are to read it
                if os.stat(self.path).st_mode & 0o055:  # else the volume keeps no modes, and a warning follows
                    log.warning("No other user could read %s. Its mode was changed so that all can.", self.path)
            except PermissionError:
                log.warning(
                    "No other user can read %s. It belongs to another user, who has to change its mode.", self.path
                )
        if not self.target() and os.path.lexists(self.link):
            if self._lock < 0 and not os.path.isdir(self.trees):
                raise RootUnusable(
                    f"{self.link} is not a link that a sidecar created.", "Move it away, or use another --root."
                )
            log.warning("%s is not a link that a sidecar created. It is replaced.", self.link)
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.trees)
            set_mode(self.trees, FOLDER_MODE)
            return True
        return False

    def close(self) -> None:
        """Release the ownership."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def published_version(self) -> str:
        """Return the version that ``current`` points at right now, or ``""``; safe to call from any thread."""
        with contextlib.suppress(OSError, RootUnusable):
            target = self.target()
            if target and os.path.isdir(f"{self.path}/{target}"):
                return target.rpartition("/")[2]
        return ""

    def published_tree(self) -> str:
        """Return the tree that ``current`` points at right now, as ``<unique>/<version>``, or ``""``; as above."""
        with contextlib.suppress(OSError, RootUnusable):
            return self.target().removeprefix(f"{TREES}/")
        return ""

    def target(self) -> str:
        """Return what the link points at; ``""`` if it is missing, or something else that a rename replaces.

        Raises ``RootUnusable`` if a folder has its name.
        """
        try:
            target = os.readlink(self.link)
        except FileNotFoundError:
            return ""
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            if os.path.isdir(self.link):
                raise self._in_the_way() from error
            return ""
        return target if _TARGET.fullmatch(target) else ""

    def _in_the_way(self) -> RootUnusable:
        return RootUnusable(f"{self.link} is a folder, not a symbolic link.", "Move it away, or use another --root.")

    def folder_of(self, unique: str) -> str:
        """Return the folder that has one tree and its records."""
        return f"{self.trees}/{unique}"

    @staticmethod
    def target_of(unique: str, version: str) -> str:
        """Return the target of the link for a tree: its path relative to the root."""
        return f"{TREES}/{unique}/{version}"

    def point_at(self, target: str) -> None:
        """Make the link point at ``target`` by one rename, whatever it pointed at before."""
        temporary = f"{self.trees}/link-{os.urandom(8).hex()}"
        os.symlink(target, temporary)
        try:
            os.rename(temporary, self.link)
        except BaseException as error:
            with contextlib.suppress(FileNotFoundError):  # a signal may strike right after the rename
                os.unlink(temporary)
            if isinstance(error, IsADirectoryError):
                raise self._in_the_way() from error
            raise


@contextlib.contextmanager
def failures(path: str) -> Iterator[None]:
    """Turn an ``OSError`` into a ``VolumeFailed`` that names the file, or ``path`` if the error does not name one."""
    try:
        yield
    except OSError as error:
        # Errors of system calls by folder descriptor have only the last name, or a number.
        known = isinstance(error.filename, str) and os.path.isabs(error.filename)
        raise VolumeFailed(f"{error.filename if known else path}: {error.strerror}.") from error
