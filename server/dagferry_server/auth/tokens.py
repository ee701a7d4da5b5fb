"""The tokens file: which tokens are valid, and what they grant. It contains no secrets, only their sha256.

::

    tokens = [
      { name = "ci", sha256 = "<64 hex digits>", scopes = ["deploy"], deployments = ["prod", "team-*"] },
      { name = "pods", sha256 = "…", scopes = ["sync"], deployments = ["*"], expires = 2027-01-31T00:00:00Z },
      { name = "team", sha256 = "…", scopes = ["deploy"], deployments = ["prod"], prefixes = ["team-a/"] },
    ]
    users = [ { name = "*@example.com", scopes = ["read"], deployments = ["*"] } ]

``users`` are users authenticated by a forwarding proxy, and must be present if and only if one is configured. Both are
single arrays, never ``[[tokens]]`` tables: so a file that was truncated anywhere is invalid. To rotate a token, have
two entries of the same name for a while.
"""

import hashlib
import hmac
import math
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, NamedTuple

from pydantic import AwareDatetime, Field, Strict, StringConstraints

from dagferry_core.errors import SetupError
from dagferry_core.tokens import NAME_PATTERN, NewToken, Scope, format_time, make_token
from dagferry_server.auth.access import Caller, Grant
from dagferry_server.auth.grants import GrantEntry
from dagferry_server.config.toml_file import Entry, checked, parse_toml
from dagferry_server.errors import CredentialsRefused

MAX_TOKENS = 1000
"""Each request is compared with each token, which takes about 0.2 µs per token."""
MAX_USERS = 1000

_TABLE_HEADER = re.compile(rb"^[ \t]*\[", re.MULTILINE)


class _TokenEntry(GrantEntry):
    name: Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    expires: Annotated[AwareDatetime, Strict()] | None = None


class _UserEntry(GrantEntry):
    name: Annotated[str, StringConstraints(min_length=1, max_length=256)]


class _TokensFile(Entry):
    tokens: Annotated[tuple[_TokenEntry, ...], Field(max_length=MAX_TOKENS)]
    users: Annotated[tuple[_UserEntry, ...], Field(max_length=MAX_USERS)] | None = None


class Token(NamedTuple):
    """One token: its name, the sha256 of its secret, what it grants, when it expires (seconds since the epoch)."""

    name: str
    sha256: bytes
    grant: Grant
    expires: float | None


class User(NamedTuple):
    """What is granted to users whose name, as a forwarding proxy sends it, matches the pattern ``name``."""

    name: str
    grant: Grant


class Tokens(NamedTuple):
    """The content of the tokens file."""

    tokens: tuple[Token, ...]
    users: tuple[User, ...]


def parse_tokens(data: bytes, *, with_users: bool | None) -> Tokens:
    """Parse the tokens file; raise ``SetupError`` if it is incomplete or not exactly as described above.

    ``with_users``: whether it must have users or must not; ``None`` allows both.
    """
    what = "The tokens file"
    try:
        tables = parse_toml(data, what)
        if _TABLE_HEADER.search(data):
            raise SetupError(f"{what} uses [[tables]], which are not allowed because a truncated file would be valid.")
        file = checked(_TokensFile, tables, what)
    except SetupError as error:
        raise SetupError(error.message, SHAPE) from None
    if with_users and file.users is None:
        raise SetupError(f"{what} has no users, and without an entry the proxy lets nobody in.", USERS_SHAPE)
    if file.users and with_users is False:
        raise SetupError(f"{what} has users, but no forwarding proxy is configured.")
    tokens = tuple(
        Token(
            entry.name,
            bytes.fromhex(entry.sha256),
            entry.grant,
            entry.expires.timestamp() if entry.expires else None,
        )
        for entry in file.tokens
    )
    if len({token.sha256 for token in tokens}) < len(tokens):
        raise SetupError(f"{what} contains the same sha256 twice: each secret must have one entry.")
    return Tokens(tokens, tuple(User(entry.name, entry.grant) for entry in file.users or ()))


SHAPE = """It must look like this, with the entry that `dagferry-server token new` prints:
tokens = [
  { name = "ci", sha256 = "…", scopes = ["deploy"], deployments = ["prod"] },
]"""
USERS_SHAPE = 'Add: users = [ { name = "*@example.com", scopes = ["read"], deployments = ["*"] } ]'


def token_caller(tokens: Iterable[Token], secret: str, now: float) -> Caller | None:
    """Return the holder of ``secret``, ``None`` if it is not in ``tokens``; raise if it has expired at ``now``.

    Every token is compared in constant time, so the time taken reveals nothing about any of them.
    """
    presented = hashlib.sha256(secret.encode(errors="surrogateescape")).digest()
    holder = None
    for token in tokens:
        if hmac.compare_digest(token.sha256, presented):
            holder = token
    if holder is None:
        return None
    if holder.expires is not None and now >= holder.expires:
        raise CredentialsRefused(
            f"The token {holder.name!r} expired at {format_time(holder.expires)}.",
            "Ask the operator of the server for a new token.",
        )
    return Caller(f"token:{holder.name}", (holder.grant,), holder.expires)


def entry_caller(tokens: Iterable[Token], sha256: bytes, now: float) -> Caller | None:
    """Return the holder of the token whose secret has this hash; ``None`` if it was revoked, or has expired."""
    found = next((token for token in tokens if token.sha256 == sha256), None)
    if found is None or (found.expires is not None and now >= found.expires):
        return None
    return Caller(f"token:{found.name}", (found.grant,), found.expires, by_browser=True)


def ending(tokens: Iterable[Token], now: float) -> dict[str, float]:
    """Return when each name's last token expires (seconds since the epoch), if it has not expired by ``now``.

    A name with a token that expires later, or never, has been rotated: its older tokens are meant to expire.
    """
    last: dict[str, float] = {}
    for token in tokens:
        last[token.name] = max(last.get(token.name, 0.0), math.inf if token.expires is None else token.expires)
    return {name: expires for name, expires in last.items() if now < expires < math.inf}


def new_token(
    name: str,
    scopes: Iterable[Scope],
    deployments: Iterable[str],
    expires: float | None = None,
    prefixes: Sequence[str] = (),
) -> NewToken:
    """Return a new secret of 256 random bits and its entry; raise ``SetupError`` if the entry would be invalid.

    ``expires`` is in seconds since the epoch. ``prefixes`` are the folders that the token is limited to.
    """
    made = make_token(name, scopes, deployments, expires, prefixes)
    parse_tokens(f"tokens = [\n{made.entry}\n]".encode(), with_users=False)
    return made
