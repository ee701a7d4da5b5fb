"""What a command prints: data on stdout, everything else on stderr.

Text of the server (descriptions, names of users, messages) is printed without control characters, which could move the
cursor, change the colors or hide text in a terminal. On a terminal there are colors, unless ``NO_COLOR`` is set;
elsewhere tables are plain columns, and ``--json`` prints one JSON object.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from dagferry_core.errors import DagferryError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

MAX_LISTED = 20
"""How many problems or paths of an error are printed; with ``--json`` all of them."""
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_SHORT = 100  # in two-digit units, "90 min" is still exact enough


class Styled(NamedTuple):
    """A cell with a style of rich, such as ``green`` or ``bold red``, for terminals."""

    text: str
    style: str


Cell = str | Styled
_ERROR, _NOTHING = Styled("Error:", "bold red"), Styled("", "")


class View(NamedTuple):
    """Lines, each of parts that may have a style, and a table below them; ``head`` is empty if there is none."""

    lines: Sequence[Sequence[Cell]]
    head: Sequence[str] = ()
    rows: Sequence[Sequence[Cell]] = ()


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
    """Prints what a command has to say. ``json_wanted`` and ``quiet`` are ``--json`` and ``--quiet``.

    ``warnings`` are those that were printed, each in one line.
    """

    def __init__(self, *, json_wanted: bool = False, quiet: bool = False) -> None:
        self.json_wanted = json_wanted
        self._quiet = quiet
        self.warnings: list[str] = []

    @property
    def is_watched(self) -> bool:
        """Whether somebody sees at a terminal what is said."""
        return not self._quiet and sys.stderr.isatty()

    # --- stdout: data ------------------------------------------------------------------------------------------------

    def json(self, value: object) -> None:
        """Print ``value`` as JSON; NamedTuples in it become objects."""
        # Escapes keep the control characters of the server's texts away from a terminal here too.
        sys.stdout.write(json.dumps(_plain(value), indent=2) + "\n")

    def json_line(self, value: object) -> None:
        """Print ``value`` as JSON in one line, at once: one of many."""
        sys.stdout.write(json.dumps(_plain(value)) + "\n")
        sys.stdout.flush()

    def line(self, text: str) -> None:
        """Print a line of data."""
        sys.stdout.write(clean(text) + "\n")

    def styled(self, *parts: Cell) -> None:
        """Print a line of data in which some parts have a style."""
        if sys.stdout.isatty():
            # The terminal breaks long lines, so that a URL that is copied is whole.
            _console().print(_rich_line(parts), soft_wrap=True)
        else:
            sys.stdout.write("".join(_cell(part).text for part in parts) + "\n")

    def row(self, cells: Sequence[Cell], widths: Sequence[int]) -> None:
        """Print a row of a table at once; all of its columns but the last have ``widths``."""
        made = [_cell(cell) for cell in cells]
        if not sys.stdout.isatty():
            padded = [cell.text.ljust(width) for cell, width in zip(made, (*widths, 0), strict=True)]
            sys.stdout.write("  ".join(padded).rstrip() + "\n")
            return
        from rich.table import Table  # noqa: PLC0415 - 50 ms, which only a terminal needs
        from rich.text import Text  # noqa: PLC0415

        grid = Table.grid(padding=(0, 2, 0, 0))
        for width in (*widths, None):
            grid.add_column(width=width, overflow="fold")
        grid.add_row(*(Text(cell.text, cell.style) for cell in made))
        _console().print(grid)

    def text(self, lines: Iterable[Styled]) -> None:
        """Print lines of files: exactly as they are where a program reads them, as ``patch`` does.

        On a terminal they have their colors and no control characters, and are not wrapped.
        """
        if not sys.stdout.isatty():
            sys.stdout.flush()
            for line in lines:
                # As bytes: a file may have characters that the encoding of stdout does not have.
                sys.stdout.buffer.write(line.text.encode() + b"\n")
            sys.stdout.buffer.flush()
            return
        console = _console()
        for line in lines:
            console.print(_rich_line((line._replace(text=line.text.expandtabs()),)), soft_wrap=True)

    def table(self, head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
        """Print a table: with colors on a terminal, elsewhere in plain columns."""
        listed = [[_cell(cell) for cell in row] for row in rows]
        if sys.stdout.isatty():
            _console().print(_rich_table(head, listed))
            return
        lines = [list(head), *([cell.text for cell in row] for row in listed)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            padded = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            sys.stdout.write(padded.rstrip() + "\n")

    def view(self, view: View) -> None:
        """Print lines and the table below them."""
        for parts in view.lines:
            self.styled(*parts)
        if view.head:
            self.table(view.head, view.rows)

    @contextmanager
    def redrawn(self) -> Iterator[Callable[[Callable[[], View]], None] | None]:
        """Give a function that shows a view, which is made anew each second, in place of the last one.

        Gives ``None`` where nothing can be redrawn: without a terminal, on a dumb one, and with ``--json``. What is
        shown last stays.
        """
        if self.json_wanted or not sys.stdout.isatty() or _console().is_dumb_terminal:
            yield None
            return
        from rich.console import Group  # noqa: PLC0415 - 50 ms, which only a terminal needs
        from rich.live import Live  # noqa: PLC0415

        make: Callable[[], View] = lambda: View([])  # noqa: E731 - replaced below

        def drawn() -> Group:
            view = make()
            return Group(*map(_rich_line, view.lines), *([_rich_table(view.head, view.rows)] if view.head else []))

        with Live(
            get_renderable=drawn,
            console=_console(),
            refresh_per_second=1,
            # A sentence about a lost connection comes above it, unless stderr goes elsewhere.
            redirect_stderr=sys.stderr.isatty(),
        ) as live:

            def show(made: Callable[[], View]) -> None:
                nonlocal make
                make = made
                live.refresh()

            yield show

    # --- stderr: everything else -------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Print a sentence about what happens; not with ``--quiet``."""
        if not self._quiet:
            self._talk(text)

    def warn(self, text: str) -> None:
        """Print a warning, also with ``--quiet``; one that was printed already is not repeated."""
        if clean(text) not in self.warnings:
            self.warnings.append(clean(text))
            self._talk(f" {text}", Styled("Warning:", "bold yellow"))

    def complain(self, message: str, hint: str, details: Iterable[str] = ()) -> None:
        """Print what went wrong, its details, and in a last line what to do about it."""
        self._talk(f" {message}", _ERROR)
        for line in details:
            self._talk(f"  {line}")
        if hint:
            self._talk(hint)

    def error(self, error: DagferryError) -> None:
        """Print ``error``; as one JSON object with ``--json``, so that a script need not read sentences.

        That object is one line, the last one of stderr: nothing is printed after an error.
        """
        said: Mapping[str, Any] = error.as_dict()
        if self.json_wanted:
            sys.stderr.write(json.dumps(said) + "\n")
            return
        self.complain(error.message, error.hint, _listed(said))

    @staticmethod
    def _talk(text: str, first: Styled = _NOTHING) -> None:
        sys.stdout.flush()  # so that both come in their order where they go to the same place
        if first.text and sys.stderr.isatty():
            _console(sys.stderr).print(_rich_line((first, text)), soft_wrap=True)
        else:
            sys.stderr.write(f"{first.text}{clean(text)}\n")
        sys.stderr.flush()


def _cell(cell: Cell) -> Styled:
    return Styled(clean(cell.text), cell.style) if isinstance(cell, Styled) else Styled(clean(cell), "")


def _console(file: TextIO | None = None) -> "Console":
    from rich.console import Console  # noqa: PLC0415 - 50 ms, which only a terminal needs

    return Console(file=file or sys.stdout, highlight=False)


def _rich_line(parts: Sequence[Cell]) -> "Text":
    from rich.text import Text  # noqa: PLC0415 - 50 ms, which only a terminal needs

    return Text.assemble(*((cell.text, cell.style) for cell in map(_cell, parts)))


def _rich_table(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> "Table":
    from rich.table import Table  # noqa: PLC0415 - 50 ms, which only a terminal needs
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell.text, cell.style) for cell in map(_cell, row)))
    return table


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
    older = " (it is live already)" if one.get("new") is False else ""
    return f"{where}: {one.get('message', '')}{older}"
