"""The server's data folder: it belongs to one server at a time, and holds what is being received.

::

    <root>/.lock                    held (flock) while a server runs; no deployment can have this name
    <root>/<deployment>/incoming/   scratch files of uploads; they have no names, or lose them at the next start

The rest of it is the local store's: see ``dagferry_server.store.local``.
"""

import contextlib
import errno
import fcntl
import os
import tempfile
from typing import BinaryIO

from dagferry_core.errors import SetupError
from dagferry_core.limits import PIECE_BYTES
from dagferry_server.errors import StoreAway, StoreInUse
from dagferry_server.store.base import storage_errors
from dagferry_server.store.files import PRIVATE_FILE, TEMPORARY, make_folder, make_private, sweep, sync_folder

LOCK_NAME = ".lock"
_NO_RIGHTS = {errno.EACCES, errno.EPERM}


class DataFolder:
    """The folder ``root``, made if it is not there, and its lock; ``StoreInUse`` if another server holds that.

    ``SetupError`` if something else stands there, ``StoreAway`` if it may not be written. The lock goes with the
    process, however it ends. Nobody else may look into the folder, but for a group that has its setgid bit: see
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
                # Nor does a folder look like one whose volume fails; that is no mistake in the setting.
                if not os.path.exists(error.filename) or os.path.isdir(error.filename):
                    raise
                raise SetupError(f"--data-dir {self.root}: {error.filename} is no folder.") from error
            except OSError as error:
                # A volume that turned read-only is no mistake in the setting either; an image's own files are.
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
        return os.open(os.path.join(self.root, LOCK_NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)

    def close(self) -> None:
        """Give the folder back."""
        os.close(self._lock)

    def prepare(self, deployment: str) -> None:
        """Make the deployment's scratch folder and remove what an earlier run left there."""
        with storage_errors(f"Preparing the scratch folder of {deployment}"):
            sweep(self.root)
            sync_folder(self.root)  # a run that was killed may not have come to that
            make_folder(self._incoming(deployment))
            make_private(self._incoming(deployment))
            sweep(self._incoming(deployment))

    def scratch_file(self, deployment: str) -> BinaryIO:
        """Return a new empty file that is gone when it is closed, or when the server dies."""
        with storage_errors("Opening a scratch file"):
            return tempfile.TemporaryFile(  # type: ignore[return-value]
                "w+b", buffering=PIECE_BYTES, prefix=TEMPORARY, dir=self._incoming(deployment)
            )

    @staticmethod
    def discard(file: BinaryIO) -> None:
        """Close a scratch file. What could not be written to it, and so fails once more, is not missed."""
        with contextlib.suppress(OSError):
            file.close()

    def _incoming(self, deployment: str) -> str:
        return os.path.join(self.root, deployment, "incoming")
