"""The manifest: the sorted list of a bundle's files, and the digest over it.

Its text is the one form that is hashed, stored and sent::

    dagferry-manifest 1
    <sha256 of the content> <0644|0755> <size in bytes> <path>

one line a file, sorted by the bytes of the path in UTF-8, each line ended by a newline. A path holds no control
character, so the text is unambiguous. The same files always give the same text and so the same digest.

Input is not trusted: each path must be one that ``paths.check_path`` accepts, and sizes and numbers of files and
folders must be within ``limits``, before they are used.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

from dagferry_core.errors import FormatError
from dagferry_core.limits import (
    MAX_COMPONENT_BYTES,
    MAX_DEPTH,
    MAX_PATH_BYTES,
    MAX_PATHS_BYTES,
    MOST_EXPANDED_BYTES,
    MOST_FILE_BYTES,
    MOST_FILES,
)

HEADER = "dagferry-manifest 1"
MODES = {b"0644": 0o644, b"0755": 0o755}
_START = HEADER.encode() + b"\n"

_NAME = rb"(?!\.\.?[/\n])[^\x00-\x1f\x7f\\/]{1,%d}" % MAX_COMPONENT_BYTES
_LINE = re.compile(
    rb"([0-9a-f]{64}) (0644|0755) (0|[1-9][0-9]{0,%d}) (%b(?:/%b){0,%d})\n"
    % (len(str(MOST_FILE_BYTES)) - 1, _NAME, _NAME, MAX_DEPTH - 1)
)
# The control characters from U+0080 to U+009F, in UTF-8.
_CONTROL = re.compile(rb"\xc2[\x80-\x9f]")

_MAX_FIXED_BYTES = len(f"{'0' * 64} 0644 {MOST_FILE_BYTES} \n")
MAX_MANIFEST_BYTES = len(_START) + MOST_FILES * _MAX_FIXED_BYTES + MAX_PATHS_BYTES
"""The longest text of a manifest: 50 MB. With a server's default limits it is 25 MB."""

_PIECE_LINES = 1000
_path = attrgetter("path")


class Entry(NamedTuple):
    """One file of a bundle: its path, size in bytes, mode (0o644 or 0o755) and the sha256 of its content in hex."""

    path: str
    size: int
    mode: int
    sha256: str

    def line(self) -> str:
        """Return the entry's line in the manifest, without the newline."""
        return f"{self.sha256} {self.mode:04o} {self.size} {self.path}"


def parse_line(text: bytes, start: int = 0) -> tuple[Entry, bytes]:
    """Read the line of a manifest that begins at ``start``, and return it with the bytes of its path.

    Raises ``FormatError`` if it is not one.
    """
    match = _LINE.match(text, start)
    if match:
        sha256, mode, digits, path = match.groups()
        size = int(digits)
        if len(path) <= MAX_PATH_BYTES and size <= MOST_FILE_BYTES and (path.isascii() or not _CONTROL.search(path)):
            try:
                return Entry(path.decode(), size, MODES[mode], sha256.decode()), path
            except UnicodeDecodeError:
                pass
    line = text[start : start + 200].partition(b"\n")[0]
    raise FormatError(f"the manifest has an invalid line: {line!r}")


def check_amounts(files: int, size: int = 0) -> None:
    """Raise ``FormatError`` if these are more files (or folders) or bytes than any server accepts."""
    if files > MOST_FILES:
        raise FormatError(f"the manifest lists more than {MOST_FILES} files and folders; no server accepts that")
    if size > MOST_EXPANDED_BYTES:
        raise FormatError(f"the manifest claims {size} bytes; no server accepts more than {MOST_EXPANDED_BYTES}")


class Changes(NamedTuple):
    """The differences between two manifests: paths added, changed (content or mode) and removed, each sorted."""

    added: list[str]
    changed: list[str]
    removed: list[str]


class Manifest:
    """The files of a bundle by path, in the order of the manifest. Immutable by convention."""

    __slots__ = ("digest", "files")

    def __init__(self, entries: Iterable[Entry]) -> None:
        # Strings sort by code points, and so as the bytes of their UTF-8.
        ordered = sorted(entries, key=_path)
        self.files: dict[str, Entry] = {entry.path: entry for entry in ordered}
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece)
        self.digest = "sha256:" + digest.hexdigest()

    def pieces(self) -> Iterator[bytes]:
        """Yield the text in pieces. It is not kept: with many files it takes as much memory as all their paths."""
        yield _START
        entries = iter(self.files.values())
        while lines := [entry.line() for entry in islice(entries, _PIECE_LINES)]:
            yield ("\n".join(lines) + "\n").encode()

    @property
    def text(self) -> bytes:
        """The text, made anew."""
        return b"".join(self.pieces())

    @classmethod
    def parse(cls, text: bytes, known: "Manifest | None" = None) -> "Manifest":
        """Read a manifest from its text; raise ``FormatError`` unless it is exactly what would be written.

        Entries that are also in ``known`` share its memory; if the text is the same, it is ``known`` that is returned.
        """
        digest = "sha256:" + hashlib.sha256(text).hexdigest()
        if known and digest == known.digest:
            return known
        if not text.startswith(_START) or not text.endswith(b"\n"):
            raise FormatError(f"the manifest starts with {text[:40]!r} or is cut short; expected {HEADER!r}")
        check_amounts(text.count(b"\n") - 1)
        files: dict[str, Entry] = {}
        before, start = b"", len(_START)
        while start < len(text):  # line by line: a list of them all would take as much memory again
            entry, path = parse_line(text, start)
            if path <= before:
                raise FormatError("the manifest is not in its canonical form: lines are out of order or repeated")
            if known and (same := known.files.get(entry.path)):
                entry = same if entry == same else entry._replace(path=same.path)
            files[entry.path] = entry
            before, start = path, text.index(b"\n", start) + 1
        manifest = cls.__new__(cls)
        manifest.files = files
        manifest.digest = digest
        manifest.check_amounts()
        return manifest

    def check_amounts(self) -> None:
        """Raise ``FormatError`` if there are more files and folders, or more bytes, than any server accepts."""
        folders: set[str] = set()
        for path in self.files:
            parent = path.rpartition("/")[0]
            while parent and parent not in folders:
                folders.add(parent)
                check_amounts(len(self.files) + len(folders))
                parent = parent.rpartition("/")[0]
        check_amounts(len(self.files), self.size)

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files.values())

    def changes_from(self, old: "Manifest") -> Changes:
        """Return what was added, changed and removed between ``old`` and this manifest."""
        return Changes(
            added=[path for path in self.files if path not in old.files],
            changed=[path for path, entry in self.files.items() if old.files.get(path, entry) != entry],
            removed=[path for path in old.files if path not in self.files],
        )


EMPTY = Manifest(())
