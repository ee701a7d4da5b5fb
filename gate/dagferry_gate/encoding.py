"""The encoding of a Python source (PEP 263): found, and the text decoded, as Python does it.

Python reads UTF-8 unless a comment in one of the first two lines names another encoding. ruff reads UTF-8 only, so
other sources are transcoded; lines, and columns in characters, stay the same.
"""

import codecs
import re
from typing import NamedTuple

from dagferry_gate.findings import printable

_BOM = codecs.BOM_UTF8
_FIRST_LINES = re.compile(rb"([^\r\n]*)(?:\r\n?|\n)?([^\r\n]*)")
_COOKIE = re.compile(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)", re.ASCII)
_BLANK = re.compile(rb"[ \t\f]*(?:#.*)?")
_COMMENT = re.compile(rb"(?<![^\r\n])([^'\"#\r\n]*#)([^\r\n]*)")
_LINE_END = re.compile(r"\r\n?|\n")
_USUAL = re.compile(
    r"utf-8|ascii|iso8859-\d+|cp\d+|koi8-[rtu]|mac-\w+|gb2312|gbk|gb18030|big5(?:hkscs)?|euc_\w+|shift_ji\w+|johab"
    r"|tis-620|kz1048|ptcp154|hp-roman8"
)
"""The names of the codecs that sources may have. Of the others, some take quadratic time, and Python reads few."""


class Undecodable(NamedTuple):
    """Where a source is not in its encoding, from 1, and why; columns count characters."""

    line: int
    column: int
    message: str


def to_utf8(source: bytes) -> bytes | Undecodable:
    """Return the text of ``source`` in UTF-8, without a byte order mark, or why Python cannot read it."""
    has_bom = source.startswith(_BOM)
    source = source.removeprefix(_BOM)
    line, name = _declared(source)
    if has_bom and not _is_utf8(name):
        return Undecodable(line, 1, printable(f"the file has a byte order mark of UTF-8, but declares {name}"))
    codec = "utf-8" if _is_utf8(name) else _codec(name)
    if codec is None:
        return Undecodable(line, 1, printable(f"the encoding {name} is unknown; save the file as UTF-8"))
    if codec == "utf-8":
        source = _with_readable_comments(source)
    zero = source.find(b"\0")
    try:
        text = source.decode(codec)
    except UnicodeDecodeError as error:
        where = error.start if zero < 0 else min(error.start, zero)
        reason = (
            f"byte 0x{source[error.start]:02x} is not valid {codec}; save the file as UTF-8, or declare its encoding"
        )
    else:
        if zero < 0:
            return source if codec == "utf-8" else text.encode(errors="replace")
        where = zero
    if where == zero:
        reason = "the file has a null byte"
    lines = _LINE_END.split(source[:where].decode(codec, "replace"))
    return Undecodable(len(lines), len(lines[-1]) + 1, reason)


def _declared(source: bytes) -> tuple[int, str]:
    """Return the line that declares an encoding, and its name; ``utf-8`` if there is none."""
    match = _FIRST_LINES.match(source)
    first, second = match.groups() if match else (b"", b"")
    if cookie := _COOKIE.match(first):
        return 1, cookie[1].decode()
    if _BLANK.fullmatch(first) and (cookie := _COOKIE.match(second)):
        return 2, cookie[1].decode()
    return 1, "utf-8"


def _with_readable_comments(source: bytes) -> bytes:
    """Replace what is not UTF-8 in comments, unless a quote stands before them: Python does not look at those.

    A line in a string may look like a comment; then this misses an error.
    """
    try:
        source.decode()
    except UnicodeDecodeError:
        return _COMMENT.sub(lambda found: found[1] + found[2].decode(errors="replace").encode(), source)
    return source


def _is_utf8(name: str) -> bool:
    name = name.lower().replace("_", "-")
    return name == "utf-8" or name.startswith("utf-8-")


def _codec(name: str) -> str | None:
    # Emacs has latin-1-unix and the like, and Python knows it.
    if re.match(r"(latin-1|iso-8859-1|iso-latin-1)(-|$)", name.lower().replace("_", "-")):
        return "iso8859-1"
    try:
        found = codecs.lookup(name).name
    except (LookupError, ValueError):  # ValueError: a name that no module can have
        return None
    return found if _USUAL.fullmatch(found) else None
