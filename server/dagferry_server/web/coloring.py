"""Colors source text, by Pygments: each line as HTML in which a few classes say what a word is.

The text is not trusted. It is escaped here, word by word. What is long, or of a language that few DAG folders have, has
no colors, because nothing else bounds the time that regular expressions take.
"""

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


def colored_lines(path: str, lines: list[str]) -> Callable[[int], Markup]:
    """Return what gives the HTML of a line by its number, from 0: in color, if it is known how and not too much."""
    lexer = LEXERS.get(path.rpartition(".")[2].lower())
    text = "\n".join(lines)
    is_long = len(text) > MAX_COLORED_CHARACTERS or max(map(len, lines), default=0) > MAX_COLORED_LINE_CHARACTERS
    if lexer is None or is_long:
        return lambda number: escape(shown(lines[number]))
    colored = _colored(lexer, text)
    return lambda number: Markup("").join(colored[number])


def _colored(lexer: str, text: str) -> list[list[Markup]]:
    lines: list[list[Markup]] = [[]]
    for _, kind, piece in _lexer(lexer).get_tokens_unprocessed(text):  # type: ignore[attr-defined]
        css = _css_class(kind)
        for number, part in enumerate(piece.split("\n")):
            if number:
                lines.append([])
            if part:
                word = escape(shown(part))
                lines[-1].append(Markup('<b class="{}">{}</b>').format(css, word) if css else word)
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
