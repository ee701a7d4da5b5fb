"""Compares the contents of two versions of a file: as a unified diff, which ``git apply`` and ``patch`` can apply."""

import difflib
from collections.abc import Iterator
from typing import NamedTuple

MAX_COMPARED_BYTES = 1 << 20
MAX_COMPARED_LINES = 10_000
"""The largest file, and the most lines, that are compared line by line: the time grows with their square."""
BINARY, LARGE, MANY = "binary", "large", "many"
"""Why contents were not compared: they are not text; they are too large; too many other files were compared before."""
_END = "\\ No newline at end of file"
_NOWHERE = "/dev/null"


class FileState(NamedTuple):
    """A file in one of the versions: size in bytes, mode (420 or 493), sha256 of its content."""

    size: int
    mode: int
    sha256: str


class Difference(NamedTuple):
    """A path whose file differs; ``None`` on the side that has none."""

    path: str
    old: FileState | None
    new: FileState | None

    @property
    def status(self) -> str:
        """``added``, ``changed`` or ``removed``."""
        if self.old is None:
            return "added"
        return "removed" if self.new is None else "changed"

    @property
    def same_content(self) -> bool:
        """Whether only the mode differs."""
        return bool(self.old and self.new and self.old.sha256 == self.new.sha256)

    @property
    def is_large(self) -> bool:
        """Whether one side is too large to be compared."""
        return any(side.size > MAX_COMPARED_BYTES for side in (self.old, self.new) if side)


class Compared(NamedTuple):
    """The lines of a diff, without line ends; or, with no lines, why there is none (``""``: the contents are equal)."""

    lines: list[str]
    omitted: str = ""


def compare(difference: Difference, old: bytes, new: bytes) -> Compared:
    """Compare the contents of the two sides; that of a missing side is empty."""
    texts = _text(old), _text(new)
    if texts[0] is None or texts[1] is None:
        return Compared([], BINARY)
    before, after = _lines(texts[0]), _lines(texts[1])
    if max(len(before), len(after)) > MAX_COMPARED_LINES:
        return Compared([], LARGE)
    return Compared(list(_unified(difference, before, after)))


def _unified(difference: Difference, before: list[str], after: list[str]) -> Iterator[str]:
    old_name = f"a/{difference.path}" if difference.old else _NOWHERE
    new_name = f"b/{difference.path}" if difference.new else _NOWHERE
    for line in difflib.unified_diff(before, after, old_name, new_name):
        yield line.removesuffix("\n")
        if not line.endswith("\n"):
            yield _END


def _text(data: bytes) -> str | None:
    """Return ``data`` as text, ``None`` if it is binary."""
    if b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _lines(text: str) -> list[str]:
    """Return the lines with their ends; only a newline ends one, as for git."""
    lines = text.split("\n")
    return [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
