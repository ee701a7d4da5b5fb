"""Makes the ``Identifier`` that the settings describe. Reads every file it needs, so a bad one ends the command."""

from functools import partial
from typing import TYPE_CHECKING

from dagferry_core.errors import SetupError
from dagferry_server.auth.identify import Identifier
from dagferry_server.auth.issuers import Issuer, parse_issuers
from dagferry_server.auth.proxy import Proxy, parse_secret
from dagferry_server.auth.tokens import parse_tokens
from dagferry_server.auth.watched import WatchedFile
from dagferry_server.settings import Settings

if TYPE_CHECKING:
    from dagferry_server.auth.jwts import TrustedIssuer


def make_identifier(settings: Settings) -> Identifier:
    """Return what tells callers apart. Blocks; raises ``SetupError`` if a file cannot be used."""
    proxy = None
    if settings.proxy_user_header and settings.proxy_secret_file:
        proxy = Proxy(settings.proxy_user_header, WatchedFile(settings.proxy_secret_file, parse_secret))
    tokens = None
    if settings.tokens_file:
        tokens = WatchedFile(settings.tokens_file, partial(parse_tokens, with_users=proxy is not None))
    return Identifier(
        tokens=tokens,
        issuers=_trusted(settings.issuers_file),
        proxy=proxy,
    )


def _trusted(path: str | None) -> "list[TrustedIssuer]":
    if path is None:
        return []
    # Their libraries weigh 9 MiB, which a server without issuers need not carry.
    from dagferry_server.auth.fetch import FetchFailed, credentials, fetch_keys  # noqa: PLC0415
    from dagferry_server.auth.jwts import TrustedIssuer  # noqa: PLC0415
    from dagferry_server.auth.keys import FileKeys, IssuerKeys  # noqa: PLC0415

    def keys_of(issuer: Issuer) -> IssuerKeys | FileKeys:
        try:
            if issuer.source.jwks_file:
                return FileKeys(issuer.name, issuer.source.jwks_file)
            credentials(issuer.source)
        except FetchFailed as error:
            raise SetupError(f"The issuer {issuer.name!r}: {error}.") from error
        except SetupError as error:
            raise SetupError(f"The issuer {issuer.name!r}, {issuer.source.jwks_file}: {error.message}") from error
        return IssuerKeys(issuer.name, partial(fetch_keys, issuer))

    issuers: tuple[Issuer, ...] = WatchedFile(path, parse_issuers).value  # read once: rules are part of the start
    return [TrustedIssuer(issuer, keys_of(issuer)) for issuer in issuers]
