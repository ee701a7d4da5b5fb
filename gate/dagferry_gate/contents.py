"""What a file's content says, whatever its path: whether it may be a DAG file, and whether it parses.

Each content is looked at once: what was found is kept by its sha256, up to ``MAX_KNOWN`` facts.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from enum import IntFlag
from typing import Generic, TypeVar

from dagferry_core.bundle.frames import RangeRead
from dagferry_core.bundle.manifest import Entry
from dagferry_core.limits import MIB, PIECE_BYTES
from dagferry_gate.encoding import Undecodable, to_utf8
from dagferry_gate.errors import CheckFailed
from dagferry_gate.ruff import Report, Ruff, error_report
from dagferry_gate.rules import Airflow, Rules

MAX_SOURCE_BYTES = 10 * MIB
"""A larger source is not checked, and counts as one that does not parse."""
MAX_KNOWN = 100_000
"""How many facts are kept: about 20 MB. One fact is that a content parses, or one finding in it."""

OpenContent = Callable[[Entry], RangeRead]
"""Returns what reads the content of an entry: ``read(offset, size)``."""


class Words(IntFlag):
    """The words in a content by which Airflow decides whether it may have DAGs, in lower or upper case."""

    AIRFLOW = 1
    DAG = 2
    ASSET = 4

    def may_be_dag(self, airflow: Airflow | None) -> bool:
        """Return whether Airflow (its ``dag_discovery_safe_mode``) reads a file with these words."""
        other = Words.DAG if airflow == "2" else Words.DAG | Words.ASSET
        return bool(self & Words.AIRFLOW and self & other)


_WORDS = {word: word.name.lower().encode() for word in Words if word.name}
_ALL = Words.AIRFLOW | Words.DAG | Words.ASSET
_LONGEST = max(map(len, _WORDS.values()))

_Fact = TypeVar("_Fact")


class _Known(Generic[_Fact]):
    """The facts that were used last, by any thread. ``count`` returns how many facts a value is."""

    def __init__(self, count: Callable[[_Fact], int]) -> None:
        self._count = count
        self._total = 0
        self._facts: OrderedDict[bytes, _Fact] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> _Fact | None:
        with self._lock:
            fact = self._facts.get(key)
            if fact is not None:
                self._facts.move_to_end(key)
            return fact

    def put(self, key: bytes, fact: _Fact) -> None:
        with self._lock:
            if (old := self._facts.pop(key, None)) is not None:
                self._total -= self._count(old)
            self._facts[key] = fact
            self._total += self._count(fact)
            while self._total > MAX_KNOWN:
                self._total -= self._count(self._facts.popitem(last=False)[1])


class Contents:
    """Looks at contents with ``ruff``, which writes them to a folder in ``scratch`` (default: the temporary one)."""

    def __init__(self, ruff: Ruff, scratch: str | None = None) -> None:
        self._ruff = ruff
        self._scratch = scratch
        self._words: _Known[Words] = _Known(lambda _: 1)
        self._reports: _Known[Report] = _Known(lambda report: 1 + len(report.errors) + len(report.warnings))

    def words(self, entries: Iterable[Entry], open_content: OpenContent) -> dict[str, Words]:
        """Return the words of each of ``entries``, by their sha256."""
        found: dict[str, Words] = {}
        for entry in entries:
            if entry.sha256 not in found:
                key = bytes.fromhex(entry.sha256)
                words = self._words.get(key)
                if words is None:
                    words = _words(_pieces(entry, open_content(entry)))
                    self._words.put(key, words)
                found[entry.sha256] = words
        return found

    def reports(
        self, entries: Collection[Entry], open_content: OpenContent, rules: Rules, *, only_known: bool = False
    ) -> dict[str, Report]:
        """Return the report of each of ``entries``, Python sources, by their sha256.

        Raises ``CheckFailed`` if ruff fails, but what it found until then is known the next time; with ``only_known``
        also if ruff would be needed.
        """
        found: dict[str, Report] = {}
        sent: list[str] = []
        suffix = f"{rules.python}{rules.removals}".encode()
        if only_known and any(self._reports.get(bytes.fromhex(entry.sha256) + suffix) is None for entry in entries):
            raise CheckFailed("Not all of them were checked before.")
        # ruff takes them one by one. What it need not see is found on the way.
        sources = self._sources(entries, open_content, suffix, found, sent)
        checked = self._ruff.check(sources, rules.python, removals=rules.removals, scratch=self._scratch)
        for number, report in enumerate(checked):
            sha256 = sent[number]
            self._reports.put(bytes.fromhex(sha256) + suffix, report)
            found[sha256] = report
        return found

    def _sources(
        self,
        entries: Iterable[Entry],
        open_content: OpenContent,
        suffix: bytes,
        found: dict[str, Report],
        sent: list[str],
    ) -> Iterator[bytes]:
        """Yield the sources that ruff must check, and note their sha256 in ``sent``; the others are in ``found``."""
        seen: set[str] = set()
        for entry in entries:
            if entry.sha256 in seen:
                continue
            seen.add(entry.sha256)
            key = bytes.fromhex(entry.sha256) + suffix
            report = self._reports.get(key)
            if report is None:
                source = _source(entry, open_content)
                if isinstance(source, bytes):
                    sent.append(entry.sha256)
                    yield source
                    continue
                report = error_report(*source)
                self._reports.put(key, report)
            found[entry.sha256] = report


def _source(entry: Entry, open_content: OpenContent) -> bytes | Undecodable:
    if entry.size > MAX_SOURCE_BYTES:
        return Undecodable(1, 1, f"cannot be checked: it is larger than {MAX_SOURCE_BYTES // MIB} MiB")
    return to_utf8(b"".join(_pieces(entry, open_content(entry))))


def _pieces(entry: Entry, read: RangeRead) -> Iterator[bytes]:
    for offset in range(0, entry.size, PIECE_BYTES):
        yield read(offset, min(PIECE_BYTES, entry.size - offset))


def _words(pieces: Iterable[bytes]) -> Words:
    words, rest = Words(0), b""
    for piece in pieces:
        text = rest + piece.lower()
        for word, spelled in _WORDS.items():
            if spelled in text:
                words |= word
        if words == _ALL:
            break
        rest = text[-_LONGEST:]
    return words
