r"""Which DAG ids stand as literals in a Python source, read from its text.

Found are ``DAG("x")``, ``DAG(…, dag_id="x")``, ``@dag("x")`` and ``@dag(…, dag_id="x")``, under any module's name, and
the name of the function under an ``@dag`` that gives no id. Ids that are computed or come from a name are not found. As
``scan`` explains, the text is not parsed, so an example in a docstring counts too.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

MAX_CALL_BYTES = 4096
"""How much text of a call is looked at. A longer one has no id here."""
MAX_CALLS = 1000
"""How many calls are looked at in one file, and how many decorators."""
MAX_UNENDED = 8
"""After so many calls without an end, the rest of a file is not looked at: each may cost ``MAX_CALL_BYTES``."""

_CALL = re.compile(rb"DAG[ \t]*\(")
_DECORATOR = re.compile(rb"@[ \t]*(?:[\w.]{1,200}\.)?dag(?![\w.])[ \t]*(\(?)")
_IDENTIFIER = frozenset(b"_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" + bytes(range(128, 256)))
_MAX_LINE_BYTES = 200

# Each string matches from its first quote on, even if it has no end: so the time is linear for any text.
_TOKEN = re.compile(
    rb"(#[^\r\n]*)|([()\[\]{}])|"
    rb"\"\"\"(?:[^\\]|\\.)*?(?:\"\"\"|\\?\Z)|'''(?:[^\\]|\\.)*?(?:'''|\\?\Z)|"
    rb"\"(?:[^\"\\\r\n]|\\.)*\"?|'(?:[^'\\\r\n]|\\.)*'?",
    re.DOTALL,
)
_ARGUMENT = re.compile(rb"\s*(?:([A-Za-z_]\w*)\s*=(?!=)\s*)?(.*)\Z", re.DOTALL)
_LITERAL = re.compile(rb"\s*[rRuU]?(\"\"\"|'''|\"|')([\w.\-\x80-\xff]{1,250})\1\s*\Z")
_FUNCTION = re.compile(rb"^[ \t]*(?:async[ \t]+)?def[ \t]+([A-Za-z_]\w{0,249})", re.MULTILINE)


class Shared(NamedTuple):
    """A DAG id that two files have: one below a folder, and another one beside it."""

    dag_id: str
    path: str
    other: str


def dag_ids(source: bytes) -> tuple[str, ...]:
    """Return the DAG ids that are literals in ``source``, each once."""
    found = dict.fromkeys((*_of_calls(source), *_of_decorators(source)))
    return tuple(found)


def shared_dag_ids(ids: Mapping[str, Sequence[str]], under: str) -> list[Shared]:
    """Return the ids that a file below ``under`` (``team-a/``) and one beside it have, each once, sorted.

    ``ids`` has the ``dag_ids`` of each file.
    """
    below: dict[str, str] = {}
    beside: dict[str, str] = {}
    for path in sorted(ids):
        for dag_id in ids[path]:
            (below if path.startswith(under) else beside).setdefault(dag_id, path)
    return [Shared(dag_id, below[dag_id], beside[dag_id]) for dag_id in sorted(below.keys() & beside.keys())]


def _of_calls(source: bytes) -> Iterator[str]:
    position = unended = 0
    for _ in range(MAX_CALLS):
        if unended == MAX_UNENDED or not (call := _CALL.search(source, position)):
            return
        position = call.end()
        before = _line_before(source, call.start())
        if (before and before[-1] in _IDENTIFIER) or b"#" in before:  # another word, as MyDAG(, or a comment
            continue
        end = _end_of_call(source, position)
        unended += end is None
        if end:
            position, arguments = end
            if (dag_id := _given(arguments)) and (text := _text(dag_id)):
                yield text


def _of_decorators(source: bytes) -> Iterator[str]:
    position = unended = 0
    for _ in range(MAX_CALLS):
        if unended == MAX_UNENDED or not (decorator := _DECORATOR.search(source, position)):
            return
        position = decorator.end()
        if _line_before(source, decorator.start()).strip():
            continue
        dag_id: bytes | None = b""
        if decorator[1]:
            end = _end_of_call(source, position)
            if end is None:
                unended += 1
                continue
            position, arguments = end
            dag_id = _given(arguments)
        if dag_id == b"":
            function = _FUNCTION.search(source[position : position + MAX_CALL_BYTES])
            if function is None:
                unended += 1
                continue
            dag_id = function[1]
            position += function.end()
        if dag_id and (text := _text(dag_id)):
            yield text


def _line_before(source: bytes, end: int) -> bytes:
    """Return the text of a line before ``end``; of a long line only the last part."""
    start = max(end - _MAX_LINE_BYTES, 0)
    return source[max(source.rfind(b"\n", start, end) + 1, start) : end]


def _end_of_call(source: bytes, start: int) -> tuple[int, list[bytes]] | None:
    """Return where the call ends whose arguments start at ``start``, and each argument without what is in brackets.

    ``None`` if its end is not found.
    """
    window = source[start : start + MAX_CALL_BYTES]
    depth = 1
    arguments = [b""]
    position = 0
    for token in _TOKEN.finditer(window):
        if depth == 1:
            first, *more = window[position : token.start()].split(b",")
            arguments[-1] += first
            arguments += more
        position = token.end()
        comment, bracket = token.groups()
        if bracket:
            depth += 1 if bracket in b"([{" else -1
            if not depth:
                return start + position, arguments
            if depth == 1:
                arguments[-1] += b"()"  # so that what is before or after it does not look like a literal
        elif depth == 1 and not comment:
            arguments[-1] += token[0]
    return None


def _given(arguments: list[bytes]) -> bytes | None:
    """Return the id that the arguments of a call give: ``b""`` if they give none, ``None`` if it is not a literal."""
    for number, argument in enumerate(arguments):
        name, value = _ARGUMENT.match(argument).groups()  # type: ignore[union-attr] # it matches anything
        if name == b"dag_id" or (number == 0 and name is None and value.strip()) or value.startswith(b"*"):
            literal = _LITERAL.match(value)
            return literal[2] if literal else None
    return b""


def _text(dag_id: bytes) -> str:
    """Return an id as text; empty if it cannot be one."""
    try:
        text = dag_id.decode()
    except UnicodeDecodeError:
        return ""
    return text if re.fullmatch(r"[\w.\-]+", text) else ""
