"""Who calls, and what they may do: decided once for every request, before its body is read or the store is touched."""

from typing import Literal, NamedTuple

from aiohttp import web

Scope = Literal["deploy", "sync", "read"]


class Caller(NamedTuple):
    """Who made a request; ``actor`` is the name that stands in the deploy log."""

    actor: str


def caller_of(request: web.BaseRequest, scope: Scope | None, deployment: str | None) -> Caller:  # noqa: ARG001
    """Return who calls, or raise if they may not do with ``deployment`` what ``scope`` covers.

    Nobody has to prove who they are yet: the address the server listens on is the guard.
    """
    return Caller("anonymous")
