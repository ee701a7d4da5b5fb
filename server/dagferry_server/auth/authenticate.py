"""Says who makes a request, from its headers alone: the one place where all kinds of credentials come together."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from dagferry_server.auth.access import ANYBODY, Caller
from dagferry_server.auth.expiry import warn_of_expiry
from dagferry_server.auth.headers import Headers, bearer
from dagferry_server.auth.proxy import Proxy, proxy_caller
from dagferry_server.auth.tokens import Tokens, ending, token_caller
from dagferry_server.auth.watched import Reload, WatchedFile, running, watch
from dagferry_server.errors import CredentialsRefused

if TYPE_CHECKING:
    from dagferry_server.auth.trust import Trust

TOKENS, PROXY_SECRET = "tokens", "proxy_secret"
"""What ``reloads`` and the metrics call the files."""


class Authenticator:
    """Tells callers apart by whatever is set up: tokens, trusted issuers, a proxy. With none, everybody is anybody."""

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
    def closed(self) -> bool:
        """Whether callers have to prove who they are."""
        return bool(self._tokens or self._trust or self._proxy)

    @property
    def reloads(self) -> dict[str, Reload]:
        """How the last reloads went, by what was read; while one fails, what was read before is in force."""
        reloads = {name: file.reload for name, file in self._files.items()}
        return {**reloads, **(self._trust.reloads if self._trust else {})}

    @property
    def token_expiry(self) -> float:
        """When the next token ends (seconds since the epoch) whose name has no later one; 0 if none does."""
        tokens = self._tokens.value.tokens if self._tokens else ()
        return min(ending(tokens, self._now()).values(), default=0.0)

    @property
    def _files(self) -> dict[str, WatchedFile[Any]]:
        files = {TOKENS: self._tokens, PROXY_SECRET: self._proxy.secret if self._proxy else None}
        return {name: file for name, file in files.items() if file}

    @asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        """Re-read files and fetch keys in the background while the server runs."""
        work = [watch(list(self._files.values()))]
        if self._trust:
            work.append(self._trust.keep_fresh())
        if self._tokens:
            work.append(warn_of_expiry(self._tokens, self._now))
        async with running(*work):
            yield

    async def identify(self, headers: Headers) -> Caller | None:
        """Return who calls, ``None`` if the request has no credentials and needs some.

        Raises ``CredentialsRefused`` (401) or ``IssuerUnavailable`` (503).
        """
        if not self.closed:
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
            from dagferry_server.auth import jwts  # noqa: PLC0415 - 9 MiB of libraries for those with issuers alone

            if jwts.is_jwt(secret):
                return await jwts.jwt_caller(self._trust.issuers, secret)
        raise CredentialsRefused("This server does not know this token.")
