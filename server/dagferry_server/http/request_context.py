"""One request on its way to its handler: everything that was decided about it before."""

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from aiohttp import web

from dagferry_server.auth.access import Caller
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.errors import RequestError
from dagferry_server.http.half_closed import AnsweringConnection
from dagferry_server.http.request_body import Body
from dagferry_server.service import Service


class RequestContext(NamedTuple):
    """A request whose route, deployment and caller are known and in order. Its body was not looked at yet."""

    request: web.BaseRequest
    body: Body
    service: Service
    target: Deployment | None
    identified: Caller | None
    parts: dict[str, str]

    @property
    def deployment(self) -> Deployment:
        """The deployment of a route that has one."""
        if self.target is None:
            raise LookupError("this route has no deployment")
        return self.target

    @property
    def caller(self) -> Caller:
        """Who calls a route that has a scope."""
        if self.identified is None:
            raise LookupError("this route is open to everybody")
        return self.identified

    def waiting(self) -> AbstractContextManager[None]:
        """Return a block in which a client that closes its half of the connection has hung up."""
        connection = self.request.protocol
        return connection.waiting() if isinstance(connection, AnsweringConnection) else nullcontext()

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """Return a whole number of the query; ``RequestError`` if it is none, or not from ``low`` to ``high``."""
        text = self.request.query.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdecimal() and len(text) <= len(str(high)) and low <= int(text) <= high):
            raise RequestError(f"{name}={text[:40]!r} is no whole number from {low} to {high}.")
        return int(text)
