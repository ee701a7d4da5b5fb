"""Lists the files of a dags folder as they will be deployed: excluded files left away, links followed.

A link is deployed as what it points at. It may lead out of the dags folder, as in ``dags/include -> ../include``, but
not out of the project (``folder.bounds``): those need ``--include``. Whatever no server accepts is found here, and all
of it at once: names, links to nothing, loops, devices, unreadable files.
"""

import errno
import os
import stat
import sys
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from dagferry_client.local.checkout import Checkout
from dagferry_client.local.errors import FolderInvalid, IncludeInvalid, Problem
from dagferry_client.local.folder import DagsFolder, bounds, is_within
from dagferry_client.local.ignore import VENV_MARK, Ignore
from dagferry_core.archive.errors import PathRefused
from dagferry_core.archive.paths import check_length, check_path, quoted
from dagferry_core.limits import (
    MAX_DEPTH,
    MAX_EXPANDED_BYTES,
    MAX_FILES,
    MAX_PATHS_BYTES,
    MOST_EXPANDED_BYTES,
    MOST_FILE_BYTES,
    MOST_FILES,
)

MAX_PROBLEMS = 1000
"""After so many problems the search ends."""
MAX_TARGET_BYTES = 4096
"""The longest target of a link that a checkout has as a file."""

_LINK_ERRORS = {errno.ENOENT: "points at nothing.", errno.ELOOP: "is part of a loop."}


class Include(NamedTuple):
    """A file or folder that ``--include`` adds: ``name`` in the dags folder, its absolute ``path`` without links."""

    name: str
    path: str


class LocalFile(NamedTuple):
    """A file to deploy: its path in the bundle, where its content is (absolute, without links), its state.

    ``mode`` is 0o644 or 0o755. ``stamp`` changes whenever the content may have changed.
    """

    path: str
    source: str
    size: int
    mode: int
    stamp: tuple[int, ...]


class Scan(NamedTuple):
    """The files of a dags folder, unsorted.

    ``outside`` are the files and folders outside of the dags folder that links and ``--include`` added.
    """

    files: list[LocalFile]
    outside: list[str]
    warnings: list[str]


def parse_include(text: str) -> Include:
    """Read the NAME=PATH of ``--include``; raise ``IncludeInvalid`` if it is something else or not there."""
    name, equals, path = text.partition("=")
    if not equals or not name or not path:
        raise IncludeInvalid(f"--include {quoted(text)} is not NAME=PATH.")
    try:
        checked = check_path(name.encode(errors="surrogateescape"))
    except PathRefused as error:
        raise IncludeInvalid(f"--include {quoted(text)}: {error.message}") from error
    if not checked:
        raise IncludeInvalid(f"--include {quoted(text)} names the dags folder itself.")
    if not os.path.exists(path):
        raise IncludeInvalid(f"--include {quoted(text)}: there is no {quoted(path)}.", "Check the path after the =.")
    return Include(checked, os.path.realpath(path))


def scan(folder: DagsFolder, includes: Sequence[Include], checkout: Checkout) -> Scan:
    """List the files of ``folder`` and of ``includes``.

    Raises ``FolderInvalid`` with all that is wrong, and ``IgnoreFileInvalid``.
    """
    scanner = _Scanner(folder, includes, checkout)
    scanner.walk(folder.path, "", {})
    for include in sorted(includes):  # a folder before what is in it
        scanner.include(include)
    return scanner.result()


def portable(name: str, platform: str = sys.platform) -> str:
    """Return a file's name as other systems have it: macOS may store names in decomposed Unicode, as Git knows too."""
    return unicodedata.normalize("NFC", name) if platform == "darwin" and not name.isascii() else name


class _Scanner:
    def __init__(self, folder: DagsFolder, includes: Sequence[Include], checkout: Checkout) -> None:
        self._folder = folder
        self._ignore = Ignore(folder)
        self._bounds = bounds(folder)
        self._replaced = {include.name for include in includes}
        self._checkout = checkout
        self._files: dict[str, LocalFile] = {}
        self._folders: set[str] = set()
        self._outside: list[str] = []
        self._problems: list[Problem] = []
        self._seen = self._bytes = self._path_bytes = 0

    def walk(self, real: str, prefix: str, above: dict[tuple[int, int], str]) -> None:
        """Add what is in the folder ``real`` under the paths that begin with ``prefix`` (``""``, or with a slash).

        ``above`` are the folders that are being walked, by device and inode.
        """
        try:
            found = os.stat(real)
            identity = (found.st_dev, found.st_ino)
            if identity in above:
                self._add_problem(prefix[:-1], "points to a folder that contains it, so it has no end.")
                return
            with os.scandir(real) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self._add_problem(prefix[:-1] or self._folder.shown, f"cannot be read: {error.strerror}.")
            return
        if prefix and any(entry.name == VENV_MARK for entry in listed):
            return
        above[identity] = prefix
        for entry in listed:
            path = prefix + portable(entry.name)
            if path in self._replaced and (entry.is_symlink() or entry.path in self._checkout.links):
                continue
            self._add(entry, path, above)
        del above[identity]

    def include(self, include: Include) -> None:
        """Add what ``--include`` names."""
        self._outside.append(include.path)
        above = include.name
        while above:
            if above in self._files or (above == include.name and above in self._folders):
                self._add_problem(
                    above, f"is in the dags folder, so --include {include.name}=… cannot add {quoted(include.name)}."
                )
                return
            above = above.rpartition("/")[0]
        self._add_real(include.path, include.name, None, {})

    def result(self) -> Scan:
        """Return what was found; raise ``FolderInvalid`` if anything is wrong."""
        if not self._problems and not self._files:
            raise FolderInvalid(
                [Problem("", f"There are no files to deploy in {quoted(self._folder.shown)}.")],
                "Check the path, and .dagferryignore. A server with --allow-empty takes an empty archive from curl.",
            )
        if self._problems:
            raise FolderInvalid(self._problems)
        warnings = []
        if self._seen > MAX_FILES or self._bytes > MAX_EXPANDED_BYTES:
            warnings.append(
                f"The dags folder has {self._seen:,} files and folders with {self._bytes:,} bytes. A server accepts "
                f"{MAX_FILES:,} and {MAX_EXPANDED_BYTES:,} unless its --max-files and --max-expanded-bytes are raised."
            )
        return Scan(list(self._files.values()), self._outside, warnings)

    def _add(self, entry: "os.DirEntry[str]", path: str, above: dict[tuple[int, int], str]) -> None:
        is_link = entry.is_symlink() or entry.path in self._checkout.links
        is_folder = not is_link and entry.is_dir(follow_symlinks=False)
        if self._ignore.ignores(path, folder=is_folder) or (is_link and self._ignore.ignores(path, folder=True)):
            return
        if not is_link:
            self._add_real(entry.path, path, entry, above)
            return
        try:
            target = self._target(entry)
        except OSError as error:
            text = _LINK_ERRORS.get(error.errno or 0, f"cannot be followed: {error.strerror}.")
            self._add_problem(path, text, "The link")
            return
        if not any(is_within(target, bound) for bound in self._bounds):
            self._add_problem(
                path,
                f"leads out of the project, to {quoted(target)}. If it is to be deployed, add: "
                f"--include {path}={target}",
                "The link",
            )
            return
        if not is_within(target, self._folder.path):
            self._outside.append(target)
        self._add_real(target, path, None, above)

    def _target(self, entry: "os.DirEntry[str]") -> str:
        """Return where a link leads; raise ``OSError`` if nowhere."""
        if entry.is_symlink():
            return os.path.realpath(entry.path, strict=True)
        with open(entry.path, "rb") as file:
            target = os.fsdecode(file.read(MAX_TARGET_BYTES))
        if "\0" in target:
            raise OSError(errno.ENOENT, "no target")
        return os.path.realpath(os.path.join(os.path.dirname(entry.path), target), strict=True)

    def _add_real(
        self, real: str, path: str, entry: "os.DirEntry[str] | None", above: dict[tuple[int, int], str]
    ) -> None:
        """Add the file or folder ``real``, which is not a link, under ``path``."""
        try:
            # On Windows, the stat of an entry lacks what tells files apart.
            found = entry.stat(follow_symlinks=False) if entry and os.name != "nt" else os.stat(real)
        except OSError as error:
            self._add_problem(path, f"cannot be read: {error.strerror}.")
            return
        self._seen += 1
        self._path_bytes += len(os.fsencode(path))
        self._check_amounts()
        if not self._is_valid(path):
            return
        if stat.S_ISDIR(found.st_mode):
            if path.count("/") + 1 >= MAX_DEPTH:  # a file in it would be too deep
                self._add_problem(path, f"is a folder so deep that nothing can be in it; at most {MAX_DEPTH} are.")
                return
            self._folders.add(path)
            self.walk(real, path + "/", above)
        elif not stat.S_ISREG(found.st_mode):
            self._add_problem(path, "is neither a file nor a folder, but a device, a socket or a named pipe.")
        elif found.st_size > MOST_FILE_BYTES:
            self._add_problem(path, f"has {found.st_size:,} bytes; a file may have at most {MOST_FILE_BYTES:,}.")
        else:
            self._bytes += found.st_size
            stamp = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev)
            self._files[path] = LocalFile(path, real, found.st_size, self._mode(real, found.st_mode), stamp)

    def _mode(self, real: str, mode: int) -> int:
        executable = self._checkout.executable
        is_executable = bool(mode & stat.S_IXUSR) if executable is None else real in executable
        return 0o755 if is_executable else 0o644

    def _is_valid(self, path: str) -> bool:
        try:
            check_path(os.fsencode(path))
            check_length(path)
        except PathRefused as error:
            self._problems.append(Problem(os.fsencode(path).decode(errors="replace"), error.message))
            return False
        return True

    def _add_problem(self, path: str, text: str, what: str = "") -> None:
        name = quoted(os.fsencode(path))
        self._problems.append(
            Problem(os.fsencode(path).decode(errors="replace"), f"{what} {name} {text}" if what else f"{name} {text}")
        )
        if len(self._problems) >= MAX_PROBLEMS:
            raise FolderInvalid(self._problems)

    def _check_amounts(self) -> None:
        """Raise ``FolderInvalid`` for more than any server can be set to accept."""
        text = ""
        if self._seen > MOST_FILES:
            text = f"has more than {MOST_FILES:,} files and folders"
        elif self._bytes > MOST_EXPANDED_BYTES:
            text = f"has more than {MOST_EXPANDED_BYTES:,} bytes"
        elif self._path_bytes > MAX_PATHS_BYTES:
            text = f"has paths of more than {MAX_PATHS_BYTES:,} bytes in total"
        if text:
            raise FolderInvalid(
                [Problem("", f"{quoted(self._folder.shown)} {text}, which no server accepts.")],
                "Check that it is the dags folder, and list in .dagferryignore what no DAG needs.",
            )
