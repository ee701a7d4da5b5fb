"""Collects the members of an archive: which file, folder or link is where, and the contents of the files.

Contents go to a spool as they come, so that memory does not grow with the sizes of files.
"""

import hashlib
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from dagferry_core.archive.error_collector import COLLECTED_ERRORS, ErrorCollector
from dagferry_core.archive.errors import (
    BundleError,
    LinkRefused,
    PathConflict,
    PathDuplicate,
    PathRefused,
    RootIsLink,
    RootMixed,
    RootNotFound,
    TooManyFiles,
)
from dagferry_core.archive.links import Links, Node
from dagferry_core.archive.meter import Meter
from dagferry_core.archive.paths import ROOT, Excludes, check_length, check_path, quoted
from dagferry_core.archive.tar import Kind, Member
from dagferry_core.limits import LARGE_FILES, MAX_EXCLUDED_SHOWN

MAX_TOPS_SHOWN = 10
_OWNER_MAY_EXECUTE = 0o100
_FOLDERS = {Node.FOLDER, Node.IMPLIED}


class Content(NamedTuple):
    """Where in the spool a file's content is, its size in bytes, its mode (0o644 or 0o755) and its sha256 in hex."""

    offset: int
    size: int
    mode: int
    sha256: str


class Contents:
    """The members of an archive, by their paths in the archive.

    ``root`` is the folder that becomes the bundle: ``"."`` for all of the archive, ``None`` for ``dags/`` if that holds
    all members. ``when_large`` is called when there are more than ``LARGE_FILES`` files and folders.
    """

    __slots__ = (
        "_below_root",
        "_beside_root",
        "_errors",
        "_excludes",
        "_files",
        "_max_files",
        "_meter",
        "_nodes",
        "_offset",
        "_root",
        "_spool",
        "_targets",
        "_when_large",
        "excluded",
        "excluded_files",
    )

    def __init__(
        self,
        spool: BinaryIO,
        meter: Meter,
        *,
        max_files: int,
        excludes: Excludes,
        root: str | None,
        when_large: Callable[[], object],
    ) -> None:
        self._spool = spool
        self._offset = spool.tell()
        self._meter = meter
        self._max_files = max_files
        self._excludes = excludes
        self._root = root
        self._when_large = when_large
        self._errors = ErrorCollector()
        self._nodes: dict[str, Node] = {}
        self._files: dict[str, Content] = {}
        self._targets: dict[str, str] = {}
        self._below_root = ""
        self._beside_root = ""
        self.excluded: list[str] = []
        self.excluded_files = 0

    def add(self, member: Member) -> None:
        """Add the next member of the archive; errors in its name or target are raised at the end."""
        try:
            self._add(member)
        except COLLECTED_ERRORS as error:
            self._errors.add(error)

    def _add(self, member: Member) -> None:
        path = check_path(member.path)
        if not path:
            if member.kind is not Kind.FOLDER:
                raise PathRefused(f"The archive contains its top folder as a {member.kind.value}.")
            return
        # A link may lead to a folder, so rules for folders hold for it too.
        top = self._excludes.excluded(path, folder=member.kind in {Kind.FOLDER, Kind.SYMLINK})
        if top is not None:
            self._exclude(top, member)
            return
        if path.startswith(f"{ROOT}/") or (path == ROOT and member.kind is Kind.FOLDER):
            self._below_root = self._below_root or path
        else:
            self._beside_root = self._beside_root or path
        if member.kind is Kind.FOLDER:
            self._place(path, Node.FOLDER)
        elif member.kind is Kind.FILE:
            self._place(path, Node.FILE)
            self._files[path] = self._store(member)
        elif member.kind is Kind.HARD_LINK:
            original = self._linked(path, member.target)
            self._place(path, Node.FILE)
            self._files[path] = original
        else:
            self._meter.add_path(member.target)
            try:
                target = member.target.decode()
            except UnicodeDecodeError as error:
                raise LinkRefused(
                    f"The target of the link {quoted(path)}, {quoted(member.target)}, is not UTF-8."
                ) from error
            self._place(path, Node.LINK)
            self._targets[path] = target

    def _exclude(self, top: str, member: Member) -> None:
        if self._nodes.get(top) is not Node.EXCLUDED:
            self._place(top, Node.EXCLUDED)
            if self._counts(top) and len(self.excluded) < MAX_EXCLUDED_SHOWN:
                self.excluded.append(top)
        if member.kind is not Kind.FOLDER and self._counts(top):
            self.excluded_files += 1

    def _counts(self, path: str) -> bool:
        """Return whether a path may belong to the bundle."""
        return self._root in {None, "."} or path.startswith(f"{self._root}/")

    def _place(self, path: str, node: Node) -> None:
        """Record what is at ``path``, and the folders above it; reject two members at one path."""
        before = self._nodes.get(path)
        if before is not None and not (before is Node.IMPLIED and node is Node.FOLDER):
            if (before in _FOLDERS) != (node in _FOLDERS) or Node.EXCLUDED in {before, node}:
                raise PathConflict(f"The archive contains {quoted(path)} both as {before.value} and as {node.value}.")
            raise PathDuplicate(f"The archive contains {quoted(path)} twice.")
        implied = []
        above = path.rpartition("/")[0]
        while above and above not in self._nodes:
            implied.append(above)
            above = above.rpartition("/")[0]
        if above and self._nodes[above] not in _FOLDERS:
            raise PathConflict(
                f"{quoted(above)} is {self._nodes[above].value} in the archive, but has {quoted(path)} below it."
            )
        if before is None:
            self._count(path, path)
        self._nodes[path] = node
        for folder in implied:
            self._count(folder, path)
            self._nodes[folder] = Node.IMPLIED

    def _count(self, path: str, member: str) -> None:
        if len(self._nodes) == self._max_files:
            raise TooManyFiles(
                f"The archive has at least {self._max_files + 1:,} files and folders, at {quoted(member)}; the limit "
                f"is {self._max_files:,} (--max-files)."
            )
        if len(self._nodes) == LARGE_FILES:
            self._when_large()
        self._meter.add_path(path.encode())

    def _store(self, member: Member) -> Content:
        start = self._offset
        digest = hashlib.sha256()
        for piece in member.chunks():
            digest.update(piece)
            self._spool.write(piece)
        self._offset += member.size
        mode = 0o755 if member.mode & _OWNER_MAY_EXECUTE else 0o644
        return Content(start, member.size, mode, digest.hexdigest())

    def _linked(self, path: str, raw_target: bytes) -> Content:
        """Return the content of the file that the hard link ``path`` names: an earlier member of the archive."""
        says = f"The hard link {quoted(path)} points at {quoted(raw_target)}"
        if raw_target.endswith(b"/"):  # some programs find nothing there, so they miss the file
            raise LinkRefused(f"{says}, which treats a file as a folder.")
        try:
            target = check_path(raw_target)
        except PathRefused as error:
            raise LinkRefused(f"{says}. {error.message}") from error
        top = self._excludes.excluded(target, folder=False)
        if top is not None:
            raise LinkRefused(f"{says}, which is {Node.EXCLUDED.value}.")
        node = self._nodes.get(target)
        if node is not Node.FILE:
            # From a hard link to a link, programs make either the link itself or what it points at (cpython#157190).
            what = "which is not an earlier member of the archive" if node is None else f"which is {node.value}"
            raise LinkRefused(f"{says}, {what}.")
        content = self._files[target]
        self._meter.add(content.size)
        return content

    def finish(self) -> tuple[str, dict[str, Content]]:
        """Return the folder that becomes the bundle (``""``: all), and its files by their paths in it, links resolved.

        Raises one error that lists everything wrong with the names and targets in the archive.
        """
        try:
            root = self._find_root()
        except BundleError:
            self._errors.raise_any()
            raise
        # Where dags/ is the root by default, everything is below it; where the caller chose a root, a link may lead
        # above it.
        links = Links(self._nodes, self._targets, root, bounds=root if self._root is None else "")
        if not root:
            for path in self._files:
                self._errors.check(check_length, path)
        for copy, original in links.copies(self._max_files - len(self._nodes), self._errors):
            content = self._files[original]
            self._meter.add(content.size)
            self._meter.add_path(copy.encode())
            self._files[copy] = content
        self._errors.raise_any()
        self._nodes.clear()
        if not root:
            return root, self._files
        above = f"{root}/"
        files: dict[str, Content] = {}
        while self._files:  # move one by one, so that both sets of paths are never in memory together
            path, content = self._files.popitem()
            if path.startswith(above):
                files[path[len(above) :]] = content
        return root, files

    def _find_root(self) -> str:
        root = self._root
        if root in {None, "."}:
            if not self._files and self._targets.keys() == {ROOT}:
                raise RootIsLink(f"The archive contains nothing but a link named {ROOT!r}.")
            if root or not self._below_root:
                return ""
            if self._beside_root:
                below, beside = quoted(self._below_root), quoted(self._beside_root)
                raise RootMixed(f"{below} is inside the top folder {ROOT}/, but {beside} is not.")
            return ROOT
        node = self._nodes.get(root)
        if node is Node.LINK:
            raise RootIsLink(f"{quoted(root)} is a link in the archive, to {quoted(self._targets[root])}.")
        if node not in _FOLDERS:
            tops = sorted({path.partition("/")[0] for path in self._nodes})
            names = ", ".join(map(quoted, tops[:MAX_TOPS_SHOWN])) + (", …" if len(tops) > MAX_TOPS_SHOWN else "")
            raise RootNotFound(
                f"The archive has no folder {quoted(root)}; its top level contains {names or 'nothing'}."
            )
        return root
