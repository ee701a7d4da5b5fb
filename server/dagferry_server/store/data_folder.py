"""The server's data folder: it belongs to one server at a time, and holds uploads while they are received.

::

    <root>/.lock                    locked (flock) while a server runs; no deployment can have this name
    <root>/.check-*/                DAG files while they are checked; removed at the next start
    <root>/<deployment>/incoming/   scratch files of uploads; they have no names, or are removed at the next start

Everything else in it belongs to the local store: see ``dagferry_server.store.local``.
"""

import contextlib
import errno
import fcntl
import math
import os
import shutil
import tempfile
from typing import BinaryIO

from dagferry_core.errors import SetupError
from dagferry_core.limits import PIECE_BYTES
from dagferry_gate.ruff import FOLDER_PREFIX
from dagferry_server.errors import StoreAway, StoreInUse
from dagferry_server.store.base import storage_errors
from dagferry_server.store.files import TEMPORARY, make_folder, make_private, open_private, sweep, sync_folder

LOCK_NAME = ".lock"
_NO_RIGHTS = {errno.EACCES, errno.EPERM}


class DataFolder:
    """The folder ``root``, created if missing, and its lock; ``StoreInUse`` if another server holds the lock.

    ``SetupError`` if ``root`` is not a folder, ``StoreAway`` if it cannot be written. The lock is released when the
    process ends, however it ends. The folder is private, except for a group that has its setgid bit: see
    ``make_private``.
    """

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        with storage_errors(f"Making the data folder {self.root}"):
            try:
                make_folder(self.root)
                make_private(self.root)
                self._lock = self._open_lock()
            except FileExistsError as error:
                # A folder whose volume fails is not recognized as one either; that is not a wrong setting.
                if not os.path.exists(error.filename) or os.path.isdir(error.filename):
                    raise
                raise SetupError(f"--data-dir {self.root}: {error.filename} is not a folder.") from error
            except OSError as error:
                # Nor is a volume that turned read-only a wrong setting; the read-only files of an image are.
                if error.errno in _NO_RIGHTS or (error.errno == errno.EROFS and not os.path.isdir(self.root)):
                    raise StoreAway(
                        f"The data folder {self.root} cannot be used: {error.filename}: {error.strerror}.",
                        "Choose a folder you can write: --data-dir DIR",
                    ) from error
                raise
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(self._lock)
                raise StoreInUse(f"Another server uses the data folder {self.root}.") from error

    def _open_lock(self) -> int:
        return open_private(os.path.join(self.root, LOCK_NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)

    def close(self) -> None:
        """Release the lock."""
        os.close(self._lock)

    def volume_bytes(self) -> tuple[float, float]:
        """Return the size of the volume and what is free on it, in bytes; NaN if it cannot be read. Blocks."""
        try:
            volume = os.statvfs(self.root)
        except OSError:
            return math.nan, math.nan
        return volume.f_frsize * volume.f_blocks, volume.f_frsize * volume.f_bavail

    def remove_checks(self) -> None:
        """Remove the DAG files that an earlier run was checking when it was killed."""
        with contextlib.suppress(OSError):  # a volume that cannot be read now may be one later
            for name in os.listdir(self.root):
                if name.startswith(FOLDER_PREFIX):
                    shutil.rmtree(os.path.join(self.root, name), ignore_errors=True)

    def prepare(self, deployment: str) -> None:
        """Create the deployment's scratch folder if missing, and remove what an earlier run left in it."""
        with storage_errors(f"Preparing the scratch folder of {deployment}"):
            sweep(self.root)
            sync_folder(self.root)  # a run that was killed may not have done that
            make_folder(self._incoming(deployment))
            make_private(self._incoming(deployment))
            sweep(self._incoming(deployment))

    def scratch_file(self, deployment: str) -> BinaryIO:
        """Return a new empty file that is deleted when it is closed, or when the server dies."""
        with storage_errors("Opening a scratch file"):
            return tempfile.TemporaryFile(  # type: ignore[return-value]
                "w+b", buffering=PIECE_BYTES, prefix=TEMPORARY, dir=self._incoming(deployment)
            )

    @staticmethod
    def discard(file: BinaryIO) -> None:
        """Close a scratch file. That may try to write its buffer again and fail, which does not matter."""
        with contextlib.suppress(OSError):
            file.close()

    def _incoming(self, deployment: str) -> str:
        return os.path.join(self.root, deployment, "incoming")
