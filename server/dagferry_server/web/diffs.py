"""The differences of files line by line, as the pages show them. Synchronous, and bounded: for threads.

What takes long to compare or to look at is not compared: large files, files that are not text, and within a text a
changed stretch with too many lines, which is shown as removed and added again.
"""

import math
import time
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

from markupsafe import Markup

from dagferry_server.deploys.browse import Place
from dagferry_server.deploys.compare import Comparison, FileChange, compare, read_all
from dagferry_server.store.base import Store
from dagferry_server.web.coloring import colored_lines
from dagferry_server.web.texts import has_hidden

PAGE_FILES = 20
"""How many files a page shows."""
MAX_FILE_BYTES = 512 * 1024
"""A larger file is not compared."""
MAX_PAGE_BYTES = 2 * 1024 * 1024
"""How much content is read for one page."""
MAX_SHOWN_LINES, MAX_FILE_LINES = 150, 4000
"""How many lines of a file are shown: among others, and alone on its page."""
MAX_PAGE_LINES = 1200
MAX_LINE_CHARACTERS = 1000
"""The rest of a longer line is not shown; how much that is, is."""
MAX_PAGE_SECONDS = 5.0
"""After this time, no other file is compared for a page, and nothing is colored any more."""
MAX_COMPARED = 1_000_000
"""Lines of the old text times lines of the new one, without what both begin and end with: some seconds of work at most,
because difflib ignores lines that are frequent in a long text."""
CONTEXT_LINES = 3

Status = Literal["added", "changed", "removed"]
Op = tuple[str, int, int, int, int]


class Line(NamedTuple):
    """One line of a diff: ``-``, ``+``, a blank for an unchanged one, or ``@`` before a stretch; numbers from 1."""

    sign: str
    old: int | None
    new: int | None
    html: Markup


class FileDiff(NamedTuple):
    """A file that differs. ``note`` says why there are no lines, or not all of them; ``cut``: there are more."""

    path: str
    status: Status
    old_size: int
    size: int
    old_mode: int
    mode: int
    note: str
    lines: list[Line]
    cut: bool
    hidden: bool


class Shown(NamedTuple):
    """A page of a comparison: how many files differ, and the diffs of some."""

    comparison: Comparison
    files: list[FileDiff]


class Wanted(NamedTuple):
    """What of a comparison a page shows: files from number ``first`` on, below ``under``; or just the file ``path``."""

    first: int = 0
    under: str = ""
    path: str | None = None


def diffs(store: Store, deployment: str, old_digest: str | None, new_digest: str, wanted: Wanted) -> Shown:
    """Return a page of the differences; raises what ``compare`` raises."""
    found = compare(
        store,
        deployment,
        old_digest,
        new_digest,
        first=wanted.first,
        most=PAGE_FILES,
        under=wanted.under,
        path=wanted.path,
    )
    bytes_left, lines_left = MAX_PAGE_BYTES, MAX_PAGE_LINES if wanted.path is None else MAX_FILE_LINES
    files, ends = [], time.monotonic() + MAX_PAGE_SECONDS
    for change in found.files:
        size = sum(place.entry.size for place in (change.old, change.new) if place)
        if max(place.entry.size for place in (change.old, change.new) if place) > MAX_FILE_BYTES:
            files.append(_diff(change, f"Larger than {MAX_FILE_BYTES // 1024} KiB, so it is not compared here."))
            continue
        if size > bytes_left or lines_left <= 0 or time.monotonic() > ends:
            files.append(_diff(change, "This page is full.", cut=True))
            continue
        bytes_left -= size
        old, new = (
            b"" if place is None or digest is None else read_all(store, deployment, digest, place)
            for digest, place in ((old_digest, change.old), (new_digest, change.new))
        )
        most = min(lines_left, MAX_SHOWN_LINES) if wanted.path is None else lines_left
        files.append(file_diff(change, old, new, most, ends))
        lines_left -= len(files[-1].lines)
    return Shown(found, files)


def file_diff(change: FileChange, old: bytes, new: bytes, most: int, ends: float = math.inf) -> FileDiff:
    """Return the diff of one file with these contents, ``most`` lines of it; colored by ``ends`` (monotonic clock)."""
    if old == new:
        return _diff(change, "Only the permissions differ." if change.old and change.new else "The file is empty.")
    try:
        texts = [data.decode() for data in (old, new)]
    except UnicodeDecodeError:
        return _diff(change, "Not text in UTF-8, so it is not compared.")
    if any("\0" in text for text in texts):
        return _diff(change, "A binary file, so it is not compared.")
    whole = [_lines(text) for text in texts]
    olds, news = ([_shortened(line) for line in lines] for lines in whole)
    lines: list[Line] = []
    for line in _unified(change.path, olds, news, _operations(*whole), ends):
        if len(lines) == most:
            return _diff(change, "", lines, cut=True, hidden=_hides(texts))
        lines.append(line)
    closed = [text.endswith("\n") for text in texts if text]
    note = "The last line has no newline at its end." if not all(closed) and len(set(closed)) > 1 else ""
    return _diff(change, note, lines, hidden=_hides(texts))


def _hides(texts: Sequence[str]) -> bool:
    return has_hidden(texts[1] or texts[0])


def _diff(
    change: FileChange, note: str, lines: Sequence[Line] = (), *, cut: bool = False, hidden: bool = False
) -> FileDiff:
    def fact(place: Place | None, name: str) -> int:
        return int(getattr(place.entry, name)) if place else 0

    status: Status = "changed" if change.old and change.new else "added" if change.new else "removed"
    return FileDiff(
        change.path,
        status,
        fact(change.old, "size"),
        fact(change.new, "size"),
        fact(change.old, "mode"),
        fact(change.new, "mode"),
        note,
        list(lines),
        cut,
        hidden,
    )


def _shortened(line: str) -> str:
    more = len(line) - MAX_LINE_CHARACTERS
    return f"{line[:MAX_LINE_CHARACTERS]} ⟨… {more:,} more characters: save the file⟩" if more > 0 else line


def _lines(text: str) -> list[str]:
    # Not splitlines: to Python, an unusual separator ends no line.
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _operations(old: Sequence[str], new: Sequence[str]) -> list[Op]:
    """Return what makes ``new`` of ``old``, as difflib says it."""
    start = 0
    shorter = min(len(old), len(new))
    while start < shorter and old[start] == new[start]:
        start += 1
    end = 0
    while end < shorter - start and old[-1 - end] == new[-1 - end]:
        end += 1
    a, b = old[start : len(old) - end], new[start : len(new) - end]
    if len(a) * len(b) <= MAX_COMPARED:
        inner: list[Op] = list(SequenceMatcher(None, a, b).get_opcodes())
    else:
        inner = [("replace", 0, len(a), 0, len(b))]
    moved = [(tag, i + start, j + start, k + start, m + start) for tag, i, j, k, m in inner]
    head: list[Op] = [("equal", 0, start, 0, start)] if start else []
    tail: list[Op] = [("equal", len(old) - end, len(old), len(new) - end, len(new))] if end else []
    return [*head, *moved, *tail]


def _unified(path: str, old: list[str], new: list[str], operations: list[Op], ends: float) -> Iterator[Line]:
    """Yield the lines of a unified diff."""
    old_html, new_html = colored_lines(path, old, ends), colored_lines(path, new, ends)
    for group in _groups(operations):
        old_first, new_first, new_end = group[0][1], group[0][3], group[-1][4]
        yield Line("@", None, None, Markup("Line {}").format((new_first if new_end > new_first else old_first) + 1))
        for tag, i1, i2, k1, k2 in group:
            if tag == "equal":
                yield from (Line(" ", a + 1, k1 + a - i1 + 1, new_html(k1 + a - i1)) for a in range(i1, i2))
                continue
            yield from (Line("-", a + 1, None, old_html(a)) for a in range(i1, i2))
            yield from (Line("+", None, b + 1, new_html(b)) for b in range(k1, k2))


def _groups(operations: list[Op]) -> Iterator[list[Op]]:
    """Yield the stretches that belong together, each with a few unchanged lines around it."""
    group: list[Op] = []
    for number, (tag, i1, i2, k1, k2) in enumerate(operations):
        if tag != "equal":
            group.append((tag, i1, i2, k1, k2))
            continue
        first, last = number == 0, number == len(operations) - 1
        if not first and (last or i2 - i1 > 2 * CONTEXT_LINES):
            keep = min(CONTEXT_LINES, i2 - i1)
            yield [*group, (tag, i1, i1 + keep, k1, k1 + keep)]
            group = []
        if last:
            return
        if group:
            group.append((tag, i1, i2, k1, k2))
        else:
            keep = min(CONTEXT_LINES, i2 - i1)
            group = [(tag, i2 - keep, i2, k2 - keep, k2)]
    if group:
        yield group
