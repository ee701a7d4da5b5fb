"""What every request goes through: route, deployment and caller first, then the handler; errors become answers here.

The body of a request is not read before all three are known, so a stranger's upload costs nothing but the discarding
of what arrives.
"""

import asyncio
import logging
from collections.abc import Iterable

from aiohttp import web

from dagferry_core.command import fields
from dagferry_core.errors import DagferryError, MethodNotAllowed
from dagferry_server.answers import error_response
from dagferry_server.body import Body
from dagferry_server.callers import caller_of
from dagferry_server.calls import Call
from dagferry_server.routing import Route, Table
from dagferry_server.service import Service

log = logging.getLogger(__name__)


class App:
    """The handler of one listener: the routes it has, in front of the service."""

    def __init__(self, service: Service, routes: Iterable[Route]) -> None:
        self._service = service
        self._table = Table(routes)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        with self._service.busy:
            body = Body(request)
            try:
                route, call = self._admit(request, body)
            except DagferryError as error:
                return await self._refuse(request, body, error)
            answering = self._answer(route, call)
            if route.method == "GET":
                return await answering
            # What changes something is brought to its end, also if the client does not wait for it.
            return await asyncio.shield(self._service.spawn(answering))

    def _admit(self, request: web.BaseRequest, body: Body) -> tuple[Route, Call]:
        """Decide about a request by its first line and headers."""
        route, parts = self._table.match(request.method, request.rel_url.raw_path)
        name = parts.get("deployment", route.deployment)
        caller = caller_of(request, route.scope, name)
        target = None if name is None else self._service.deployment(name)
        return route, Call(request, body, self._service, target, caller, parts)

    async def _answer(self, route: Route, call: Call) -> web.StreamResponse:
        try:
            response = await route.handler(call)
        except DagferryError as error:
            return await self._refuse(call.request, call.body, error)
        except (ConnectionError, asyncio.TimeoutError, TimeoutError):
            # The client is gone, or takes nothing any more.
            raise ConnectionResetError from None
        except Exception:
            log.exception("A request failed", extra=_of(call.request))
            failure = DagferryError("The server failed to answer this request.")
            return await self._refuse(call.request, call.body, failure)
        return self._last(response)

    async def _refuse(self, request: web.BaseRequest, body: Body, error: DagferryError) -> web.StreamResponse:
        if request.writer.output_size:
            log.error("An answer broke off", extra=_of(request, error=error.message))
            raise ConnectionResetError
        headers = {}
        if isinstance(error, MethodNotAllowed):
            headers["Allow"] = self._table.allowed(request.rel_url.raw_path)
        return await body.refuse(self._last(error_response(error, headers)))

    def _last(self, response: web.StreamResponse) -> web.StreamResponse:
        if self._service.stopping and not response.prepared:
            response.force_close()
        return response


def _of(request: web.BaseRequest, **more: str) -> dict[str, dict[str, object]]:
    return fields(method=request.method, path=request.path[:200], **more)
