"""Settings from flags and environment variables, for all commands.

A setting ``--poll-wait`` is also ``DAGFERRY_POLL_WAIT``; the flag wins. Unknown variables with that prefix are ignored,
because Kubernetes injects some (a Service named ``dagferry`` sets ``DAGFERRY_PORT``). An invalid value or an unknown
flag ends the program with exit code 2 and one line on stderr.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from dagferry_core.errors import SetupError


class Setting(NamedTuple):
    """One setting of a command.

    ``parse`` turns the text of the flag or variable into the value and raises ``ValueError`` with what is expected;
    ``None`` makes a switch, which a variable sets with ``1``/``true``/``yes``/``on`` and clears with their opposites.
    A ``flag`` without dashes is the name of a required argument, ``FROM``, for a program with sub-commands.
    ``default`` is a value, already parsed; ``metavar`` and ``help`` are what ``--help`` and the docs show. If
    ``has_variable`` is false, only the flag counts.
    """

    flag: str
    parse: Callable[[str], Any] | None
    default: Any
    metavar: str
    help: str
    has_variable: bool = True

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
            # Before an @ there may be a password, as in a URL; the rest is enough to find the value.
            _, at, shown = text.rpartition("@")
            raise SetupError(f"{source}={'…' * bool(at) + at + shown!r}: {error}") from error


def _switch(text: str) -> bool:
    if text.lower() in {"1", "true", "yes", "on"}:
        return True
    if text.lower() in {"", "0", "false", "no", "off"}:
        return False
    raise ValueError("a switch takes true or false")


def parse(
    program: str,
    about: str,
    settings: Sequence[Setting],
    arguments: Sequence[str],
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """Return the value of every setting by name, for a program without sub-commands.

    Raises ``SetupError`` on an unknown flag or an invalid value. ``--help`` and ``--version`` print and exit with 0.
    """
    given = read_plain(settings, arguments)
    if given is None:
        # Only help and mistakes need argparse, which a cold start would wait for.
        from dagferry_runtime.commands import parse_arguments  # noqa: PLC0415

        given = parse_arguments(program, about, settings, arguments)
    return values_of(settings, given, environment)


def read_plain(settings: Sequence[Setting], arguments: Sequence[str]) -> dict[str, Any] | None:
    """Read ``--flag value``, ``--flag=value`` and ``--switch`` as argparse does; ``None`` if there is anything else."""
    known = {setting.flag: setting for setting in settings}
    given: dict[str, Any] = {}
    words = iter(arguments)
    for word in words:
        flag, equals, text = word.partition("=")
        if flag not in known:
            return None
        setting = known[flag]
        if setting.parse is None:
            if equals:
                return None
            given[setting.name] = True
        elif equals:
            given[setting.name] = text
        else:
            value = next(words, None)
            if value is None or value.startswith("-"):  # which argparse takes for a flag or a negative number
                return None
            given[setting.name] = value
    return given


def values_of(
    settings: Sequence[Setting], given: Mapping[str, str | bool | None], environment: Mapping[str, str]
) -> dict[str, Any]:
    """Return the value of every setting by name: ``given`` by its flag, else its variable's, else its default.

    Raises ``SetupError`` if a value is invalid. Variables of other settings are ignored.
    """
    values = {}
    for setting in settings:
        flag = given.get(setting.name)
        if isinstance(flag, str):
            values[setting.name] = setting.value_of(flag, setting.flag)
        elif flag is not None:
            values[setting.name] = flag
        elif setting.has_variable and setting.variable in environment:
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
    """Read ``HOST:PORT``; an IPv6 host is in brackets."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004
        raise ValueError("HOST:PORT is expected, for example 127.0.0.1:8000")
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)  # noqa: S104 - ":8000" means every address
