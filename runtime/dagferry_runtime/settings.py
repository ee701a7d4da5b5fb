"""Settings from flags and environment variables, for all commands.

A setting ``--poll-wait`` is also ``DAGFERRY_POLL_WAIT``; the flag wins. Unknown variables of that prefix are no error,
because Kubernetes injects some (a Service named ``dagferry`` sets ``DAGFERRY_PORT``). A bad value or an unknown flag
ends with exit code 2 and one line on stderr.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from dagferry_core import __version__
from dagferry_core.errors import SetupError

HELP_COLUMNS = 100


class Setting(NamedTuple):
    """One setting of a command.

    ``parse`` turns the text of the flag or variable into the value and raises ``ValueError`` with what is wrong with
    it; ``None`` makes a switch, which a variable sets with ``1``/``true``/``yes``/``on`` and clears with their
    opposites. ``default`` is a value, already parsed; ``metavar`` and ``help`` are what ``--help`` and the docs show.
    """

    flag: str
    parse: Callable[[str], Any] | None
    default: Any
    metavar: str
    help: str

    @property
    def name(self) -> str:
        """The attribute that holds the value: ``poll_wait``."""
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def variable(self) -> str:
        """The environment variable: ``DAGFERRY_POLL_WAIT``."""
        return "DAGFERRY_" + self.name.upper()

    @property
    def shown_default(self) -> str:
        """The default as a person writes it; empty if there is none."""
        if self.default is None or self.default is False:
            return ""
        if isinstance(self.default, tuple):
            # An address, or a list.
            return (":" if isinstance(self.default[-1], int) else ",").join(map(str, self.default))
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)

    def value_of(self, text: str, source: str) -> Any:
        """Parse ``text``, which came from ``source`` (a flag or a variable); raise ``SetupError`` in one line."""
        try:
            return (self.parse or _switch)(text)
        except ValueError as error:
            # In front of an @ may stand a password, as in a URL; what is behind it says enough.
            _, at, shown = text.rpartition("@")
            raise SetupError(f"{source}={'…' * bool(at) + at + shown!r}: {error}") from error


def _switch(text: str) -> bool:
    if text.lower() in {"1", "true", "yes", "on"}:
        return True
    if text.lower() in {"", "0", "false", "no", "off"}:
        return False
    raise ValueError("a switch takes true or false")


class _Help(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=HELP_COLUMNS)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SetupError(message[:1].upper() + message[1:] + ".")


def parse(
    program: str,
    about: str,
    settings: Sequence[Setting],
    arguments: Sequence[str],
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """Return the value of every setting by name: from its flag, else its variable, else its default.

    Raises ``SetupError`` on an unknown flag or a bad value. ``--help`` and ``--version`` print and exit with 0.
    """
    # A width of its own: to ask the terminal for its width, argparse imports shutil, which costs a cold start 3 ms.
    parser = _Parser(program, description=about, allow_abbrev=False, formatter_class=_Help)
    parser.add_argument("--version", action="version", version=f"{program} {__version__}")
    for setting in settings:
        default = f" (default {setting.shown_default})" if setting.shown_default else ""
        text = f"{setting.help}{default} [{setting.variable}]".replace("%", "%%")
        if setting.parse is None:
            parser.add_argument(setting.flag, action="store_true", default=None, help=text)
        else:
            parser.add_argument(setting.flag, metavar=setting.metavar, help=text)
    given = vars(parser.parse_args(list(arguments)))
    values = {}
    for setting in settings:
        flag = given[setting.name]
        if isinstance(flag, str):
            values[setting.name] = setting.value_of(flag, setting.flag)
        elif flag is not None:
            values[setting.name] = flag
        elif setting.variable in environment:
            values[setting.name] = setting.value_of(environment[setting.variable], setting.variable)
        else:
            values[setting.name] = setting.default
    return values


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """Return a parser of whole numbers from ``low`` to ``high``."""

    def read(text: str) -> int:
        number = int(text) if text.removeprefix("-").isdecimal() else None
        if number is None or number < low or (high is not None and number > high):
            upper = "up" if high is None else f"to {high}"
            raise ValueError(f"a whole number from {low} {upper} is expected")
        return number

    return read


def seconds(low: float, high: float) -> Callable[[str], float]:
    """Return a parser of a number of seconds from ``low`` to ``high``."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not low <= number <= high:
            raise ValueError(f"a number of seconds from {low:g} to {high:g} is expected")
        return number

    return read


def size(text: str) -> int:
    """Read a number of bytes: ``1048576``, ``512KiB``, ``1.5GiB``."""
    units = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
    factor = units.get(text[-3:], 1)
    try:
        number = float(text[:-3]) if factor > 1 else int(text)
    except ValueError:
        number = 0
    if not 1 <= number * factor <= 1 << 60:
        raise ValueError("a number of bytes such as 1048576 or 512MiB is expected")
    return int(number * factor)


def address(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT``; an IPv6 host stands in brackets."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004
        raise ValueError("HOST:PORT is expected, for example 127.0.0.1:8000")
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)  # noqa: S104 - ":8000" means every address
