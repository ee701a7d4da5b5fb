"""What a command prints: data on stdout, everything else on stderr.

Text of the server (descriptions, names of users, messages) is printed without control characters, which could move the
cursor, change the colors or hide text in a terminal. On a terminal there are colors, unless ``NO_COLOR`` is set;
elsewhere tables are plain columns, and ``--json`` prints one JSON object.
"""

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from dagferry_core.errors import DagferryError

MAX_LISTED = 20
"""How many problems or paths of an error are printed; with ``--json`` all of them."""
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_SHORT = 100  # in two-digit units, "90 min" is still exact enough


class Styled(NamedTuple):
    """A cell with a style of rich, such as ``green`` or ``bold red``, for terminals."""

    text: str
    style: str


Cell = str | Styled


def clean(text: str) -> str:
    """Return ``text`` in one line, with ``?`` in place of everything that is not printable."""
    return "".join(letter if letter.isprintable() else "?" for letter in text.replace("\n", " "))


def ago(moment: float, now: float | None = None) -> str:
    """Return how long ago ``moment`` (seconds since the epoch) was: ``3 min ago``; a clock may be ahead."""
    seconds = int((time.time() if now is None else now) - moment)
    if seconds < 0:
        return "just now" if seconds > -_MINUTE else f"in {_length(-seconds)}"
    return f"{_length(seconds)} ago"


def _length(seconds: int) -> str:
    for unit, name in ((1, "s"), (_MINUTE, "min"), (_HOUR, "h")):
        if seconds < _SHORT * unit:
            return f"{seconds // unit} {name}"
    return f"{seconds // _DAY} days"


def utc(moment: float) -> str:
    """Return ``moment`` (seconds since the epoch) as ``2026-11-20 06:45:01 UTC``."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment))


def size(number: int) -> str:
    """Return a number of bytes for people: ``512 B``, ``1.5 MiB``."""
    value = float(number)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:  # noqa: PLR2004
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


class Output:
    """Prints what a command has to say. ``json_wanted`` and ``quiet`` are ``--json`` and ``--quiet``."""

    def __init__(self, *, json_wanted: bool = False, quiet: bool = False) -> None:
        self.json_wanted = json_wanted
        self._quiet = quiet

    # --- stdout: data ------------------------------------------------------------------------------------------------

    def json(self, value: object) -> None:
        """Print ``value`` as JSON; NamedTuples in it become objects."""
        # Escapes keep the control characters of the server's texts away from a terminal here too.
        sys.stdout.write(json.dumps(_plain(value), indent=2) + "\n")

    def line(self, text: str) -> None:
        """Print a line of data."""
        sys.stdout.write(clean(text) + "\n")

    def styled(self, *parts: Cell) -> None:
        """Print a line of data in which some parts have a style."""
        cells = [_cell(part) for part in parts]
        if not sys.stdout.isatty():
            sys.stdout.write("".join(cell.text for cell in cells) + "\n")
            return
        from rich.console import Console  # noqa: PLC0415 - 50 ms, which only a terminal needs
        from rich.text import Text  # noqa: PLC0415

        Console(file=sys.stdout, highlight=False).print(Text.assemble(*((cell.text, cell.style) for cell in cells)))

    def table(self, head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
        """Print a table: with colors on a terminal, elsewhere in plain columns."""
        listed = [[_cell(cell) for cell in row] for row in rows]
        if sys.stdout.isatty():
            self._rich_table(head, listed)
            return
        lines = [list(head), *([cell.text for cell in row] for row in listed)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            padded = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            sys.stdout.write(padded.rstrip() + "\n")

    @staticmethod
    def _rich_table(head: Sequence[str], rows: Sequence[Sequence[Styled]]) -> None:
        from rich.console import Console  # noqa: PLC0415 - 50 ms, which only a terminal needs
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in head:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell.text, cell.style) for cell in row))
        Console(file=sys.stdout, highlight=False).print(table)

    # --- stderr: everything else -------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Print a sentence about what happens; not with ``--quiet``."""
        if not self._quiet:
            self._talk(text)

    def warn(self, text: str) -> None:
        """Print a warning, also with ``--quiet``."""
        self._talk(f"Warning: {text}")

    def complain(self, message: str, hint: str) -> None:
        """Print what went wrong, and in a second line what to do about it."""
        self._talk(f"Error: {message}")
        if hint:
            self._talk(hint)

    def error(self, error: DagferryError) -> None:
        """Print ``error``; as one JSON object with ``--json``, so that a script need not read sentences."""
        said: Mapping[str, Any] = error.as_dict()
        if self.json_wanted:
            sys.stderr.write(json.dumps(said) + "\n")
            return
        self._talk(f"Error: {error.message}")
        for line in _listed(said):
            self._talk(f"  {line}")
        if error.hint:
            self._talk(error.hint)

    @staticmethod
    def _talk(text: str) -> None:
        sys.stdout.flush()  # so that both come in their order where they go to the same place
        sys.stderr.write(clean(text) + "\n")
        sys.stderr.flush()


def _cell(cell: Cell) -> Styled:
    return Styled(clean(cell.text), cell.style) if isinstance(cell, Styled) else Styled(clean(cell), "")


def _plain(value: object) -> object:
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: _plain(one) for name, one in value._asdict().items()}
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def _listed(details: Mapping[str, Any]) -> list[str]:
    """Return the lines below an error: the problems that the gate found, and the paths that would be removed."""
    lines = [_problem(one) for one in _list(details, "problems")]
    lines += [f"- {path}" for path in _list(details, "removed_paths")]
    more = len(lines) - MAX_LISTED
    return lines[:MAX_LISTED] + ([f"and {more} more"] if more > 0 else [])


def _list(details: Mapping[str, Any], name: str) -> list[Any]:
    found = details.get(name)
    return found if isinstance(found, list) else []


def _problem(one: object) -> str:
    if not isinstance(one, Mapping):
        return str(one)
    where = ":".join(str(one[name]) for name in ("path", "line", "column") if one.get(name))
    return f"{where}: {one.get('message', '')}"
