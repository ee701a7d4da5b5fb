"""What every request goes through: route, caller and deployment first, then the handler; errors become answers here.

The body of a request is not read, and the store not touched, before all three are known and in order. So a stranger's
upload costs nothing but the discarding of what arrives. Every request is counted, and what becomes of it is in the log:
see ``audit``.
"""

import asyncio
import logging
from collections.abc import Awaitable, Iterable

from aiohttp import web

from dagferry_core.errors import DagferryError
from dagferry_runtime.logs import fields
from dagferry_server.auth.access import decide, refusal
from dagferry_server.auth.browser import refuse_web_pages
from dagferry_server.errors import MethodNotAllowed, RequestError, ServerError
from dagferry_server.http.audit import CLIENT_DISCONNECTED, Audit
from dagferry_server.http.models import FIXED_HEADERS, error_response
from dagferry_server.http.request_body import Body
from dagferry_server.http.request_context import RequestContext
from dagferry_server.http.routing import Route, Table
from dagferry_server.metrics import NO_ANSWER, OUTCOME_OK
from dagferry_server.service import Service

UNAUTHORIZED, UNAVAILABLE = 401, 503
NO_CONTENT = 204
SERVER_PATHS = {"/", "*"}
"""What OPTIONS asks about the server as a whole: load balancers check its health so."""
MAX_SHOWN_PARAMETERS = 5

log = logging.getLogger(__name__)


class App:
    """The handler of one listener: the routes it has, in front of the service.

    ``loopback_only`` says that nobody but this machine can reach it, and that whoever does is let in.
    """

    def __init__(self, service: Service, routes: Iterable[Route], *, loopback_only: bool) -> None:
        self._service = service
        self._table = Table(routes)
        self._loopback_only = loopback_only

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        with self._service.busy:
            body = Body(request)
            if request.method == "OPTIONS" and (allowed := self._options(request.rel_url.raw_path)):
                self._service.metrics.requests.labels("", f"{NO_CONTENT // 100}xx").inc()
                return self._last(web.Response(status=NO_CONTENT, headers={**FIXED_HEADERS, "Allow": allowed}))
            try:
                route, parts = self._table.match(request.method, request.rel_url.raw_path)
            except DagferryError as error:
                Audit(request, self._service.refusals, request.rel_url.raw_path).log(error.code, error.message)
                return await self._counted("", self._refuse(request, body, error))
            if route.implied_deployment:
                parts["deployment"] = self._service.implied_deployment
            answering = self._counted(route.path, self._answer(route, request, body, parts))
            if route.method == "GET":
                return await answering
            # What changes something is brought to its end, also if the client does not wait for it.
            return await asyncio.shield(self._service.spawn(answering))

    def _options(self, path: str) -> str:
        """Return the methods of a path, which say nothing of what is behind it; empty if there is no such path."""
        return "GET, HEAD, OPTIONS, POST" if path in SERVER_PATHS else self._table.allowed(path)

    def count_malformed(self) -> None:
        """Count what was answered as no HTTP at all."""
        self._service.metrics.requests.labels("", "4xx").inc()

    def refuse_plain(self, peer: str) -> None:
        """Count and log that somebody spoke plain http to the port that speaks TLS; they were told so."""
        self.count_malformed()
        text = "Plain http was spoken to the port of https."
        self._service.refusals.log(peer, RequestError.code, "", error=text, peer=peer)

    async def _counted(self, path: str, answering: Awaitable[web.StreamResponse]) -> web.StreamResponse:
        """Count the request for the route ``path`` by its answer."""
        status = NO_ANSWER
        try:
            response = await answering
            status = f"{response.status // 100}xx"
        finally:
            self._service.metrics.requests.labels(path, status).inc()
        return response

    async def _answer(
        self, route: Route, request: web.BaseRequest, body: Body, parts: dict[str, str]
    ) -> web.StreamResponse:
        audit = Audit(
            request, self._service.refusals, route.path, parts.get("deployment"), sends_content=route.sends_content
        )
        try:
            response = await route.handler(await self._admit(route, request, body, parts, audit))
        except DagferryError as error:
            audit.log(error.code, error.message)
            self._count_failed(route, parts, audit, error.code)
            return await self._refuse(request, body, error)
        except (ConnectionError, asyncio.TimeoutError, TimeoutError):
            # The client is gone, or takes nothing any more.
            audit.log(CLIENT_DISCONNECTED)
            self._count_failed(route, parts, audit, CLIENT_DISCONNECTED)
            raise ConnectionResetError from None
        except asyncio.CancelledError:  # as above, but seen by the connection first
            audit.log(CLIENT_DISCONNECTED)
            raise
        except Exception:
            audit.log(DagferryError.code)
            self._count_failed(route, parts, audit, DagferryError.code)
            log.exception("A request failed", extra=_of(request))
            failure = DagferryError("The server failed to answer this request.")
            return await self._refuse(request, body, failure)
        audit.log(OUTCOME_OK)
        return self._last(response)

    def _count_failed(self, route: Route, parts: dict[str, str], audit: Audit, outcome: str) -> None:
        """Count an upload that led to nothing, from whomever it came; its handler counts the others."""
        if route.takes_file:
            name = parts.get("deployment", "")
            known = audit.caller and audit.caller.scopes(name) and name in self._service.deployments
            self._service.metrics.uploads.labels(name if known else "", outcome).inc()

    async def _admit(
        self, route: Route, request: web.BaseRequest, body: Body, parts: dict[str, str], audit: Audit
    ) -> RequestContext:
        """Decide about a request by its first line and headers: the one place where that is done."""
        name = parts.get("deployment")
        caller = None
        # A web page gets nothing at all of a server that anybody on this machine may call.
        if route.scope or not self._service.identifier.closed:
            caller = await self._service.identifier.identify(request.headers)
            audit.caller = caller
            if caller and caller.by_browser:
                refuse_web_pages(request.headers, loopback_only=self._loopback_only)
        if error := refusal(decide(route.scope, name or "", caller), route.scope, name or "", caller):
            raise error
        refuse_unknown_parameters(route, request.query)
        target = None if name is None else self._service.deployment(name)
        return RequestContext(request, body, self._service, target, caller, parts)

    async def _refuse(self, request: web.BaseRequest, body: Body, error: DagferryError) -> web.StreamResponse:
        if request.writer.output_size:
            log.error("An answer broke off", extra=_of(request, error=error.message))
            raise ConnectionResetError
        headers = {}
        if isinstance(error, MethodNotAllowed):
            headers["Allow"] = self._table.allowed(request.rel_url.raw_path)
        if error.status == UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        if isinstance(error, ServerError) and error.status == UNAVAILABLE:
            headers["Retry-After"] = str(error.retry_after)
        return await body.refuse(self._last(error_response(error, headers)))

    def _last(self, response: web.StreamResponse) -> web.StreamResponse:
        if self._service.stopping and not response.prepared:
            response.force_close()
        return response


def refuse_unknown_parameters(route: Route, query: Iterable[str]) -> None:
    """Raise ``RequestError`` if the query has a parameter that the route does not: it was meant to do something."""
    known = [parameter.name for parameter in route.parameters if parameter.place == "query"]
    unknown = [name for name in dict.fromkeys(query) if name not in known]
    if unknown:
        shown = ", ".join(repr(name[:40]) for name in unknown[:MAX_SHOWN_PARAMETERS])
        raise RequestError(
            f"{route.method} {route.path} has no query parameter {shown}.",
            f"It has: {', '.join(known)}." if known else "It has none; leave the query out.",
        )


def _of(request: web.BaseRequest, **more: str) -> dict[str, dict[str, object]]:
    return fields(method=request.method, path=request.path[:200], **more)
