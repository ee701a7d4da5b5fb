"""A forwarding proxy that has checked its callers, such as nginx with ``auth_request``. Off unless it is set up.

The proxy sends the caller's name in a header of its choice, and its own secret in ``Dagferry-Proxy-Secret``: where a
request comes from proves nothing, because every pod can reach the server. What a name may do stands in ``users`` of the
tokens file, so a proxy that lets somebody through does not thereby say what for. The proxy must set both headers on
every request it forwards, and so replace what a caller sent.
"""

import hmac
from typing import NamedTuple

from dagferry_core.errors import SetupError
from dagferry_server.auth.access import Caller
from dagferry_server.auth.headers import Headers
from dagferry_server.auth.patterns import matches
from dagferry_server.auth.tokens import User
from dagferry_server.auth.watched import WatchedFile
from dagferry_server.errors import CredentialsRefused

PROXY_SECRET_HEADER = "Dagferry-Proxy-Secret"  # noqa: S105 - a header's name
MIN_SECRET_BYTES = 32
MAX_USER_CHARACTERS = 256
_PLACEHOLDER = {"{", "}"}


class Proxy(NamedTuple):
    """The header with the caller's name, and the file with the secret that proves the proxy."""

    user_header: str
    secret: WatchedFile[bytes]


def parse_secret(data: bytes) -> bytes:
    """Return the secret in a file; raise ``SetupError`` if it is so short that it could be guessed."""
    secret = data.strip()
    if len(secret) < MIN_SECRET_BYTES:
        raise SetupError(
            f"The proxy's secret has {len(secret)} bytes and needs {MIN_SECRET_BYTES}.",
            "Make one with: openssl rand -hex 32",
        )
    return secret


def proxy_caller(proxy: Proxy, users: tuple[User, ...], headers: Headers) -> Caller | None:
    """Return whom the proxy vouches for, ``None`` if the request does not come from it.

    A caller's name without the secret counts for nothing. Raises ``CredentialsRefused`` if the secret is wrong or the
    name is missing, there twice or unreadable.
    """
    sent = headers.getall(PROXY_SECRET_HEADER, [])
    if not sent:
        return None
    if len(sent) > 1 or not hmac.compare_digest(sent[0].encode(errors="surrogateescape"), proxy.secret.value):
        raise CredentialsRefused(f"{PROXY_SECRET_HEADER} does not hold the proxy's secret.")
    names = headers.getall(proxy.user_header, [])
    if len(names) != 1 or not names[0] or len(names[0]) > MAX_USER_CHARACTERS or not names[0].isprintable():
        raise CredentialsRefused(
            f"The proxy must send one caller's name in {proxy.user_header}; it sent {len(names)} or an unreadable one.",
            "Check what the proxy sets this header from.",
        )
    if _PLACEHOLDER & set(names[0]):
        # Caddy sends it as it stands if the login answered without a name: all who came so would be one caller.
        raise CredentialsRefused(
            f"The proxy sent a placeholder of its configuration in {proxy.user_header}: {names[0]!r}.",
            "The login answered without a name. Check which header it names the caller in.",
        )
    grants = tuple(user.grant for user in users if matches(user.name, names[0]))
    return Caller(f"proxy:{names[0]}", grants, by_browser=True)
