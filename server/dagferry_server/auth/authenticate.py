"""Authenticates requests by their headers alone: the one place where all kinds of credentials are checked."""

import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from dagferry_server.auth.access import ANYBODY, Caller
from dagferry_server.auth.expiry import warn_of_expiry
from dagferry_server.auth.headers import Headers, bearer
from dagferry_server.auth.proxy import Proxy, proxy_caller
from dagferry_server.auth.sessions import MAX_SESSION_SECONDS, Sessions
from dagferry_server.auth.tokens import Tokens, ending, entry_caller, token_caller
from dagferry_server.config.watched import Reload, WatchedFile, running, watch
from dagferry_server.errors import CredentialsRefused

if TYPE_CHECKING:
    from dagferry_server.auth.trust import Trust

TOKENS, PROXY_SECRET, WEB_KEY = "tokens", "proxy_secret", "web_key"
"""The names of the files in ``reloads`` and in the metrics."""


class Authenticator:
    """Identifies callers by tokens, trusted issuers or a proxy; if none is configured, every caller is ``ANYBODY``."""

    def __init__(
        self,
        *,
        tokens: WatchedFile[Tokens] | None = None,
        trust: "Trust | None" = None,
        proxy: Proxy | None = None,
        web_key: WatchedFile[bytes] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._tokens = tokens
        self._trust = trust
        self._proxy = proxy
        self._web_key = web_key
        self._now = now
        self.sessions = Sessions(web_key)

    @property
    def auth_required(self) -> bool:
        """Whether callers need credentials."""
        return bool(self._tokens or self._trust or self._proxy)

    @property
    def reloads(self) -> dict[str, Reload]:
        """The results of the last reloads, by what was read; a failed one leaves the last valid state in effect."""
        reloads = {name: file.reload for name, file in self._files.items()}
        return {**reloads, **(self._trust.reloads if self._trust else {})}

    @property
    def token_expiry(self) -> float:
        """When the next token expires (seconds since the epoch) whose name has no later one; 0 if none does."""
        tokens = self._tokens.value.tokens if self._tokens else ()
        return min(ending(tokens, self._now()).values(), default=0.0)

    @property
    def _files(self) -> dict[str, WatchedFile[Any]]:
        proxy_secret = self._proxy.secret if self._proxy else None
        files = {TOKENS: self._tokens, PROXY_SECRET: proxy_secret, WEB_KEY: self._web_key}
        return {name: file for name, file in files.items() if file}

    @asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        """Reload files and fetch keys in the background during the block."""
        work = [watch(list(self._files.values()))]
        if self._trust:
            work.append(self._trust.keep_fresh())
        if self._tokens:
            work.append(warn_of_expiry(self._tokens, self._now))
        async with running(*work):
            yield

    async def authenticate(self, headers: Headers) -> Caller | None:
        """Return the caller, ``None`` if the request has no credentials although the server requires them.

        Raises ``CredentialsRefused`` (401) or ``IssuerUnavailable`` (503).
        """
        if not self.auth_required:
            return ANYBODY
        tokens = self._tokens.value if self._tokens else Tokens((), ())
        if self._proxy and (caller := proxy_caller(self._proxy, tokens.users, headers)):
            return caller
        secret = bearer(headers)
        if secret is None:
            return None
        if caller := token_caller(tokens.tokens, secret, self._now()):
            return caller
        if self._trust:
            from dagferry_server.auth import jwts  # noqa: PLC0415 - 9 MiB of libraries, only with issuers

            if jwts.is_jwt(secret):
                return await jwts.jwt_caller(self._trust.issuers, secret)
        raise CredentialsRefused("This server does not know this token.")

    @property
    def has_tokens(self) -> bool:
        """Whether there is a token with which a person can sign in."""
        return bool(self._tokens and self._tokens.value.tokens)

    def sign_in(self, secret: str) -> tuple[Caller, str]:
        """Return the holder of a token, and the value of a cookie that stands for it until it or the session expires.

        Raises ``CredentialsRefused`` if the token is not in the tokens file, or has expired.
        """
        tokens, now = self._tokens.value.tokens if self._tokens else (), self._now()
        caller = token_caller(tokens, secret, now)
        if caller is None:
            raise CredentialsRefused("This server does not know this token.")
        sha256 = hashlib.sha256(secret.encode(errors="surrogateescape")).digest()
        expires = now + MAX_SESSION_SECONDS
        return caller, self.sessions.new(
            sha256, int(expires if caller.expires is None else min(expires, caller.expires))
        )

    def session_caller(self, cookie: str) -> Caller | None:
        """Return who signed in with a cookie; ``None`` if it is not valid, has expired, or its token was revoked."""
        now = self._now()
        session = self.sessions.read(cookie, now)
        if session is None or self._tokens is None:
            return None
        caller = entry_caller(self._tokens.value.tokens, session.sha256, now)
        if caller is None:
            return None
        ends = session.expires if caller.expires is None else min(session.expires, caller.expires)
        return caller._replace(expires=ends)
