"""The manifest: the sorted list of a bundle's files, and the digest over it.

Its text is the one form that is hashed, stored and sent::

    dagferry-manifest 1
    <sha256 of the content> <0644|0755> <size in bytes> <path>

one line a file, sorted by the bytes of the path in UTF-8, each line ended by a newline. A path holds no control
character, so the text is unambiguous. The same files give the same text and so the same digest, whoever packed them.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

from dagferry_core.errors import AnswerInvalid

HEADER = "dagferry-manifest 1"
MODES = {"0644": 0o644, "0755": 0o755}

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


def parse_line(line: str) -> Entry:
    """Read one line of a manifest; raise ``AnswerInvalid`` if it is none."""
    try:
        sha256, mode, size, path = line.split(" ", 3)
        if len(sha256) != 64 or not path:  # noqa: PLR2004
            raise ValueError(line)
        return Entry(path, int(size), MODES[mode], sha256)
    except (ValueError, KeyError) as error:
        raise AnswerInvalid(f"The manifest has a line that is none: {line[:200]!r}.") from error


class Changes(NamedTuple):
    """What lies between two manifests: paths added, changed (content or mode) and removed, each sorted."""

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
        yield f"{HEADER}\n".encode()
        entries = iter(self.files.values())
        while lines := [entry.line() for entry in islice(entries, _PIECE_LINES)]:
            yield ("\n".join(lines) + "\n").encode()

    @property
    def text(self) -> bytes:
        """The text, made anew."""
        return b"".join(self.pieces())

    @classmethod
    def parse(cls, text: bytes, known: "Manifest | None" = None) -> "Manifest":
        """Read a manifest from its text; raise ``AnswerInvalid`` unless it is exactly what would be written.

        What it has in common with ``known`` takes no memory of its own.
        """
        header = f"{HEADER}\n".encode()
        if not text.startswith(header) or not text.endswith(b"\n"):
            raise AnswerInvalid(f"The manifest starts with {text[:40]!r} or is cut short; expected {HEADER!r}.")
        manifest = cls(_parse_lines(text, len(header), known.files if known else {}))
        if manifest.digest != "sha256:" + hashlib.sha256(text).hexdigest():
            raise AnswerInvalid("The manifest is not in its canonical form: unsorted, doubled or oddly written lines.")
        return manifest

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


def _parse_lines(text: bytes, start: int, known: Mapping[str, Entry]) -> Iterator[Entry]:
    while start < len(text):
        end = text.index(b"\n", start)
        try:
            entry = parse_line(text[start:end].decode())
        except UnicodeDecodeError as error:
            raise AnswerInvalid("The manifest is not text.") from error
        if before := known.get(entry.path):
            entry = before if entry == before else entry._replace(path=before.path)
        yield entry
        start = end + 1


EMPTY = Manifest(())
