"""Makes the ``Authenticator`` for the settings. Reads every file it needs, so an invalid one ends the command."""

from functools import partial
from typing import TYPE_CHECKING

from dagferry_server.auth.authenticate import Authenticator
from dagferry_server.auth.proxy import Proxy, parse_secret
from dagferry_server.auth.sessions import parse_key
from dagferry_server.auth.tokens import parse_tokens
from dagferry_server.config.watched import WatchedFile
from dagferry_server.settings import Settings

if TYPE_CHECKING:
    from dagferry_server.auth.trust import Trust


def make_authenticator(settings: Settings) -> Authenticator:
    """Return the authenticator. Blocks; raises ``SetupError`` if a file cannot be used."""
    proxy = None
    if settings.proxy_user_header and settings.proxy_secret_file:
        proxy = Proxy(settings.proxy_user_header, WatchedFile(settings.proxy_secret_file, parse_secret, guarded=True))
    tokens = None
    if settings.tokens_file:
        parse = partial(parse_tokens, with_users=proxy is not None)
        tokens = WatchedFile(settings.tokens_file, parse, guarded=True)
    # The servers of one store share both, and each signs other texts with it.
    web_key = settings.web_key_file or settings.peer_secret_file
    return Authenticator(
        tokens=tokens,
        trust=_trust(settings.issuers_file),
        proxy=proxy,
        web_key=WatchedFile(web_key, parse_key, guarded=True) if web_key else None,
    )


def _trust(path: str | None) -> "Trust | None":
    if path is None:
        return None
    # Its libraries take 9 MiB of memory, which a server without issuers does not need.
    from dagferry_server.auth.trust import Trust  # noqa: PLC0415

    return Trust(path)
