"""What a handler gets: the request, and what was decided about it before."""

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from aiohttp import web

from dagferry_core.errors import DagferryError
from dagferry_server.auth.access import Caller
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.errors import RequestError
from dagferry_server.http.app_state import AppState
from dagferry_server.http.half_closed import AnsweringConnection
from dagferry_server.http.request_body import Body
from dagferry_server.service import Service

SERVICE = web.AppKey("SERVICE", Service)
"""The service behind an application."""
STATE = web.AppKey("STATE", AppState)
"""What an application shares with those of the other listeners."""
CALLER = web.RequestKey("CALLER", Caller)
"""Who sent a request, as soon as that is known."""
NOTES = web.RequestKey("NOTES", dict[str, object])
"""What the audit log says of a request beside its outcome, by field."""
REFUSAL = web.RequestKey("REFUSAL", DagferryError)
"""Why a request was refused whose response has the status 200."""


def named_deployment(request: web.Request) -> str | None:
    """Return the name of the deployment in a request's path, ``None`` if it has none.

    It is ``name`` in the paths of requests about deployments, which need not exist.
    """
    return request.match_info.get("deployment", request.match_info.get("name"))


class RequestContext(NamedTuple):
    """A request whose route, deployment and caller are known and allowed. Its body has not been read yet."""

    request: web.Request
    service: Service
    state: AppState
    target: Deployment | None
    identified: Caller | None

    @property
    def body(self) -> Body:
        """The body of the request."""
        return Body.of(self.request)

    @property
    def deployment(self) -> Deployment:
        """The deployment; ``LookupError`` if the route has none."""
        if self.target is None:
            raise LookupError("this route has no deployment")
        return self.target

    @property
    def caller(self) -> Caller:
        """The caller; ``LookupError`` if the route is open to everybody."""
        if self.identified is None:
            raise LookupError("this route is open to everybody")
        return self.identified

    def note(self, **notes: object) -> None:
        """Add to what the audit log says about the request, whatever its outcome. Empty values are skipped."""
        known = {name: value for name, value in notes.items() if value}
        self.request[NOTES] = {**self.request.get(NOTES, {}), **known}

    def refused(self, error: DagferryError) -> None:
        """Log the request as one that ``error`` refused, although its response has the status 200."""
        self.request[REFUSAL] = error

    def waiting(self) -> AbstractContextManager[None]:
        """Return a block in which a client that closes its half of the connection counts as disconnected."""
        connection = self.request.protocol
        return connection.waiting() if isinstance(connection, AnsweringConnection) else nullcontext()

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """Return an integer of the query; ``RequestError`` if it is not one from ``low`` to ``high``."""
        text = self.request.query.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdecimal() and len(text) <= len(str(high)) and low <= int(text) <= high):
            raise RequestError(f"{name}={text[:40]!r} is not a whole number from {low} to {high}.")
        return int(text)
