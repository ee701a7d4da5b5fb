"""Removing a tree, by folder descriptor: symbolic links are never followed, and no tree is too deep."""

import errno
import os
import stat

from dagferry_follow.volume.tree import FOLDER_MODE, OPEN_FOLDER


def remove(folder: str) -> None:
    """Remove a folder and everything in it, also if someone took away the permission to read or write.

    What cannot be removed stays (bytecode of another user, for example), the rest is removed; then one of the
    ``OSError``s is raised. Folders may be nested however deep: nothing recurses, and two descriptors are enough.
    """
    try:
        fd = _open(folder, None)
    except FileNotFoundError:
        return
    removal = _Removal(fd)
    try:
        removal.empty()
    finally:
        os.close(removal.fd)
    if removal.refusal:
        raise removal.refusal
    os.rmdir(folder)


class _Removal:
    """Where a removal is: ``fd`` is the folder that is being emptied, ``refusal`` the first error."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.refusal: OSError | None = None
        self._items: list[tuple[str, bool]] = []  # what is left to remove in it, and whether that is a folder
        self._above: list[tuple[str, tuple[int, int], list[tuple[str, bool]]]] = []  # its name, and its parent

    def empty(self) -> None:
        """Remove everything in the folder. Raises ``OSError`` if it was moved meanwhile."""
        self._list()
        while self._items or self._above:
            if not self._items:
                self._leave()
                continue
            name, is_folder = self._items.pop()
            try:
                if is_folder:
                    self._enter(name)
                else:
                    os.unlink(name, dir_fd=self.fd)
            except OSError as error:
                self._refused(error)

    def _enter(self, name: str) -> None:
        fd, outer = _open(name, self.fd), os.fstat(self.fd)
        self._above.append((name, (outer.st_dev, outer.st_ino), self._items))
        self._go(fd, [])
        self._list()

    def _leave(self) -> None:
        """Remove the folder, which is empty unless something was refused, and go on in its parent."""
        name, parent, items = self._above.pop()
        self._go(os.open("..", OPEN_FOLDER, dir_fd=self.fd), items)
        outer = os.fstat(self.fd)
        if (outer.st_dev, outer.st_ino) != parent:  # what is here now is not to be touched
            raise OSError(errno.ESTALE, f"The folder {name} was moved while it was removed")
        try:
            os.rmdir(name, dir_fd=self.fd)
        except OSError as error:
            self._refused(error)

    def _list(self) -> None:
        try:
            if os.fstat(self.fd).st_mode & stat.S_IRWXU != stat.S_IRWXU:
                os.fchmod(self.fd, FOLDER_MODE)
            with os.scandir(self.fd) as items:
                self._items = [(item.name, item.is_dir(follow_symlinks=False)) for item in items]
        except OSError as error:
            self._refused(error)

    def _go(self, fd: int, items: list[tuple[str, bool]]) -> None:
        os.close(self.fd)
        self.fd, self._items = fd, items

    def _refused(self, error: OSError) -> None:
        self.refusal = self.refusal or error


def _open(name: str, parent: int | None) -> int:
    """Open a folder, also one that may not be read, if it can be made readable."""
    try:
        return os.open(name, OPEN_FOLDER, dir_fd=parent)
    except PermissionError:
        handle = os.open(name, os.O_PATH | OPEN_FOLDER, dir_fd=parent)
        try:
            os.chmod(f"/proc/self/fd/{handle}", FOLDER_MODE)
        finally:
            os.close(handle)
        return os.open(name, OPEN_FOLDER, dir_fd=parent)
