"""Which field a GraphQL document asks for: no more of the language is understood than finding its name takes.

Comments, strings, arguments, directives, aliases, fragments and the names of operations are skipped or followed. It
takes time in proportion to the document, and whatever else the document contains is not looked at.
"""

import re
from typing import NamedTuple

from dagferry_server.errors import RequestError

_TOKEN = re.compile(
    r'"""(?:\\"""|[^"]|"(?!""))*(?:""")?|"(?:\\.|[^"\\\n\r])*"?|#[^\n\r]*|\.\.\.|[_A-Za-z][_0-9A-Za-z]*|[^\s,\ufeff]'
)
"""A string is taken as far as it goes, closed or not: an open one must not be searched for its end again and again."""
_NAME = re.compile(r"[_A-Za-z][_0-9A-Za-z]*")
_CLOSES = {"(": ")", "[": "]", "{": "}"}
_OPERATIONS = {"query", "mutation", "subscription"}
_UNCLEAR = "The query is not a GraphQL document with one operation."


class RootField(NamedTuple):
    """The first field of an operation: the key that its value has in the response (its alias, if any), and its name."""

    key: str
    name: str


class _Definition(NamedTuple):
    """An operation or a fragment: the words before its selections, and where the selections begin."""

    head: list[str]
    start: int


def root_field(document: str, operation: str | None = None) -> RootField:
    """Return the first root field of a document, or of its operation with this name.

    Raises ``RequestError`` if there is no such operation, or more than one that could be meant.
    """
    # Strings stay, as one word each: what is in them counts for nothing.
    words = [word for word in _TOKEN.findall(document) if not word.startswith("#")]
    definitions = _definitions(words)
    fragments = {one.head[1]: one.start for one in definitions if one.head[:1] == ["fragment"] and len(one.head) > 1}
    operations = [one for one in definitions if not one.head or one.head[0] in _OPERATIONS]
    if operation:
        operations = [one for one in operations if one.head[1:2] == [operation]]
    if len(operations) != 1:
        raise RequestError(_UNCLEAR)
    return _first_field(words, operations[0].start, fragments)


def _definitions(words: list[str]) -> list[_Definition]:
    found: list[_Definition] = []
    head: list[str] = []
    opened: list[str] = []  # what closes the brackets that are open
    for at, word in enumerate(words):
        if word == "{" and not opened:
            found.append(_Definition(head, at + 1))
            head = []
        elif not opened:
            head.append(word)
        if word in _CLOSES:
            opened.append(_CLOSES[word])
        elif word in _CLOSES.values() and (not opened or opened.pop() != word):
            raise RequestError(_UNCLEAR)
    if opened or head:
        raise RequestError(_UNCLEAR)
    return found


def _first_field(words: list[str], at: int, fragments: dict[str, int]) -> RootField:
    """Return the field at which a selection set begins; spreads are followed, each fragment once."""
    left = dict(fragments)
    while True:
        first, second, third = (*words[at : at + 3], "", "", "")[:3]
        if first != "...":
            break
        if second in left and second != "on":
            at = left.pop(second)
        elif second in {"on", "{", "@"}:  # an inline fragment
            at = _selections(words, at)
        else:
            raise RequestError(_UNCLEAR)
    name = third if second == ":" else first
    if not (_NAME.fullmatch(first) and _NAME.fullmatch(name)):
        raise RequestError(_UNCLEAR)
    return RootField(first, name)


def _selections(words: list[str], at: int) -> int:
    """Return where the selections of what begins at ``at`` begin; the arguments of its directives may have braces."""
    depth = 0
    for index in range(at, len(words)):
        word = words[index]
        depth += (word == "(") - (word == ")")
        if word in {"{", "}"} and not depth:
            if word == "{":
                return index + 1
            break
    raise RequestError(_UNCLEAR)
