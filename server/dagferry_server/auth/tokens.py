"""The tokens file: who may call with a secret, and with what rights. It holds no secret, only their sha256.

::

    tokens = [
      { name = "ci", sha256 = "<64 hex digits>", scopes = ["deploy"], deployments = ["prod", "team-*"] },
      { name = "pods", sha256 = "…", scopes = ["sync"], deployments = ["*"], expires = 2027-01-31T00:00:00Z },
    ]
    users = [ { name = "*@example.com", scopes = ["read"], deployments = ["*"] } ]

``users`` are those whom a forwarding proxy vouches for, and stand here if and only if there is one. Both are single
arrays, never ``[[tokens]]`` tables: so no beginning of a file is a file, and one cut anywhere is refused. A token is
rotated by two entries of the same name for a while.
"""

import hashlib
import hmac
import math
import re
import secrets
import time
from collections.abc import Iterable
from typing import Annotated, NamedTuple

from pydantic import AwareDatetime, Field, Strict, StringConstraints

from dagferry_core.errors import SetupError
from dagferry_server.auth.access import Caller, Grant, Scope
from dagferry_server.auth.config_file import Entry, GrantEntry, checked, parse_toml
from dagferry_server.errors import CredentialsRefused

TOKEN_PREFIX = "dgf_"  # noqa: S105 - what scanners find leaked tokens by
SECRET_BYTES = 32
MAX_TOKENS = 1000
"""Each is compared with at every request, which takes about 0.2 µs."""
MAX_USERS = 1000
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$"

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
    """One secret: the name of who holds it, its sha256, what it gives, when it ends (seconds since the epoch)."""

    name: str
    sha256: bytes
    grant: Grant
    expires: float | None


class User(NamedTuple):
    """What callers get whose name, as a forwarding proxy tells it, matches the pattern ``name``."""

    name: str
    grant: Grant


class Tokens(NamedTuple):
    """What the tokens file says."""

    tokens: tuple[Token, ...]
    users: tuple[User, ...]


def parse_tokens(data: bytes, *, with_users: bool | None) -> Tokens:
    """Read the tokens file; raise ``SetupError`` on anything that is not complete and exactly as described above.

    ``with_users`` says whether it must have users, or must not; ``None`` leaves that open.
    """
    what = "The tokens file"
    try:
        tables = parse_toml(data, what)
        if _TABLE_HEADER.search(data):
            raise SetupError(f"{what} has [[tables]], of which half a file could pass for a whole one.")
        file = checked(_TokensFile, tables, what)
    except SetupError as error:
        raise SetupError(error.message, SHAPE) from None
    if with_users and file.users is None:
        raise SetupError(f"{what} has no users, and without an entry nobody gets through the proxy.", USERS_SHAPE)
    if file.users and with_users is False:
        raise SetupError(f"{what} has users, but no forwarding proxy is set up.")
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
        raise SetupError(f"{what} has the same sha256 twice: a secret belongs to one entry.")
    return Tokens(tokens, tuple(User(entry.name, entry.grant) for entry in file.users or ()))


SHAPE = """Its shape is, with what `dagferry-server token new` prints in the middle:
tokens = [
  { name = "ci", sha256 = "…", scopes = ["deploy"], deployments = ["prod"] },
]"""
USERS_SHAPE = 'Add: users = [ { name = "*@example.com", scopes = ["read"], deployments = ["*"] } ]'


def token_caller(tokens: Iterable[Token], secret: str, now: float) -> Caller | None:
    """Return who holds ``secret``, or ``None`` if it is none of ``tokens``; raise if it has expired at ``now``.

    Every token is compared, each in constant time, so the time taken tells nothing about any of them.
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
            f"The token {holder.name!r} has expired: it was good until {shown_time(holder.expires)}.",
            "Ask whoever runs the server for a new token.",
        )
    return Caller(f"token:{holder.name}", (holder.grant,), holder.expires)


def ending(tokens: Iterable[Token], now: float) -> dict[str, float]:
    """Return when each name's last token ends (seconds since the epoch), of those that end and have not by ``now``.

    A name with a token that ends later, or never, has been rotated: its older tokens are meant to end.
    """
    last: dict[str, float] = {}
    for token in tokens:
        last[token.name] = max(last.get(token.name, 0.0), math.inf if token.expires is None else token.expires)
    return {name: expires for name, expires in last.items() if now < expires < math.inf}


class NewToken(NamedTuple):
    """A fresh secret, shown once, and the line that goes into ``tokens`` of the tokens file."""

    secret: str
    entry: str


def new_token(name: str, scopes: Iterable[Scope], deployments: Iterable[str], expires: float | None = None) -> NewToken:
    """Return a new secret of 256 random bits and its entry; raise ``SetupError`` if the entry would be refused.

    ``expires`` is in seconds since the epoch.
    """
    secret = TOKEN_PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    shown = {key: ", ".join(f'"{value}"' for value in values) for key, values in
             (("scopes", scopes), ("deployments", deployments))}  # fmt: skip
    end = "" if expires is None else f", expires = {shown_time(expires)}"
    entry = (
        f'{{ name = "{name}", sha256 = "{digest}", '
        f"scopes = [{shown['scopes']}], deployments = [{shown['deployments']}]{end} }},"
    )
    parse_tokens(f"tokens = [\n{entry}\n]".encode(), with_users=False)
    return NewToken(secret, entry)


def shown_time(moment: float) -> str:
    """Return a moment (seconds since the epoch) as the file has it, in UTC: ``2027-01-31T00:00:00Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
