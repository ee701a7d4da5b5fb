"""Colors source text, by Pygments: each line as HTML in which a few classes say what a word is.

The text is not trusted. It is escaped here, word by word. What is long, or of a language that few DAG folders have, has
no colors. The time is bounded by a deadline between words too: a regular expression may take long for a small text.
"""

import math
import time
from collections.abc import Callable
from functools import cache

from markupsafe import Markup, escape

from dagferry_server.web.texts import shown

MAX_COLORED_CHARACTERS = 128 * 1024
MAX_COLORED_LINE_CHARACTERS = 2000
LEXERS = {
    "py": "python",
    "sql": "sql",
    "yaml": "yaml",
    "yml": "yaml",
    "json": "json",
    "toml": "toml",
    "sh": "bash",
    "cfg": "ini",
    "ini": "ini",
}
"""Pygments' names of the languages, by the suffix of a file's name."""


def colored_lines(path: str, lines: list[str], ends: float = math.inf) -> Callable[[int], Markup]:
    """Return what gives the HTML of a line by its number, from 0: in color, if it is known how and not too much.

    What is not colored by ``ends``, on the monotonic clock, has no color.
    """
    lexer = LEXERS.get(path.rpartition(".")[2].lower())
    # Blank lines are skipped: Pygments' Python looks from each one that has a space to the last one, and all of the
    # server waits for a regular expression.
    text = "\n".join("" if line.isspace() else line for line in lines)
    is_long = len(text) > MAX_COLORED_CHARACTERS or max(map(len, lines), default=0) > MAX_COLORED_LINE_CHARACTERS
    if lexer is None or is_long:
        return lambda number: escape(shown(lines[number]))
    colored = _colored(lexer, text, ends)
    return lambda number: Markup("").join(colored[number]) or escape(shown(lines[number]))


def _colored(lexer: str, text: str, ends: float) -> list[list[Markup]]:
    lines: list[list[Markup]] = [[]]
    for start, kind, word in _lexer(lexer).get_tokens_unprocessed(text):  # type: ignore[attr-defined]
        is_late = time.monotonic() > ends
        css, piece = ("", text[start:]) if is_late else (_css_class(kind), word)
        for number, part in enumerate(piece.split("\n")):
            if number:
                lines.append([])
            if part:
                html = escape(shown(part))
                lines[-1].append(Markup('<b class="{}">{}</b>').format(css, html) if css else html)
        if is_late:
            break
    return lines


@cache
def _lexer(name: str) -> object:
    from pygments.lexers import get_lexer_by_name  # noqa: PLC0415 - loaded with the first page that needs it

    return get_lexer_by_name(name)


@cache
def _css_class(kind: object) -> str:
    """Return the class of Pygments' kind of word; empty: it is not colored."""
    from pygments.token import Comment, Keyword, Literal, Name, Number, Operator, String  # noqa: PLC0415

    classes = (
        (Comment, "c"),
        (String, "s"),
        (Number, "m"),
        (Literal, "s"),
        (Keyword, "k"),
        (Operator.Word, "k"),
        (Name.Decorator, "d"),
        (Name.Function, "f"),
        (Name.Class, "f"),
        (Name.Tag, "f"),
    )
    return next((css for parent, css in classes if kind in parent), "")
