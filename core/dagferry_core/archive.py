"""Checks an uploaded archive and turns it into a manifest and one flat file of contents.

One pass: each byte is expanded, hashed and written once, and memory does not grow with the sizes of files. Whatever
comes back is a whole and proven archive; anything else is an error of ``dagferry_core.errors`` that names the member.
The rules are those of docs/concepts.md::

    with open(upload, "rb") as archive, open(scratch, "w+b") as spool:
        checked = check_archive(archive, spool, ArchiveRules())
        spool.seek(checked.offsets["my_dag.py"])
        content = spool.read(checked.manifest.files["my_dag.py"].size)
"""

import hashlib
import os
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from dagferry_core.compression import open_stream
from dagferry_core.errors import (
    BundleEmpty,
    ExpandedTooLarge,
    LinkRefused,
    PathConflict,
    PathDuplicate,
    PathRefused,
    PathsTooLarge,
    RatioTooHigh,
    RootIsLink,
    RootMixed,
    TooManyFiles,
)
from dagferry_core.limits import (
    MAX_EXPANDED_BYTES,
    MAX_FILES,
    MAX_LEFT_OUT_SHOWN,
    MAX_PATHS_BYTES,
    MAX_RATIO,
    MIB,
    ratio_too_high,
)
from dagferry_core.links import Links, Node
from dagferry_core.manifest import Entry, Manifest
from dagferry_core.paths import DEFAULT_EXCLUDES, ROOT, Excludes, check_length, check_path, shown, twins
from dagferry_core.tar import Kind, Member, members

_OWNER_MAY_EXECUTE = 0o100
_FOLDERS = {Node.FOLDER, Node.IMPLIED}


class ArchiveRules(NamedTuple):
    """The settings of the check: bytes an archive may expand to, files and folders it may have, what is left out."""

    max_expanded_bytes: int = MAX_EXPANDED_BYTES
    max_files: int = MAX_FILES
    exclude: tuple[str, ...] = DEFAULT_EXCLUDES
    allow_empty: bool = False


class CheckedArchive(NamedTuple):
    """What a sound archive holds.

    ``offsets`` says where in the spool each file's content starts. ``left_out`` are the first paths, as the archive
    has them, that the exclude rules matched, and ``left_out_files`` is the number of all files that fell under them.
    """

    manifest: Manifest
    offsets: dict[str, int]
    warnings: list[str]
    left_out: list[str]
    left_out_files: int


class _Content(NamedTuple):
    offset: int
    size: int
    mode: int
    sha256: str


class _Meter:
    """Counts what the archive expands to and what its paths come to, the copies that its links make included."""

    __slots__ = ("_expanded", "_max_expanded_bytes", "_paths", "_read", "_upload_bytes")

    def __init__(self, read: Callable[[int], bytes], upload_bytes: int, max_expanded_bytes: int) -> None:
        self._read = read
        self._upload_bytes = upload_bytes
        self._max_expanded_bytes = max_expanded_bytes
        self._expanded = 0
        self._paths = 0

    def read(self, size: int) -> bytes:
        data = self._read(size)
        self.add(len(data))
        return data

    def add(self, size: int) -> None:
        self._expanded += size
        if self._expanded > self._max_expanded_bytes:
            raise ExpandedTooLarge(
                f"The archive expands to at least {self._expanded:,} bytes; the limit is "
                f"{self._max_expanded_bytes:,} bytes (--max-expanded-bytes)."
            )
        if ratio_too_high(self._expanded, self._upload_bytes):
            raise RatioTooHigh(
                f"The archive has {self._upload_bytes:,} bytes and expands to more than {MAX_RATIO} times as many, "
                f"at least {self._expanded // MIB} MiB."
            )

    def add_path(self, path: bytes) -> None:
        self._paths += len(path)
        if self._paths > MAX_PATHS_BYTES:
            raise PathsTooLarge(
                f"The paths in the archive have at least {self._paths:,} bytes together; the limit is "
                f"{MAX_PATHS_BYTES:,} bytes."
            )


class _Contents:
    """What the members of an archive come to, by their paths in the archive."""

    __slots__ = (
        "_below_root",
        "_beside_root",
        "_excludes",
        "_files",
        "_max_files",
        "_meter",
        "_nodes",
        "_offset",
        "_spool",
        "_targets",
        "left_out",
        "left_out_files",
    )

    def __init__(self, spool: BinaryIO, meter: _Meter, rules: ArchiveRules) -> None:
        self._spool = spool
        self._offset = spool.tell()
        self._meter = meter
        self._max_files = rules.max_files
        self._excludes = Excludes(rules.exclude)
        self._nodes: dict[str, Node] = {}
        self._files: dict[str, _Content] = {}
        self._targets: dict[str, str] = {}
        self._below_root = ""
        self._beside_root = ""
        self.left_out: list[str] = []
        self.left_out_files = 0

    def take(self, member: Member) -> None:
        """Take in the next member of the archive."""
        path = check_path(member.path)
        if not path:
            if member.kind is not Kind.FOLDER:
                raise PathRefused(f"The top folder is in the archive as a {member.kind.value}.")
            return
        # A link may lead to a folder, so rules for folders hold for it too.
        top = self._excludes.left_out(path, folder=member.kind in {Kind.FOLDER, Kind.SYMLINK})
        if top is not None:
            self._leave_out(top, member)
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
            self._place(path, Node.LINK)
            self._meter.add_path(member.target)
            try:
                self._targets[path] = member.target.decode()
            except UnicodeDecodeError as error:
                raise LinkRefused(
                    f"The target of the link {shown(path)}, {shown(member.target)}, is not UTF-8."
                ) from error

    def _leave_out(self, top: str, member: Member) -> None:
        if self._nodes.get(top) is not Node.LEFT_OUT:
            self._place(top, Node.LEFT_OUT)
            if len(self.left_out) < MAX_LEFT_OUT_SHOWN:
                self.left_out.append(top)
        if member.kind is not Kind.FOLDER:
            self.left_out_files += 1

    def _place(self, path: str, node: Node) -> None:
        """Note what stands at ``path``, and the folders above it; refuse two things at one place."""
        before = self._nodes.get(path)
        if before is not None and not (before is Node.IMPLIED and node is Node.FOLDER):
            if (before in _FOLDERS) != (node in _FOLDERS) or Node.LEFT_OUT in {before, node}:
                raise PathConflict(f"{shown(path)} is in the archive both as {before.value} and as {node.value}.")
            raise PathDuplicate(f"{shown(path)} is in the archive twice.")
        if before is None:
            self._count(path, path)
        self._nodes[path] = node
        above = path.rpartition("/")[0]
        while above and above not in self._nodes:
            self._count(above, path)
            self._nodes[above] = Node.IMPLIED
            above = above.rpartition("/")[0]
        if above and self._nodes[above] not in _FOLDERS:
            raise PathConflict(
                f"{shown(above)} is {self._nodes[above].value} in the archive, but has {shown(path)} below it."
            )

    def _count(self, path: str, member: str) -> None:
        if len(self._nodes) == self._max_files:
            raise TooManyFiles(
                f"The archive has at least {self._max_files + 1:,} files and folders, at {shown(member)}; the limit is "
                f"{self._max_files:,} (--max-files)."
            )
        self._meter.add_path(path.encode())

    def _store(self, member: Member) -> _Content:
        start = self._offset
        digest = hashlib.sha256()
        for piece in member.chunks():
            digest.update(piece)
            self._spool.write(piece)
        self._offset += member.size
        mode = 0o755 if member.mode & _OWNER_MAY_EXECUTE else 0o644
        return _Content(start, member.size, mode, digest.hexdigest())

    def _linked(self, path: str, raw_target: bytes) -> _Content:
        """Return the content of the file that the hard link ``path`` names: an earlier member of the archive."""
        says = f"The hard link {shown(path)} points at {shown(raw_target)}"
        if raw_target.endswith(b"/"):  # to some programs nothing is there, so they lack the file
            raise LinkRefused(f"{says}, which takes a file for a folder.")
        try:
            target = check_path(raw_target)
        except PathRefused as error:
            raise LinkRefused(f"{says}. {error.message}") from error
        top = self._excludes.left_out(target, folder=False)
        if top is not None:
            raise LinkRefused(f"{says}, which is {Node.LEFT_OUT.value}.")
        node = self._nodes.get(target)
        if node is not Node.FILE:
            # Of a hard link to a link, programs make the link itself or what it points at (cpython#157190).
            what = "which is no earlier member of the archive" if node is None else f"which is {node.value}"
            raise LinkRefused(f"{says}, {what}.")
        content = self._files[target]
        self._meter.add(content.size)
        return content

    def finish(self, *, keep_root: bool) -> dict[str, _Content]:
        """Return the files of the bundle by their paths in it, links resolved."""
        if not self._files and self._targets.keys() == {ROOT}:
            raise RootIsLink(f"The archive has nothing but a link named {ROOT!r}.")
        root = ROOT if self._below_root and not keep_root else ""
        if root and self._beside_root:
            raise RootMixed(
                f"{shown(self._below_root)} lies under the top folder {ROOT}/, {shown(self._beside_root)} beside it."
            )
        if not root:
            for path in self._files:
                check_length(path)
        for copy, original in Links(self._nodes, self._targets, root).copies(self._max_files - len(self._nodes)):
            content = self._files[original]
            self._meter.add(content.size)
            self._meter.add_path(copy.encode())
            self._files[copy] = content
        start = len(f"{root}/") if root else 0
        return {path[start:]: content for path, content in self._files.items()}


def check_archive(upload: BinaryIO, spool: BinaryIO, rules: ArchiveRules, *, keep_root: bool = False) -> CheckedArchive:
    """Check the whole archive ``upload`` and append the contents of its files to ``spool``.

    Both are buffered binary files; ``upload`` is read from its start. A top folder ``dags/`` that holds all members is
    dropped from their paths, unless ``keep_root``. Raises the errors under ``ArchiveError`` and ``BundleError``; the
    spool then holds something that is of no use.
    """
    upload_bytes = upload.seek(0, os.SEEK_END)
    upload.seek(0)
    meter = _Meter(open_stream(upload).read, upload_bytes, rules.max_expanded_bytes)
    contents = _Contents(spool, meter, rules)
    for member in members(meter.read, rules.max_files):
        contents.take(member)
    files = contents.finish(keep_root=keep_root)
    if not files and not rules.allow_empty:
        left = f" ({contents.left_out_files} were left out)" if contents.left_out_files else ""
        raise BundleEmpty(f"The archive has no files{left}.")
    manifest = Manifest(Entry(path, found.size, found.mode, found.sha256) for path, found in files.items())
    return CheckedArchive(
        manifest=manifest,
        offsets={path: files[path].offset for path in manifest.files},
        warnings=twins(manifest.files),
        left_out=contents.left_out,
        left_out_files=contents.left_out_files,
    )
