r"""Which modules a Python source imports, read from its text, without a Python parser.

``ast`` is not used: it takes seconds for 60 MB, and reads only what the server's own Python can. This scan looks at
every ``import`` in the text. It may find one too many (in a docstring), but never misses an import statement, wherever
it is and however it is formatted; ``import_module("a.b")`` and ``__import__("a.b")`` count too, also under another name
(``import_module as load``, ``load = importlib.import_module``). Names that are computed at run time cannot be found.

A name is written as the source means it: ``import a.b`` is ``a.b``, ``from a import b`` is ``a.b`` too (``b`` may be a
module), ``from a import *`` is ``a.*``, ``from ..a import b`` is ``..a.b``. Sources are read as UTF-8; in other
encodings, ASCII names are found too.
"""

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise

from dagferry_core.limits import MAX_PATH_BYTES

ANYTHING = "*"
"""The only name of a file with too many imports to read: it counts as importing every module."""

MAX_IMPORT_BYTES = 64 * 1024
"""How much text of imports, and of the names in them, is read in one file. Without it, a malicious file of a few
MB could name gigabytes: a million names from one module with a long name."""

MAX_ALIASES = 8
"""How many other names of ``import_module`` are followed in one file."""
_MAX_ALIAS_BYTES = 80
_MAX_ASSIGNMENT_BYTES = 200

# The time is linear for any text: no repetition may end at many positions and be retried at each. A
# vertical tab stands for a backslash at the end of a line (see _normalized).
_WORD = re.compile(rb"mport(?:_module|__)?(?![\w\x80-\xff])")  # without the "i", which is too frequent to search for
_FIRST_LETTER = ord("i")
_IDENTIFIER = frozenset(b"_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" + bytes(range(128, 256)))
_FROM = re.compile(rb"[ \t]*from[ \t]+([\w.\x80-\xff]+)[ \t]+")
_START_BACKWARDS = re.compile(rb"[ \t\f]*(?:[;:\v]|\Z|yzal(?![\w\x80-\xff]))")  # PEP 810 has "lazy import a"
_FROM_BACKWARDS = re.compile(rb"([\w. \t\f\v\x80-\xff]*?[. \t\f\v])morf" + _START_BACKWARDS.pattern)
_PIECE = re.compile(rb"([^,;#\n()]{0,%d})(#[^\n\v]*|[,;\n()]?)" % MAX_IMPORT_BYTES)
_USUAL = re.compile(rb"[ \t]*(?:from +([\w.]+) +)?import +([\w.]+(?:, ?[\w.]+){0,20})(?:\n|\Z)")
_NAME = re.compile(rb"[\w.\x80-\xff]+|\*")
_LITERAL = rb"[rRuU]?(\"\"\"|'''|[\"'])([^\"'\\\s]+)"
_CALL = re.compile(
    rb"\s*\(\s*(?:#[^\n\v]{0,200}[\n\v]\s*){0,9}"
    rb"(?:package\s*=\s*(?:" + _LITERAL + rb"\1|[\w.]{1,200})\s*,\s*)?"
    rb"(?:name\s*=\s*)?" + _LITERAL + rb"\3"
    rb"(?:\s*,\s*(?:package\s*=\s*)?" + _LITERAL + rb"\5)?"
)
_RENAMED = re.compile(rb"\s+as\s+([\w\x80-\xff]{1,%d})" % _MAX_ALIAS_BYTES)
_WHOSE = re.compile(rb"[ \t]*(?:[\w.\x80-\xff]+\.)?(?:__)?")  # as in "load = importlib.import_module"


def imported_names(source: bytes) -> tuple[str, ...]:
    """Return the names that ``source`` imports, each once, in the order of the text; or ``(ANYTHING,)``."""
    source = _normalized(source)
    names: dict[bytes, None] = {}
    aliases: set[bytes] = set()
    looked_at = last = 0
    for word in _WORD.finditer(source):
        start, end = word.start() - 1, word.end()
        if start < 0 or source[start] != _FIRST_LETTER:
            continue
        found: list[bytes] = []
        if end - start > len(b"import"):
            found = _called(source, end)
            aliases.update(() if found else _other_names(source, start, end))
        elif not start or source[start - 1] not in _IDENTIFIER:
            line = max(source.rfind(b"\n", last, start) + 1, last)
            last = end  # no statement has the word twice, so the text before it need not be searched again
            found, end = _imported(source, line, start, end)
        looked_at += end - start + sum(map(len, found))
        if looked_at > MAX_IMPORT_BYTES or len(aliases) > MAX_ALIASES:
            return (ANYTHING,)
        names.update(dict.fromkeys(found))
    for name in _called_by(aliases, source):
        looked_at += len(name)
        if looked_at > MAX_IMPORT_BYTES:
            return (ANYTHING,)
        names[name] = None
    return _texts(names)


def _texts(names: dict[bytes, None]) -> tuple[str, ...]:
    names.pop(b"*", None)
    text = b"\n".join(names)
    if names and len(text) <= MAX_PATH_BYTES and text.isascii():  # as in nearly all files; all at once is quicker
        return tuple(text.decode().split("\n"))
    return tuple(dict.fromkeys(_text(name) for name in names if len(name) <= MAX_PATH_BYTES))


def _normalized(source: bytes) -> bytes:
    """Return the source with one kind of line end, and a vertical tab for each line end after a backslash."""
    source = source.removeprefix(b"\xef\xbb\xbf").replace(b"\v", b" ")
    if b"\r" in source:
        source = source.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    # To look for one byte first is far quicker, and many sources have none.
    return source.replace(b"\\\n", b"\v") if b"\\" in source else source


def _imported(source: bytes, line: int, start: int, end: int) -> tuple[list[bytes], int]:
    """Return what the statement with the ``import`` at ``start`` to ``end`` imports, and where its list ends."""
    if (usual := _USUAL.match(source, line)) and usual.start(2) > start:  # nearly all of them, so it is quick
        module, listed = usual.groups()
        items = [item.strip() for item in listed.split(b",")]
        if not module:
            return items, end
        module += b"" if module[-1:] == b"." else b"."
        return [module + item for item in items], end
    if not (modules := _modules(source, line, start)):
        return [], end
    items, end = _listed(source, end)
    return [_under(module, item) for module in modules for item in items], end


def _modules(source: bytes, line: int, start: int) -> list[bytes]:
    """Return what an ``import`` at ``start`` imports from, by the text of its line: ``b""`` for a plain import.

    Nothing if no statement begins here; both if only a parser could decide.
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

    No names if it is not a list that Python would accept.
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
    name, package = call[4], call[2] or call[6]
    rest = name.lstrip(b".")
    if package and rest != name:
        return [package.rsplit(b".", len(name) - len(rest) - 1)[0] + b"." + rest]
    return [name]


def _other_names(source: bytes, start: int, end: int) -> list[bytes]:
    """Return the other name that is given to the ``import_module`` at ``start`` to ``end``, if any."""
    if renamed := _RENAMED.match(source, end):
        return [renamed[1]]
    begin = max(start - _MAX_ASSIGNMENT_BYTES, source.rfind(b"\n", max(start - _MAX_ASSIGNMENT_BYTES, 0), start) + 1)
    left, assigned, owner = source[begin:start].rpartition(b"=")
    if not assigned or not _WHOSE.fullmatch(owner):
        return []
    # Before a colon may be the name, or an "if".
    words = [part.split()[-1] for part in (left, left.partition(b":")[0]) if part.strip()]
    return [word.lstrip(b"(") for word in words if len(word) <= _MAX_ALIAS_BYTES]


def _called_by(aliases: set[bytes], source: bytes) -> Iterator[bytes]:
    """Yield the names that are imported by calls of ``import_module`` under one of its other names."""
    if aliases:
        any_of_them = b"|".join(map(re.escape, sorted(aliases)))
        for word in re.finditer(rb"(?<![\w\x80-\xff])(?:%b)(?=\s*\()" % any_of_them, source):
            yield from _called(source, word.end())


def _text(name: bytes) -> str:
    """Return a name as Python looks it up: identifiers are compared in the form NFKC."""
    return name.decode() if name.isascii() else unicodedata.normalize("NFKC", name.decode("utf-8", "replace"))
