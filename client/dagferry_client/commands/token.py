"""``dagferry token new|list|revoke``: the tokens of a tokens file on this machine, as ``dagferry-server token``."""

import sys
import time
from typing import Any, NamedTuple

import click

from dagferry_client.checked import Checked
from dagferry_client.output import Output
from dagferry_client.run import Run, sub_command
from dagferry_core.errors import SetupError
from dagferry_core.tokens import (
    SCOPES,
    SEEN_SECONDS,
    ShownToken,
    check_limits,
    expiry,
    make_token,
    parse_days,
    parse_deployments,
    parse_id,
    parse_name,
    parse_prefixes,
    parse_scopes,
    token_table,
)

NEW, LIST, REVOKE = "new", "list", "revoke"
_OPTIONS = {
    NEW: {"name", "scopes", "deployments", "prefixes", "expires", "add"},
    LIST: {"tokens_file"},
    REVOKE: {"tokens_file", "name", "token_id"},
}
_REQUIRED = {NEW: ("name", "scopes", "deployments"), LIST: ("tokens_file",), REVOKE: ("tokens_file",)}
_FLAGS = {"tokens_file": "--tokens-file", "token_id": "--id"}


class TokenMade(NamedTuple):
    """A new token: its secret, which is not shown again, and its entry for the tokens file; ``added`` to this file."""

    secret: str
    entry: str
    added: str | None


class TokensListed(NamedTuple):
    """The tokens of a file, in its order."""

    tokens: list[ShownToken]


class TokensRevoked(NamedTuple):
    """The tokens that were removed from a file."""

    revoked: list[ShownToken]


@sub_command(
    click.argument("action", type=click.Choice((NEW, LIST, REVOKE))),
    click.option("--name", type=Checked(parse_name), metavar="NAME", help="The holder, as it is in the deploy log."),
    click.option(
        "--scopes", type=Checked(parse_scopes), metavar="SCOPE,…", help=f"What it is for: {', '.join(SCOPES)}."
    ),
    click.option(
        "--deployments",
        type=Checked(parse_deployments),
        metavar="NAME,…",
        help="For which deployments; * is any letters.",
    ),
    click.option(
        "--prefixes", type=Checked(parse_prefixes), metavar="FOLDER,…", help="Limit deploys to these folders."
    ),
    click.option("--expires", type=Checked(parse_days), metavar="DAYS", help="How long it is valid, such as 90d."),
    click.option("--add", metavar="FILE", help="Add it to this tokens file, which is created if it is missing."),
    click.option("--tokens-file", metavar="FILE", help="The tokens file to list, or to revoke tokens of."),
    click.option("--id", "token_id", type=Checked(parse_id), metavar="ID", help="Revoke the token with this id."),
    examples=(
        "dagferry token new --name ci --scopes deploy --deployments prod --expires 90d --add tokens.toml",
        "dagferry token list --tokens-file tokens.toml",
        "dagferry token revoke --tokens-file tokens.toml --id 3f1c0a9be27d",
    ),
    prints=(TokenMade, TokensListed, TokensRevoked),
    connects=False,
)
def command(run: Run, *, action: str, **values: Any) -> None:
    """Create, list and revoke the tokens of a tokens file.

    The file is on this machine; a server that reads it sees the change within seconds. NEW takes --name, --scopes,
    --deployments, --prefixes, --expires and --add; LIST takes --tokens-file; REVOKE takes --tokens-file and either
    --name, for all tokens of that name, or --id.
    """
    _check(action, values)
    if action == NEW:
        _new(run.output, values)
    elif action == LIST:
        _list(run.output, values["tokens_file"])
    else:
        _revoke(run.output, values)


def _check(action: str, values: dict[str, Any]) -> None:
    given = {name for name, value in values.items() if value is not None}
    for name in sorted(given - _OPTIONS[action]):
        raise SetupError(f"{_flag(name)} is not an option of token {action}.", "See dagferry token --help.")
    for name in _REQUIRED[action]:
        if name not in given:
            raise SetupError(f"{_flag(name)} is required.", "See dagferry token --help.")
    if action == REVOKE and len({"name", "token_id"} & given) != 1:
        raise SetupError("One of --name and --id is required.", "See: dagferry token list")


def _flag(name: str) -> str:
    return _FLAGS.get(name, f"--{name}")


def _new(output: Output, values: dict[str, Any]) -> None:
    prefixes, file = values["prefixes"] or (), values["add"]
    try:
        check_limits(values["scopes"], prefixes=bool(prefixes), gate=False)
    except ValueError as error:
        raise SetupError(f"{str(error)[:1].upper()}{str(error)[1:]}.", "See dagferry token --help.") from None
    expires = expiry(values["expires"], time.time())
    made = make_token(values["name"], values["scopes"], values["deployments"], expires, prefixes)
    if file is not None:
        files, parse = _editing()
        files.add_entry(file, made.entry, parse)
    if output.json_wanted:
        output.json(TokenMade(made.secret, made.entry, file))
        return
    output.line(made.secret)
    if file is not None:
        output.say(f"The line is the secret; it is not shown again. Its entry was added to {file}.")
        return
    output.line(made.entry)
    output.say("The first line is the secret; it is not shown again. Paste the second line into tokens = [ … ].")


def _list(output: Output, file: str) -> None:
    files, parse = _editing()
    tokens = [token.shown for token in files.read_tokens(file, parse).tokens]
    if output.json_wanted:
        output.json(TokensListed(tokens))
    else:
        head, *rows = token_table(tokens, time.time())
        output.table(head, rows)


def _revoke(output: Output, values: dict[str, Any]) -> None:
    file = values["tokens_file"]
    files, parse = _editing()
    gone = files.remove_entries(
        file, lambda token: values["name"] == token.shown.name or values["token_id"] == token.shown.id, parse
    )
    if not gone:
        raise SetupError(f"{file} has no such token.", "See: dagferry token list")
    revoked = [token.shown for token in gone]
    if output.json_wanted:
        output.json(TokensRevoked(revoked))
    else:
        for token in revoked:
            output.line("  ".join(token.cells()))
    output.say(f"Removed from {file}. Servers that use it reject them within {SEEN_SECONDS} seconds.")


def _editing() -> tuple[Any, Any]:
    """Return what edits a tokens file, and what parses it; ``SetupError`` where there are no locks for that."""
    if sys.platform == "win32":
        raise SetupError("A tokens file can only be edited on Linux and macOS.", "Run this where the server runs.")
    from dagferry_client.local_tokens import parse_local  # noqa: PLC0415
    from dagferry_runtime import tokens_file  # noqa: PLC0415 - it needs the locks of Unix

    return tokens_file, parse_local
