"""What the docs say about ``dagferry``, from its code: options, commands, exit codes, schemas of its JSON."""

import json
from collections.abc import Iterable
from typing import NamedTuple

import click
from docs_tables import table

from dagferry_client import app
from dagferry_client.exits import EXIT_CODES
from dagferry_client.run import CONNECTION, PRINTING, Command
from dagferry_client.schema import json_schema
from dagferry_core.documentation import DOCUMENTATION

FOLDER = "reference/json"


class Error(NamedTuple):
    """An error as it is printed on stderr; `code` is the server's own if it has one, which may have more fields."""

    code: str
    message: str
    hint: str


def command_named(name: str) -> Command:
    """Return the sub-command ``name``."""
    found = app.cli.get_command(click.Context(app.cli), name)
    assert isinstance(found, Command), name  # noqa: S101 - sub_command makes nothing else
    return found


def options(params: Iterable[click.Parameter]) -> list[tuple[str, str]]:
    """Return the rows of options: how each is written, and what it does."""
    context = click.Context(app.cli)
    records = (param.get_help_record(context) for param in params if isinstance(param, click.Option))
    return [(f"`{record[0]}`", record[1]) for record in records if record]


def common_options() -> list[tuple[str, str]]:
    """Return the rows of the options that every command that asks a server has."""

    def bare() -> None:
        pass

    decorated = bare
    for option in reversed((*CONNECTION, *PRINTING)):
        decorated = option(decorated)
    return options(click.command()(decorated).params)


def exit_codes() -> list[tuple[int, str]]:
    """Return the rows of exit codes."""
    return list(EXIT_CODES.items())


def commands() -> str:
    """Return a section for each sub-command, in the order of ``--help``."""
    return "\n\n".join(_section(name) for name in app.COMMANDS)


def _section(name: str) -> str:
    command = command_named(name)
    common = {row[0] for row in common_options()}
    own = [row for row in options(command.params) if row[0] not in common]
    usage = " ".join(["dagferry", name, *command.collect_usage_pieces(click.Context(command))])
    parts = [f"### `dagferry {name}`", "\n\n".join(_paragraphs(command.help or "")), f"    {usage}"]
    if own:
        parts.append(table(["option", "what"], own))
    if command.exits:
        parts.append(table(["exit code", "meaning"], command.exits.items()))
    parts += ["Examples:", "\n".join(f"    {example}" for example in command.examples)]
    if command.prints:
        parts.append(f"With `--json`: [its schema](json/{name}.json).")
    return "\n\n".join(parts)


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split("\n\n")]


def schemas() -> dict[str, str]:
    """Return the files in docs/reference/json/, by name: one for each command that prints JSON, one for errors."""
    printed = {name: command_named(name).prints for name in app.COMMANDS}
    titles = {name: f"dagferry {name} --json" for name in printed} | {"error": "An error, on stderr with --json"}
    made = {
        name: json_schema(titles[name], f"{DOCUMENTATION}/{FOLDER}/{name}.json", types)
        for name, types in {**printed, "error": (Error,)}.items()
        if types
    }
    return {f"{name}.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n" for name, schema in made.items()}
