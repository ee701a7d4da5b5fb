"""A tree: the files of one bundle in a folder. Checking one, touching its files.

``check`` finds what a user, a power loss or a failing disk did to a published tree. ``__pycache__`` folders and group
permissions are ignored: Airflow writes the first, and Kubernetes sets the second for the ``fsGroup`` of a pod.

Everything is done by folder descriptor, and symbolic links are never followed, so nothing outside the tree is read or
changed.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.limits import PIECE_BYTES
from dagferry_follow.errors import AnswerInvalid
from dagferry_follow.small_files import OPEN_FILE
from dagferry_follow.volume.attributes import same_mtime, set_mode, set_mtime_not_before

FOLDER_MODE = 0o755
SECOND_NS = 10**9
AHEAD_NS = 10**6
"""How much newer a changed file is than one that only depends on it: Airflow reads the newest files first."""
CACHE = "__pycache__"
BLOCK_BYTES = 4096
"""The disk usage of the smallest file, or of a folder, on most volumes."""

OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

CORRUPT_ERRORS = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EIO, errno.ENXIO}
)
"""The errors for a file that is missing, is something else or is unreadable. Any other error (out of memory, out of
descriptors) says nothing about the tree."""
FULL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT})

OWNER_AND_OTHERS = 0o707
_NO_MTIME = -1
"""The mtime of a corrupt file: no file has it, so a corrupt one never counts as intact."""
_NOT_NAMES = frozenset({"", ".", ".."})


class Tree(NamedTuple):
    """A complete tree: its folder, its manifest, and the mtime in ns each file had when it was published or touched.

    ``modes``: whether its volume keeps modes; if not, they are not compared.
    """

    folder: str
    manifest: Manifest
    mtimes: dict[str, int]
    modes: bool = True


class Damage(NamedTuple):
    """What is wrong with a tree.

    ``corrupt`` are files that are missing or not as published; ``unexpected`` is what can be repaired without their
    content: names that should not be there, folders that others cannot enter.
    """

    corrupt: list[str]
    unexpected: list[str]

    def __bool__(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.corrupt or self.unexpected)


class Folders:
    """The open folders on the path to one file of a tree.

    The paths of a manifest are sorted, so the files of a folder come together: each is opened (or created) once.
    """

    __slots__ = ("_fds", "_make", "_names", "_parent")

    def __init__(self, folder: str, *, make: bool = False) -> None:
        self._fds = [os.open(folder, OPEN_FOLDER)]
        self._names: list[str] = []
        self._parent: str | None = ""
        self._make = make

    def enter(self, path: str) -> tuple[int, str]:
        """Return the descriptor of the folder of ``path``, and the file's name in it."""
        parent, slash, name = path.rpartition("/")
        if parent != self._parent:
            self._change_to(parent)
        _check_name(name if parent or not slash else "")  # "/x" has an empty component too
        return self._fds[-1], name

    def _change_to(self, parent: str) -> None:
        names = parent.split("/") if parent else []
        shared = 0
        while shared < min(len(names), len(self._names)) and names[shared] == self._names[shared]:
            shared += 1
        self._parent = None  # unknown, should one of the next calls fail
        while len(self._names) > shared:
            self._names.pop()
            os.close(self._fds.pop())
        for name in names[shared:]:
            _check_name(name)
            if self._make:
                os.mkdir(name, FOLDER_MODE, dir_fd=self._fds[-1])
            self._fds.append(os.open(name, OPEN_FOLDER, dir_fd=self._fds[-1]))
            self._names.append(name)
            if self._make:
                set_mode(self._fds[-1], FOLDER_MODE)  # mkdir applies the umask
        self._parent = parent

    def close(self) -> None:
        """Close the descriptors."""
        while self._fds:
            os.close(self._fds.pop())


def _check_name(name: str) -> None:
    # The server has checked every path, but writing outside the tree would be too dangerous to rely on that.
    if name in _NOT_NAMES or "\0" in name:
        raise AnswerInvalid(f"The manifest has a path that leaves the tree: it has a component {name!r}.")


def as_published(status: os.stat_result, entry: Entry, mtime: int | None, *, modes: bool) -> bool:
    """Return whether a file looks as published; with ``mtime`` ``None``, or without ``modes``, these do not count."""
    return (
        stat.S_ISREG(status.st_mode)
        and (not modes or status.st_mode & OWNER_AND_OTHERS == entry.mode & OWNER_AND_OTHERS)
        and status.st_size == entry.size
        and (mtime is None or same_mtime(status.st_mtime_ns, mtime))
    )


def on_disk(size: int) -> int:
    """Return what a file of ``size`` bytes takes on disk."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def pieces_of(fd: int) -> Iterator[bytes]:
    """Yield the content of an open file in pieces."""
    while piece := os.read(fd, PIECE_BYTES):
        yield piece


# --- checking --------------------------------------------------------------------------------------------------------


def check(tree: Tree) -> Damage:
    """Compare names, sizes, modes and mtimes with what was published; contents are not read. It takes 5 µs a file."""

    def fits(entry: Entry, item: "os.DirEntry[str]", _folder: int) -> bool:
        return as_published(item.stat(follow_symlinks=False), entry, tree.mtimes[entry.path], modes=tree.modes)

    return _compare(tree.folder, tree.manifest, fits, modes=tree.modes)


def read_and_check(folder: str, manifest: Manifest, *, modes: bool = True) -> tuple[Tree, Damage]:
    """Compare the tree in ``folder`` with ``manifest``, contents included; mtimes are accepted as they are."""
    mtimes: dict[str, int] = {}

    def fits(entry: Entry, item: "os.DirEntry[str]", folder_fd: int) -> bool:
        fd = os.open(item.name, OPEN_FILE, dir_fd=folder_fd)
        try:
            status = os.fstat(fd)
            if not as_published(status, entry, None, modes=modes):
                return False
            content = hashlib.sha256()
            for piece in pieces_of(fd):
                content.update(piece)
        finally:
            os.close(fd)
        mtimes[entry.path] = status.st_mtime_ns
        return content.hexdigest() == entry.sha256

    damage = _compare(folder, manifest, fits, modes=modes)
    mtimes.update((path, _NO_MTIME) for path in damage.corrupt)
    return Tree(folder, manifest, mtimes, modes), damage


_Fits = Callable[[Entry, "os.DirEntry[str]", int], bool]


def _compare(folder: str, manifest: Manifest, fits: _Fits, *, modes: bool) -> Damage:
    comparison = _Comparison(manifest, fits, modes=modes)
    try:
        fd = os.open(folder, OPEN_FOLDER)
    except OSError as error:
        if error.errno not in CORRUPT_ERRORS:
            raise
        return Damage(list(manifest.files), [folder])
    try:
        comparison.look_into(fd, "")
    finally:
        os.close(fd)
    intact = comparison.intact
    corrupt = [path for path in manifest.files if path not in intact] if len(intact) < len(manifest.files) else []
    return Damage(corrupt, comparison.unexpected)


class _Comparison:
    """What was found so far: the files that are as published, and the names that should not be there."""

    __slots__ = ("_files", "_fits", "_folders", "_modes", "intact", "unexpected")

    def __init__(self, manifest: Manifest, fits: _Fits, *, modes: bool) -> None:
        self._modes = modes
        self._files = manifest.files
        self._folders = folders_of(manifest)
        self._fits = fits
        self.intact: set[str] = set()
        self.unexpected: list[str] = []

    def look_into(self, fd: int, prefix: str) -> None:
        if self._modes and os.fstat(fd).st_mode & OWNER_AND_OTHERS != FOLDER_MODE & OWNER_AND_OTHERS:
            self.unexpected.append(prefix)
        with os.scandir(fd) as items:
            for item in items:
                self._look_at(item, fd, prefix + item.name)

    def _look_at(self, item: "os.DirEntry[str]", fd: int, path: str) -> None:
        try:
            self._compare_with_manifest(item, fd, path)
        except OSError as error:
            if error.errno not in CORRUPT_ERRORS:
                raise

    def _compare_with_manifest(self, item: "os.DirEntry[str]", fd: int, path: str) -> None:
        entry = self._files.get(path)
        if entry is not None:
            if self._fits(entry, item, fd):
                self.intact.add(path)
        elif path in self._folders:
            inner = os.open(item.name, OPEN_FOLDER, dir_fd=fd)
            try:
                self.look_into(inner, path + "/")
            finally:
                os.close(inner)
        elif item.name != CACHE and f"/{CACHE}/" not in f"/{path}":
            self.unexpected.append(path)


def folders_of(manifest: Manifest) -> set[str]:
    """Return the folders of the files of a manifest, without the top one."""
    folders: set[str] = set()
    for path in manifest.files:
        parent = path.rpartition("/")[0]
        while parent and parent not in folders:
            folders.add(parent)
            parent = parent.rpartition("/")[0]
    return folders


# --- touching --------------------------------------------------------------------------------------------------------


def touch(tree: Tree, paths: Iterable[str], now: float) -> None:
    """Set the mtimes of ``paths`` (those the tree still has) to ``now``, seconds since the epoch; never backwards.

    Those that are newer than others by ``AHEAD_NS`` stay so. A file that is not as published is not touched, so that
    ``check`` still finds it.
    """
    paths = list(paths)
    newest = max((tree.mtimes.get(path, 0) for path in paths), default=0)
    folders = Folders(tree.folder)
    try:
        for path in paths:
            entry = tree.manifest.files.get(path)
            if entry is None:
                continue
            folder, name = folders.enter(path)
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if as_published(status, entry, tree.mtimes[path], modes=tree.modes):
                mtime = int(now * SECOND_NS) - (AHEAD_NS if tree.mtimes[path] <= newest - AHEAD_NS else 0)
                tree.mtimes[path] = set_mtime_not_before(folder, name, max(mtime, tree.mtimes[path]))
    finally:
        folders.close()
