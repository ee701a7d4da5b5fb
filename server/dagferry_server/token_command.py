"""``dagferry-server token new | list | revoke``: creates tokens, and edits the tokens file.

A secret is printed once. The tokens file has only its sha256; the first digits of that are the token's id.
"""

import sys
import time
from collections.abc import Mapping
from typing import Any

from dagferry_core.errors import SetupError
from dagferry_core.tokens import (
    SCOPES,
    SEEN_SECONDS,
    ShownToken,
    expiry,
    in_order,
    parse_days,
    parse_deployments,
    parse_id,
    parse_name,
    parse_prefixes,
    parse_scopes,
    token_table,
)
from dagferry_runtime.commands import Command, Group
from dagferry_runtime.settings import Setting
from dagferry_server.auth.tokens import Token, new_token
from dagferry_server.auth.tokens_file import add_entry, read_tokens, remove_entries


def _path(text: str) -> str:
    if not text:
        raise ValueError("a path is expected")
    return text


_FILE = Setting("--tokens-file", _path, None, "FILE", "The tokens file.")
NEW: tuple[Setting, ...] = (
    Setting("--name", parse_name, None, "NAME", "The name of the token's holder, as it will be in the deploy log."),
    Setting("--scopes", parse_scopes, None, "SCOPE,…", f"What it is for: {', '.join(SCOPES)}."),
    Setting("--deployments", parse_deployments, None, "NAME,…", "The deployments it is for; * matches any letters."),
    Setting("--prefixes", parse_prefixes, None, "FOLDER,…", "Limit deploys to these folders, such as team-a/."),
    Setting("--expires", parse_days, None, "DAYS", "How long the token is valid, such as 90d; default: no limit."),
    Setting("--add", _path, None, "FILE", "Add its entry to this tokens file, which is created if it is missing."),
)
LIST: tuple[Setting, ...] = (_FILE,)
REVOKE: tuple[Setting, ...] = (
    _FILE,
    Setting("--name", parse_name, None, "NAME", "Revoke all tokens of this name."),
    Setting("--id", parse_id, None, "ID", "Revoke the one token with this id, as `token list` shows it."),
)


def _new(values: Mapping[str, Any]) -> int:
    """Print the secret in the first line, the entry in the second unless it is added, and what to do on stderr."""
    _require(values, "--name", "--scopes", "--deployments")
    expires = expiry(values["expires"], time.time())
    token = new_token(values["name"], values["scopes"], values["deployments"], expires, values["prefixes"] or ())
    if values["add"]:
        add_entry(values["add"], token.entry)
        sys.stdout.write(f"{token.secret}\n")
        sys.stderr.write(f"The line is the secret; it is not shown again. Its entry was added to {values['add']}.\n")
        return 0
    sys.stdout.write(f"{token.secret}\n{token.entry}\n")
    sys.stderr.write(
        "The first line is the secret; it is not shown again. Paste the second line into tokens = [ … ].\n"
    )
    return 0


def _list(values: Mapping[str, Any]) -> int:
    """Print a line for each token: id, name, scopes, deployments, expiry, and the folders it is limited to, if any."""
    _require(values, "--tokens-file")
    now = time.time()
    rows = token_table([_shown(token) for token in read_tokens(values["tokens_file"]).tokens], now)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")
    return 0


def _revoke(values: Mapping[str, Any]) -> int:
    """Remove entries and print them."""
    _require(values, "--tokens-file")
    if (values["name"] is None) == (values["id"] is None):
        raise SetupError("One of --name and --id is required.")
    file = values["tokens_file"]
    gone = remove_entries(file, lambda token: values["name"] == token.name or values["id"] == _shown(token).id)
    if not gone:
        raise SetupError(f"{file} has no such token.", "See: dagferry-server token list")
    for token in gone:
        sys.stdout.write("  ".join(_shown(token).cells()) + "\n")
    sys.stderr.write(f"Removed from {file}. Servers that use it reject them within {SEEN_SECONDS} seconds.\n")
    return 0


def _require(values: Mapping[str, Any], *flags: str) -> None:
    for flag in flags:
        if values[flag.removeprefix("--").replace("-", "_")] is None:
            raise SetupError(f"{flag} is required.")


def _shown(token: Token) -> ShownToken:
    grant = token.grant
    scopes, deployments = in_order(grant.scopes), list(grant.deployments)
    return ShownToken(token.sha256.hex(), token.name, scopes, deployments, token.expires, list(grant.prefixes))


TOKEN = Group(
    "token",
    "Create, list and revoke the tokens of a tokens file.",
    "dagferry-server token new --name ci --scopes deploy --deployments prod --add tokens.toml",
    (
        Command(
            "new",
            "Create a token.",
            "dagferry-server token new --name ci --scopes deploy --deployments prod --expires 90d --add tokens.toml",
            NEW,
            _new,
        ),
        Command(
            "list",
            "List the tokens of a tokens file.",
            "dagferry-server token list --tokens-file tokens.toml",
            LIST,
            _list,
        ),
        Command(
            "revoke",
            "Remove tokens from a tokens file.",
            "dagferry-server token revoke --tokens-file tokens.toml --id 3f1c0a9be27d",
            REVOKE,
            _revoke,
        ),
    ),
)
