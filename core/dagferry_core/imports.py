r"""Which modules a Python source imports, read from its text, without a Python parser.

``ast`` is no help here: it takes seconds for 60 MB, and reads only what the server's own Python can. This scan
looks at every ``import`` in the text. It may find one too many (in a docstring), but never misses an import statement,
wherever it stands and however it is laid out; ``import_module("a.b")`` and ``__import__("a.b")`` count too. Names
that are computed at run time are out of its reach.

A name is written as the source means it: ``import a.b`` is ``a.b``, ``from a import b`` is ``a.b`` too (``b`` may be
a module), ``from a import *`` is ``a.*``, ``from ..a import b`` is ``..a.b``. Sources are read as UTF-8; in another
encoding, names in ASCII are found all the same.
"""

import re
import sys
import unicodedata
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise

from dagferry_core.limits import MAX_PATH_BYTES
from dagferry_core.manifest import Manifest

ANYTHING = "*"
"""The one name of a file with more imports than are looked at: it counts as importing every module there is."""

MAX_IMPORT_BYTES = 64 * 1024
"""How much text of imports, and of the names they make, is looked at in one file. Without it a hostile file of a few
MB could name gigabytes: a million names from one module with a long name."""

# Whatever the text, the time is linear: no repetition may end at many places, and so be tried again at each. A
# vertical tab stands for a backslash at the end of a line (see _normalized).
_WORD = re.compile(rb"import(?:_module|__)?(?![\w\x80-\xff])")
_IDENTIFIER = frozenset(b"_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" + bytes(range(128, 256)))
_FROM = re.compile(rb"[ \t]*from[ \t]+([\w.\x80-\xff]+)[ \t]+")
_START_BACKWARDS = re.compile(rb"[ \t\f]*(?:[;:\v]|\Z|yzal(?![\w\x80-\xff]))")  # PEP 810 has "lazy import a"
_FROM_BACKWARDS = re.compile(rb"([\w. \t\f\v\x80-\xff]*?[. \t\f\v])morf" + _START_BACKWARDS.pattern)
_PIECE = re.compile(rb"([^,;#\n()]{0,%d})(#[^\n\v]*|[,;\n()]?)" % MAX_IMPORT_BYTES)
_NAME = re.compile(rb"[\w.\x80-\xff]+|\*")
_CALL = re.compile(
    rb"\s*\(\s*(?:#[^\n\v]{0,200}[\n\v]\s*){0,9}(?:name\s*=\s*)?[rRuU]?(\"\"\"|'''|[\"'])([^\"'\\\s]+)\1"
    rb"(?:\s*,\s*(?:package\s*=\s*)?[rRuU]?([\"'])([^\"'\\\s]+)\3)?"
)


def imported_names(source: bytes) -> tuple[str, ...]:
    """Return the names that ``source`` imports, each once, in the order of the text; or ``(ANYTHING,)``."""
    source = _normalized(source)
    names: dict[str, None] = {}
    looked_at = last = 0
    for word in _WORD.finditer(source):
        start, end = word.span()
        found: list[bytes] = []
        if end - start > len(b"import"):
            found = _called(source, end)
        elif not start or source[start - 1] not in _IDENTIFIER:
            line = max(source.rfind(b"\n", last, start) + 1, last)
            last = end  # no statement has two of the word, so what is before it need not be looked at again
            if modules := _modules(source, line, start):
                items, end = _listed(source, end)
                found = [_under(module, item) for module in modules for item in items]
        looked_at += end - start + sum(map(len, found))
        if looked_at > MAX_IMPORT_BYTES:
            return (ANYTHING,)
        names.update((_text(name), None) for name in found if len(name) <= MAX_PATH_BYTES and name != b"*")
    return tuple(names)


def _normalized(source: bytes) -> bytes:
    """Return the source with one kind of line end, and a vertical tab for each line end after a backslash."""
    source = source.removeprefix(b"\xef\xbb\xbf").replace(b"\v", b" ")
    if b"\r" in source:
        source = source.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    # To look for one byte first is far quicker, and many sources have none.
    return source.replace(b"\\\n", b"\v") if b"\\" in source else source


def _modules(source: bytes, line: int, start: int) -> list[bytes]:
    """Return what an ``import`` at ``start`` imports from, by the text of its line: ``b""`` for a plain import.

    Nothing if no statement begins here; both if only a parser could tell.
    """
    if usual := _FROM.fullmatch(source, line, start):
        return [usual[1]]
    before = source[line:start]
    if not before.strip():
        return [b""]
    modules = []
    backwards = before[::-1]
    if (match := _FROM_BACKWARDS.match(backwards)) and (module := _dotted(match[1][::-1].split())):
        modules.append(module)
    # A backslash at the end of a comment continues nothing: what looks like "from" may be the comment's last words.
    if _START_BACKWARDS.match(backwards) and (not modules or b"#" in before):
        modules.append(b"")
    return modules


def _listed(source: bytes, begin: int) -> tuple[list[bytes], int]:
    """Return the names listed from ``begin``, right after an ``import``, and where the list ends.

    No names if it reads like no list that Python knows.
    """
    items: list[bytes] = []
    words: list[bytes] = []
    in_parentheses = False
    end = begin
    for piece in _PIECE.finditer(source, begin):
        text, mark = piece.groups()
        end = piece.end()
        words += text.split()
        if mark == b"(" and not in_parentheses and not words:
            in_parentheses = True
        elif not in_parentheses or mark[:1] not in (b"\n", b"#"):
            name = _dotted(words[: words.index(b"as")] if b"as" in words else words)
            if words and not _NAME.fullmatch(name):
                return [], end
            items += [name] if words else []
            words = []
            if mark != b",":
                break
        if end - begin > MAX_IMPORT_BYTES:
            break
    return items, end


def _dotted(words: list[bytes]) -> bytes:
    """Return ``a.b`` for ``a . b``, and nothing for words without a dot between them, which are prose."""
    if any(not left.endswith(b".") and not right.startswith(b".") for left, right in pairwise(words)):
        return b""
    return b"".join(words)


def _under(module: bytes, item: bytes) -> bytes:
    return module + (b"." if module and not module.endswith(b".") else b"") + item


def _called(source: bytes, end: int) -> list[bytes]:
    """Return the name in ``import_module("a.b")``, absolute if the call names the package it is relative to."""
    if not (call := _CALL.match(source, end)):
        return []
    name, package = call[2], call[4]
    rest = name.lstrip(b".")
    if package and rest != name:
        return [package.rsplit(b".", len(name) - len(rest) - 1)[0] + b"." + rest]
    return [name]


def _text(name: bytes) -> str:
    """Return a name as Python looks it up: identifiers are compared in the form NFKC."""
    return name.decode() if name.isascii() else unicodedata.normalize("NFKC", name.decode("utf-8", "replace"))


def touched(old: Manifest, new: Manifest, imports: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the files that are the same in ``old`` and ``new`` but import, in any number of steps, what is not.

    Airflow must read them again, and does so only if they look newer. ``imports`` has the ``imported_names`` of each
    Python file in ``new``; what was removed counts as well. The paths are sorted.
    """
    changes = new.changes_from(old)
    changed = {path for paths in changes for path in paths if path.endswith(".py")}
    if not changed or len(changes.added) == len(new.files):
        return []
    importers = _Importers(old, new, imports)
    found = set(changed)
    fresh = set(importers.of(changed)).union(importers.of_anything) - found
    while fresh:
        found |= fresh
        fresh = set(importers.of(fresh)) - found
    return sorted(found - changed)


class _Importers:
    """Who imports a module, by its location: its path without ``.py`` or ``/__init__.py``.

    An absolute name is looked for in every folder above the file that imports it, since any of them may be on
    ``sys.path``. If none has it, any folder of the bundle that does may be: ``sys.path`` is often extended by a
    folder of helpers. ``dags.a`` may also be the bundle's own ``a``, below the folder that is its root.
    """

    def __init__(self, old: Manifest, new: Manifest, imports: Mapping[str, Sequence[str]]) -> None:
        self._manifests = old, new
        self._paths: dict[str, list[str]] = defaultdict(list)  # of the files that import a name
        for path, names in imports.items():
            for name in names:
                self._paths[name].append(path)
        self.of_anything = self._paths.pop(ANYTHING, [])
        self._names = sorted(self._paths)
        self._by_step: dict[str, list[str]] = {}
        # What was answered already: all modules of a folder share the importers of its star, which may be many.
        self._asked: set[str] = set()
        self._found: set[tuple[str, str]] = set()
        self._told: set[str] = set()

    def of(self, paths: Iterable[str]) -> Iterator[str]:
        """Yield the files that import one of the modules at ``paths`` directly, some of them twice.

        Those that were yielded for the same module, folder or name before, also by an earlier call, are left out.
        """
        for path in paths:
            *folders, last = _location(path).split("/")
            for end in (last, "*"):
                steps = [*folders, end]
                place = "/".join(steps)
                if place in self._asked:
                    continue
                self._asked.add(place)
                yield from self._by_location.get(place, ())
                for cut in range(len(steps)):
                    yield from self._finding("/".join(steps[:cut]), steps[cut], ".".join(steps[cut:]))

    @cached_property
    def _by_location(self) -> dict[str, list[str]]:
        """The files whose names can only mean one place, by each step of the way there."""
        files: dict[str, list[str]] = defaultdict(list)
        for name in (*self._below(""), *self._below("dags")):
            rest = name.lstrip(".") if name[0] == "." else name.removeprefix("dags.")
            for path in self._paths[name]:
                folders = path.split("/")[: len(rest) - len(name)] if name[0] == "." else []
                steps = [*folders, *filter(None, rest.split("."))]
                for length in range(len(folders), len(steps) + 1):
                    place = "/".join(steps[:length])
                    if place and place not in self._places and not place.endswith("*"):
                        break  # nothing is below it either
                    files[place].append(path)
        return files

    def _below(self, name: str) -> list[str]:
        """Return the names that start with ``name`` and a dot."""
        return self._names[bisect_left(self._names, name + ".") : bisect_left(self._names, name + "/")]

    def _finding(self, root: str, first: str, name: str) -> Iterator[str]:
        """Yield the files that import ``name``, which starts with ``first``, and may find it in the folder ``root``."""
        if name not in self._by_step:
            names = [name, *self._below(name)] if name else []  # who imports a.b imports a too
            importers = {path for name in names for path in self._paths.get(name, ())}
            if not importers:
                return  # and not kept: hardly any part of a path is imported, and a bundle may have millions
            self._by_step[name] = sorted(importers)
        if (root, name) in self._found:
            return
        self._found.add((root, name))
        paths = self._by_step[name]
        if not root:
            yield from paths
            return
        # The character after "/" is "0", and so these are the files below the folder.
        yield from paths[bisect_left(paths, root + "/") : bisect_left(paths, root + "0")]
        if name not in self._told and first not in _NEVER_ELSEWHERE:
            self._told.add(name)  # the other files that may find it are the same whatever the root
            yield from (path for path in paths if not self._is_above(path, first))

    def _is_above(self, path: str, first: str) -> bool:
        folders = path.split("/")[:-1]
        return any("/".join([*folders[:length], first]) in self._places for length in range(len(folders) + 1))

    @cached_property
    def _places(self) -> set[str]:
        """Every module and package there is or was."""
        places: set[str] = set()
        for manifest in self._manifests:
            for path in manifest.files:
                place = _location(path) if path.endswith(".py") else ""
                while place and place not in places:
                    places.add(place)
                    place = place.rpartition("/")[0]
        return places


_NEVER_ELSEWHERE = sys.stdlib_module_names | {"airflow"}
"""What such a name means if no folder above the file has it is not in the bundle."""


def _location(path: str) -> str:
    location = path.removesuffix(".py")
    return "" if location == "__init__" else location.removesuffix("/__init__")
