"""A forwarding proxy that authenticates users, such as nginx with ``auth_request``. Off unless configured.

The proxy sends the user's name in a configurable header, and its own secret in ``Dagferry-Proxy-Secret``: the address
of a client proves nothing, because every pod can reach the server. Permissions are listed under ``users`` in the tokens
file, keyed by the name the proxy sends; being admitted by the proxy grants nothing by itself. The proxy must set both
headers on every request it forwards, replacing what a client sent.
"""

import hmac
from collections.abc import Sequence
from typing import NamedTuple

from dagferry_core.errors import SetupError
from dagferry_server.auth.access import Caller
from dagferry_server.auth.headers import Headers
from dagferry_server.auth.patterns import matches
from dagferry_server.auth.tokens import User
from dagferry_server.config.watched import WatchedFile
from dagferry_server.errors import CredentialsRefused

PROXY_SECRET_HEADER = "Dagferry-Proxy-Secret"  # noqa: S105 - a header's name
MIN_SECRET_BYTES = 32
MAX_USER_CHARACTERS = 256
_PLACEHOLDER = {"{", "}"}


class Proxy(NamedTuple):
    """The header with the user's name, and the file with the secret that authenticates the proxy."""

    user_header: str
    secret: WatchedFile[bytes]


def parse_secret(data: bytes) -> bytes:
    """Return the secret in a file; raise ``SetupError`` if it is so short that it could be guessed."""
    secret = data.strip()
    if len(secret) < MIN_SECRET_BYTES:
        raise SetupError(
            f"The proxy's secret has {len(secret)} bytes; at least {MIN_SECRET_BYTES} are required.",
            "Make one with: openssl rand -hex 32",
        )
    return secret


def proxy_caller(proxy: Proxy, users: tuple[User, ...], headers: Headers) -> Caller | None:
    """Return the user that the proxy authenticated, ``None`` if the request did not come through it.

    A user name without the secret is ignored. Raises ``CredentialsRefused`` if the secret is wrong or the name is
    missing, duplicated or not printable.
    """
    sent = headers.getall(PROXY_SECRET_HEADER, [])
    if not sent:
        return None
    if len(sent) > 1 or not hmac.compare_digest(sent[0].encode(errors="surrogateescape"), proxy.secret.value):
        raise CredentialsRefused(f"{PROXY_SECRET_HEADER} does not contain the proxy's secret.")
    names = headers.getall(proxy.user_header, [])
    if len(names) != 1 or not names[0] or len(names[0]) > MAX_USER_CHARACTERS or not names[0].isprintable():
        raise CredentialsRefused(
            f"The proxy must send exactly one user name in {proxy.user_header}; it sent {_described(names)}.",
            "Check how the proxy sets this header.",
        )
    if _PLACEHOLDER & set(names[0]):
        # Caddy sends it unexpanded if the login service returned no name: all these users would be one caller.
        raise CredentialsRefused(
            f"The proxy sent an unexpanded placeholder in {proxy.user_header}: {names[0]!r}.",
            "The login service returned no user name. Check which header it returns the name in.",
        )
    grants = tuple(user.grant for user in users if matches(user.name, names[0]))
    return Caller(f"proxy:{names[0]}", grants, by_browser=True)


def _described(names: Sequence[str]) -> str:
    if len(names) != 1:
        return f"{len(names)}"
    return "one that is too long or not printable" if names[0] else "an empty one"
