"""Which sources may read a data file: looks up the hints of ``reads.py`` that fit its path."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from dagferry_core.source.reads import EVERYTHING, MAX_PARTS, OWN_FOLDER, PART_STARTS
from dagferry_core.source.scan import ANYTHING

_NOT_IN_NAMES = re.compile(r"[^\w\-.~@+$]")
"""Characters that end a name in a source text: of a file ``my orders.sql`` only ``orders.sql`` is found in the text."""


class Readers:
    """Which Python files may read a data file, by the hints of each. Every answer is returned only once.

    ``of_anything`` are those that count as reading everything. The work grows with the number of hints and of requested
    paths, never with their product: an answer that was returned is dropped.
    """

    def __init__(self, hints: Mapping[str, Sequence[str]]) -> None:
        self._by_hint: dict[str, list[str]] = defaultdict(list)
        self._by_base: dict[str, list[str]] = defaultdict(list)  # of hints that name a folder, without it
        self._below: dict[str, list[str]] = defaultdict(list)  # of those that read all below a folder, by its path
        self._starts: dict[str, set[int]] = defaultdict(set)  # how long the starts are, by what is after the wildcard
        for path, found in hints.items():
            for hint in found:
                self._add(path, hint)
        self.of_anything = self._by_hint.pop(ANYTHING, [])
        self._asked: set[str] = set()  # folders

    def _add(self, path: str, hint: str) -> None:
        if hint in {OWN_FOLDER, EVERYTHING}:
            self._below[path.rpartition("/")[0] if hint == OWN_FOLDER else ""].append(path)
            return
        self._by_hint[hint].append(path)
        folder, _, base = hint.rpartition("/")
        if folder and base:
            self._by_base[base].append(path)
        start, wildcard, end = base.partition("*")
        if wildcard:
            self._starts[end].add(len(start))

    def of(self, paths: Iterable[str]) -> Iterator[str]:
        """Yield the Python files that may read one of the data files at ``paths``, some of them twice."""
        for path in paths:
            folder, _, base = path.rpartition("/")
            parent = _last_word(folder.rpartition("/")[2])
            for name in {base, _last_word(base)}:
                for fitting in self._fitting(name):
                    yield from self._by_hint.pop(fitting, ())
                    yield from self._by_hint.pop(f"{parent}/{fitting}", ())
                    if not folder:  # the name of the top folder where the source runs is unknown here
                        yield from self._by_base.pop(fitting, ())
            yield from self._reading_below(folder)

    def _fitting(self, base: str) -> Iterator[str]:
        """Yield the hints that fit a file's name, without their folders."""
        yield base
        ends = [at for at, character in enumerate(base) if character in PART_STARTS]
        for at in ends[-MAX_PARTS:]:
            yield from (f"{base[:length]}*{base[at:]}" for length in self._starts.get(base[at:], ()) if length <= at)

    def _reading_below(self, folder: str) -> Iterator[str]:
        while folder not in self._asked:  # after the first that was looked up already, so were its parents
            self._asked.add(folder)
            yield from self._below.pop(folder, ())
            folder, _, name = folder.rpartition("/")
            yield from self._by_hint.pop(f"{name}/", ())


def _last_word(name: str) -> str:
    return _NOT_IN_NAMES.split(name)[-1]
