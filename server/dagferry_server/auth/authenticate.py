"""Authenticates requests by their headers alone: the one place where all kinds of credentials are checked."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from dagferry_server.auth.access import ANYBODY, Caller
from dagferry_server.auth.expiry import warn_of_expiry
from dagferry_server.auth.headers import Headers, bearer
from dagferry_server.auth.proxy import Proxy, proxy_caller
from dagferry_server.auth.tokens import Tokens, ending, token_caller
from dagferry_server.config.watched import Reload, WatchedFile, running, watch
from dagferry_server.errors import CredentialsRefused

if TYPE_CHECKING:
    from dagferry_server.auth.trust import Trust

TOKENS, PROXY_SECRET = "tokens", "proxy_secret"
"""The names of the files in ``reloads`` and in the metrics."""


class Authenticator:
    """Identifies callers by tokens, trusted issuers or a proxy; if none is configured, every caller is ``ANYBODY``."""

    def __init__(
        self,
        *,
        tokens: WatchedFile[Tokens] | None = None,
        trust: "Trust | None" = None,
        proxy: Proxy | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._tokens = tokens
        self._trust = trust
        self._proxy = proxy
        self._now = now

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
        files = {TOKENS: self._tokens, PROXY_SECRET: self._proxy.secret if self._proxy else None}
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
