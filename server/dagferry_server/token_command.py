"""``dagferry-server token new | list | revoke``: creates tokens, and edits the tokens file.

A secret is printed once. The tokens file has only its sha256; the first digits of that are the token's id.
"""

import re
import sys
import time
from collections.abc import Mapping
from typing import Any

from dagferry_core.errors import SetupError
from dagferry_runtime.commands import Command, Group
from dagferry_runtime.settings import Setting
from dagferry_server.auth.access import SCOPES, Scope
from dagferry_server.auth.grants import DEPLOYMENT_PATTERN, parse_prefix
from dagferry_server.auth.tokens import NAME_PATTERN, Token, format_time, new_token
from dagferry_server.auth.tokens_file import add_entry, read_tokens, remove_entries

MAX_EXPIRES_DAYS = 3650
DAY_SECONDS = 86400
ID_DIGITS = 12
SEEN_SECONDS = 2
"""How long a running server takes to load a changed tokens file."""


def _scopes(text: str) -> tuple[Scope, ...]:
    asked = {part.strip() for part in text.split(",")}
    if not asked <= set(SCOPES):
        raise ValueError(f"scopes are expected, separated by commas: {', '.join(SCOPES)}")
    return tuple(scope for scope in SCOPES if scope in asked)


def _name(text: str) -> str:
    if not re.fullmatch(NAME_PATTERN, text):
        raise ValueError("1 to 100 letters, digits, . _ @ or - are expected, the first a letter or digit")
    return text


def _deployments(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    if not all(re.fullmatch(DEPLOYMENT_PATTERN, name) for name in names):
        raise ValueError("names of deployments are expected, separated by commas: a-z, 0-9, inner hyphens and *")
    return names


def _prefixes(text: str) -> tuple[str, ...]:
    return tuple(parse_prefix(part.strip()) for part in text.split(","))


def _days(text: str) -> int:
    number = text.removesuffix("d")
    if not text.endswith("d") or not (number.isascii() and number.isdecimal()) or len(number) > len("3650"):
        raise ValueError("a number of days such as 90d is expected")
    if not 1 <= int(number) <= MAX_EXPIRES_DAYS:
        raise ValueError(f"1d to {MAX_EXPIRES_DAYS}d is expected")
    return int(number)


def _path(text: str) -> str:
    if not text:
        raise ValueError("a path is expected")
    return text


def _id(text: str) -> str:
    if not re.fullmatch(f"[0-9a-f]{{{ID_DIGITS}}}", text):
        raise ValueError(f"the {ID_DIGITS} digits that `token list` shows are expected")
    return text


_FILE = Setting("--tokens-file", _path, None, "FILE", "The tokens file.")
NEW: tuple[Setting, ...] = (
    Setting("--name", _name, None, "NAME", "The name of the token's holder, as it will be in the deploy log."),
    Setting("--scopes", _scopes, None, "SCOPE,…", f"What it is for: {', '.join(SCOPES)}."),
    Setting("--deployments", _deployments, None, "NAME,…", "The deployments it is for; * matches any letters."),
    Setting("--prefixes", _prefixes, None, "FOLDER,…", "Limit deploys to these folders, such as team-a/."),
    Setting("--expires", _days, None, "DAYS", "How long the token is valid, such as 90d; default: no limit."),
    Setting("--add", _path, None, "FILE", "Add its entry to this tokens file, which is created if it is missing."),
)
LIST: tuple[Setting, ...] = (_FILE,)
REVOKE: tuple[Setting, ...] = (
    _FILE,
    Setting("--name", _name, None, "NAME", "Revoke all tokens of this name."),
    Setting("--id", _id, None, "ID", "Revoke the one token with this id, as `token list` shows it."),
)


def _new(values: Mapping[str, Any]) -> int:
    """Print the secret in the first line, the entry in the second unless it is added, and what to do on stderr."""
    _require(values, "--name", "--scopes", "--deployments")
    expires = None
    if values["expires"]:
        expires = time.time() // 1 + values["expires"] * DAY_SECONDS
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
    tokens = read_tokens(values["tokens_file"]).tokens
    rows = [
        ["ID", "NAME", "SCOPES", "DEPLOYMENTS", "EXPIRES"],
        *([*_shown(token), _end(token, now)] for token in tokens),
    ]
    if any(token.grant.prefixes for token in tokens):
        for row, cell in zip(rows, ["PREFIXES", *(",".join(token.grant.prefixes) for token in tokens)], strict=True):
            row.append(cell)
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
    gone = remove_entries(file, lambda token: values["name"] == token.name or values["id"] == _token_id(token))
    if not gone:
        raise SetupError(f"{file} has no such token.", "See: dagferry-server token list")
    for token in gone:
        sys.stdout.write("  ".join(_shown(token)) + "\n")
    sys.stderr.write(f"Removed from {file}. Servers that use it reject them within {SEEN_SECONDS} seconds.\n")
    return 0


def _require(values: Mapping[str, Any], *flags: str) -> None:
    for flag in flags:
        if values[flag.removeprefix("--").replace("-", "_")] is None:
            raise SetupError(f"{flag} is required.")


def _token_id(token: Token) -> str:
    return token.sha256.hex()[:ID_DIGITS]


def _shown(token: Token) -> tuple[str, str, str, str]:
    scopes = ",".join(scope for scope in SCOPES if scope in token.grant.scopes)
    return _token_id(token), token.name, scopes, ",".join(token.grant.deployments)


def _end(token: Token, now: float) -> str:
    if token.expires is None:
        return "never"
    return format_time(token.expires) + (" (expired)" if token.expires <= now else "")


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
