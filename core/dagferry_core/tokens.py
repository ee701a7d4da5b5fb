"""Tokens as people make them: what may be granted, how a new one is written into a tokens file, how all are shown.

A tokens file has no secrets, only their sha256; the first digits of that are the token's id. What a file may contain is
decided by the server that reads it.
"""

import hashlib
import json
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, get_args

from dagferry_core.archive.errors import PathRefused
from dagferry_core.archive.paths import check_prefix

Scope = Literal["deploy", "override", "sync", "read", "check", "admin"]
"""``deploy`` allows uploads, rollbacks and reading; ``override`` bypasses the checks that would block a deploy;
``sync`` is what a sidecar needs; ``read`` allows the log, the status and downloads; ``check`` is what a checker needs:
it reads what is about to be deployed, and says what is wrong with it; ``admin`` freezes deployments, and creates and
deletes them."""

SCOPES: tuple[Scope, ...] = get_args(Scope)

TOKEN_PREFIX = "dgf_"  # noqa: S105 - lets scanners find leaked tokens
SECRET_BYTES = 32
ID_DIGITS = 12
MAX_EXPIRES_DAYS = 3650
DAY_SECONDS = 86400
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$"
DEPLOYMENT_PATTERN = r"^[a-z0-9*]([a-z0-9*-]{0,61}[a-z0-9*])?$"
SEEN_SECONDS = 2
"""How long a running server takes to load a changed tokens file."""


def parse_prefix(text: str) -> str:
    """Return a folder as the prefix of the paths in it, such as ``team-a/``; ``ValueError`` if it cannot be one."""
    try:
        return check_prefix(text)
    except PathRefused as error:
        raise ValueError(f"a folder such as team-a/ is expected: {error.message}") from error


# --- what is given on a command line; each raises ValueError ----------------------------------------------------------


def parse_scopes(text: str) -> tuple[Scope, ...]:
    """Return the scopes in a list with commas."""
    asked = {part.strip() for part in text.split(",")}
    if not asked <= set(SCOPES):
        raise ValueError(f"scopes are expected, separated by commas: {', '.join(SCOPES)}")
    return tuple(scope for scope in SCOPES if scope in asked)


def parse_name(text: str) -> str:
    """Return the name of a token's holder."""
    if not re.fullmatch(NAME_PATTERN, text):
        raise ValueError("1 to 100 letters, digits, . _ @ or - are expected, the first a letter or digit")
    return text


def parse_deployments(text: str) -> tuple[str, ...]:
    """Return the deployments, or patterns of them, in a list with commas."""
    names = tuple(part.strip() for part in text.split(","))
    if not all(re.fullmatch(DEPLOYMENT_PATTERN, name) for name in names):
        raise ValueError("names of deployments are expected, separated by commas: a-z, 0-9, inner hyphens and *")
    return names


def parse_prefixes(text: str) -> tuple[str, ...]:
    """Return the folders in a list with commas, as prefixes."""
    return tuple(parse_prefix(part.strip()) for part in text.split(","))


def parse_days(text: str) -> int:
    """Return the number of days of a text such as ``90d``."""
    number = text.removesuffix("d")
    if not text.endswith("d") or not (number.isascii() and number.isdecimal()) or len(number) > len("3650"):
        raise ValueError("a number of days such as 90d is expected")
    if not 1 <= int(number) <= MAX_EXPIRES_DAYS:
        raise ValueError(f"1d to {MAX_EXPIRES_DAYS}d is expected")
    return int(number)


def parse_id(text: str) -> str:
    """Return the id of a token."""
    if not re.fullmatch(f"[0-9a-f]{{{ID_DIGITS}}}", text):
        raise ValueError(f"the {ID_DIGITS} digits that `token list` shows are expected")
    return text


def check_limits(scopes: Iterable[str], *, prefixes: bool, gate: bool) -> None:
    """Raise ``ValueError`` if limits that are about deploys are given for scopes that allow none."""
    held = set(scopes)
    for name, given in (("prefixes", prefixes), ("gate", gate)):
        if given and "deploy" not in held:
            raise ValueError(f"{name} is for deploys, which need the scope 'deploy'")
    if prefixes and "admin" in held:
        raise ValueError("the scope 'admin' cannot be limited to prefixes")


# --- new tokens -------------------------------------------------------------------------------------------------------


class NewToken(NamedTuple):
    """A new secret, shown once, and its line for ``tokens`` in the tokens file."""

    secret: str
    entry: str


def make_token(
    name: str,
    scopes: Iterable[Scope],
    deployments: Iterable[str],
    expires: float | None = None,
    prefixes: Sequence[str] = (),
) -> NewToken:
    """Return a new secret of 256 random bits and its entry, which is as valid as what it is made of.

    ``expires`` is in seconds since the epoch. ``prefixes`` are the folders that the token is limited to.
    """
    secret = TOKEN_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    end = f", prefixes = {_listed(prefixes)}" if prefixes else ""
    end += "" if expires is None else f", expires = {format_time(expires)}"
    entry = (
        f'{{ name = "{name}", sha256 = "{digest}", '
        f"scopes = {_listed(scopes)}, deployments = {_listed(deployments)}{end} }},"
    )
    return NewToken(secret, entry)


def _listed(values: Iterable[str]) -> str:
    return "[" + ", ".join(json.dumps(value, ensure_ascii=False) for value in values) + "]"


def expiry(days: int | None, now: float) -> float | None:
    """Return when a token that is valid for ``days`` from ``now`` expires, in whole seconds since the epoch."""
    return None if days is None else now // 1 + days * DAY_SECONDS


def format_time(moment: float) -> str:
    """Return a time (seconds since the epoch) as it is written in the file, in UTC: ``2027-01-31T00:00:00Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


# --- tokens as they are shown -----------------------------------------------------------------------------------------


class ShownToken(NamedTuple):
    """What is shown of a token.

    ``sha256`` is that of its secret, in hex; ``expires`` is in seconds since the epoch, ``None`` if never.
    """

    sha256: str
    name: str
    scopes: list[str]
    deployments: list[str]
    expires: float | None
    prefixes: list[str]

    @property
    def id(self) -> str:
        """The id, by which the token can be revoked."""
        return self.sha256[:ID_DIGITS]

    def cells(self) -> tuple[str, str, str, str]:
        """Return the texts of id, name, scopes and deployments."""
        return self.id, self.name, ",".join(self.scopes), ",".join(self.deployments)


def in_order(scopes: Iterable[str]) -> list[str]:
    """Return scopes in the order in which they are shown."""
    held = set(scopes)
    return [str(scope) for scope in SCOPES if scope in held]


def token_table(tokens: Sequence[ShownToken], now: float) -> list[list[str]]:
    """Return the head and the rows of a list of tokens; the column of folders is there if one is limited to some."""
    rows = [
        ["ID", "NAME", "SCOPES", "DEPLOYMENTS", "EXPIRES"],
        *([*token.cells(), _end(token.expires, now)] for token in tokens),
    ]
    if any(token.prefixes for token in tokens):
        for row, cell in zip(rows, ["PREFIXES", *(",".join(token.prefixes) for token in tokens)], strict=True):
            row.append(cell)
    return rows


def _end(expires: float | None, now: float) -> str:
    return "never" if expires is None else format_time(expires) + (" (expired)" if expires <= now else "")
