"""What every command of Dagferry shares: flags that environment variables can set, one clear line on a mistake, logs.

A setting ``--poll-wait`` is also ``DAGFERRY_POLL_WAIT``; the flag wins. Unknown variables of that prefix are no error,
because Kubernetes injects some (a Service named ``dagferry`` sets ``DAGFERRY_PORT``). A bad value or an unknown flag
ends with exit code 2 and one line on stderr.
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from dagferry_core import __version__
from dagferry_core.errors import DagferryError, SetupError

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


def run(program: str, main: Callable[[], int]) -> int:
    """Run ``main`` and turn an error into one line on stderr and its exit code."""
    try:
        return main()
    except DagferryError as error:
        sys.stderr.write(f"{program}: {error.message} {error.hint}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130


# --- logs ------------------------------------------------------------------------------------------------------------


class _JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, message, and the record's fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class _Readable(logging.Formatter):
    """The same for a person at a terminal: clock time, message, ``field=value``."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        fields = " ".join(f"{name}={value}" for name, value in getattr(record, "fields", {}).items())
        mark = "" if record.levelno <= logging.INFO else record.levelname + " "
        line = f"{clock}.{int(record.msecs):03d} {mark}{record.getMessage()} {fields}".rstrip()
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


def _utc(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment % 1 * 1000):03d}Z"


def fields(**values: object) -> dict[str, dict[str, object]]:
    """Return the ``extra`` of a log call that carries these fields: ``log.info("Stored", extra=fields(version=v))``."""
    return {"fields": values}


def set_up_logs() -> None:
    """Send all logs to stderr: JSON lines, or readable ones on a terminal."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Readable() if sys.stderr.isatty() else _JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
