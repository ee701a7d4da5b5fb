"""The command line of a program: its flags, or its sub-commands with theirs. ``--help`` and errors are argparse's.

A program with sub-commands is a ``Group`` of ``Command``, each in a file of its own, and ``run_command`` runs the
one that the arguments name. A program without sub-commands calls ``dagferry_runtime.settings.parse``.
"""

import argparse
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from dagferry_core import __version__
from dagferry_core.errors import SetupError
from dagferry_runtime.settings import Setting, values_of

HELP_COLUMNS = 100
_CHOSEN = "_chosen"
"""Where argparse keeps the command that the arguments name. No setting has this name: flags begin with a letter."""


class Command(NamedTuple):
    """A program or a sub-command that does something.

    ``about`` is one line, for its own help and for the list of commands; ``example`` a command line that works.
    ``run`` gets the value of every setting by name and returns the exit code.
    """

    name: str
    about: str
    example: str
    settings: Sequence[Setting]
    run: Callable[[dict[str, Any]], int]


class Group(NamedTuple):
    """A program or a sub-command that has sub-commands.

    ``default`` names the one that runs when the first argument is a flag, or there is none; without it one is required.
    """

    name: str
    about: str
    example: str
    commands: Sequence["Command | Group"]
    default: str | None = None


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        # A width of its own: to ask the terminal for its width, argparse imports shutil.
        super().__init__(prog, width=HELP_COLUMNS)


class _Parser(argparse.ArgumentParser):
    def __init__(self, prog: str, about: str, example: str) -> None:
        epilog = f"example:\n  {example}" if example else None
        super().__init__(prog, description=about, epilog=epilog, allow_abbrev=False, formatter_class=_Help)
        self.add_argument("--version", action="version", version=f"{prog.partition(' ')[0]} {__version__}")

    def error(self, message: str) -> NoReturn:
        raise SetupError(message[:1].upper() + message[1:] + ".", f"See {self.prog} --help.")


def run_command(program: Group, arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the command that ``arguments`` name with its settings from flags and variables; return its exit code.

    Raises ``SetupError`` if a command or flag is unknown, or a value is invalid. ``--help`` and ``--version`` print
    and exit with 0.
    """
    words = list(arguments)
    if program.default and (not words or (words[0].startswith("-") and words[0] not in {"-h", "--help", "--version"})):
        words.insert(0, program.default)
    _check_names(program, program.name, words)
    parser = _Parser(program.name, program.about, program.example)
    _add_commands(parser, program)
    return _run(parser, words, environment)


def parse_arguments(program: str, about: str, settings: Sequence[Setting], arguments: Sequence[str]) -> dict[str, Any]:
    """Return what the arguments of a program without sub-commands give, by the names of ``settings``.

    A text for each flag, ``True`` for each switch, ``None`` for what is not given. Raises ``SetupError``.
    """
    parser = _Parser(program, about, "")
    _add_settings(parser, settings)
    found, unknown = parser.parse_known_args(list(arguments))
    if unknown:
        raise _unrecognized(program, unknown, settings)
    return vars(found)


def _run(parser: _Parser, words: list[str], environment: Mapping[str, str]) -> int:
    found, unknown = parser.parse_known_args(words)
    path, chosen = getattr(found, _CHOSEN)
    if isinstance(chosen, Group):
        raise SetupError(
            f"{path} needs a command: {', '.join(command.name for command in chosen.commands)}.",
            f"See {path} --help.",
        )
    if unknown:
        raise _unrecognized(path, unknown, chosen.settings)
    run: Callable[[dict[str, Any]], int] = chosen.run
    return run(values_of(chosen.settings, vars(found), environment))


def _add_commands(parser: _Parser, group: Group) -> None:
    parser.set_defaults(**{_CHOSEN: (parser.prog, group)})
    children = parser.add_subparsers(title="commands", metavar="COMMAND FLAGS", parser_class=_Parser)
    for command in group.commands:
        mark = " The default." if command.name == group.default else ""
        child = children.add_parser(
            command.name,
            prog=f"{parser.prog} {command.name}",
            help=(command.about + mark).replace("%", "%%"),
            about=command.about,
            example=command.example,
        )
        if isinstance(command, Group):
            _add_commands(child, command)
        else:
            child.set_defaults(**{_CHOSEN: (child.prog, command)})
            _add_settings(child, command.settings)


def _add_settings(parser: argparse.ArgumentParser, settings: Sequence[Setting]) -> None:
    for setting in settings:
        default = f" (default {setting.shown_default})" if setting.shown_default else ""
        variable = f" [{setting.variable}]" if setting.has_variable else ""
        text = f"{setting.help}{default}{variable}".replace("%", "%%")
        if setting.parse is None:
            parser.add_argument(setting.flag, action="store_true", default=None, help=text)
        elif not setting.flag.startswith("-"):
            parser.add_argument(setting.flag, help=text)
        else:
            parser.add_argument(setting.flag, metavar=setting.metavar, help=text)


def _check_names(group: Group, path: str, words: Sequence[str]) -> None:
    """Raise ``SetupError`` if ``words`` begin with an unknown command: argparse would not suggest the nearest."""
    if not words or words[0].startswith("-"):
        return
    commands = {command.name: command for command in group.commands}
    name = words[0]
    if name not in commands:
        suggestion = _nearest(name, commands) or f"; the commands are {', '.join(commands)}."
        raise SetupError(f"Unknown command {name!r}{suggestion}", f"See {path} --help.")
    if isinstance(command := commands[name], Group):
        _check_names(command, f"{path} {name}", words[1:])


def _unrecognized(path: str, unknown: Sequence[str], settings: Sequence[Setting]) -> SetupError:
    # After a mistyped --token comes a token, so only flags are shown, or values if there are no flags.
    flags = [word.partition("=")[0] for word in unknown if word.startswith("-")]
    suggestion = _nearest(flags[0], [setting.flag for setting in settings]) if flags else ""
    return SetupError(f"Unrecognized arguments: {' '.join(flags or unknown)}{suggestion or '.'}", f"See {path} --help.")


def _nearest(word: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that suggests the nearest of ``known``; empty if none is near."""
    nearest = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {nearest[0]}?" if nearest else ""
