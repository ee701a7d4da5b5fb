"""What every request goes through: aiohttp's application of one listener, and its middlewares.

Routes come from the table in ``routes``. ``admission`` decides whether a request may use its route, before the handler
starts. Errors become responses here. Every request is counted, and its outcome is logged: see ``audit``.
"""

import asyncio
import logging
from collections.abc import Iterable

from aiohttp import hdrs, web

from dagferry_core.errors import DagferryError
from dagferry_core.protocol import DRY_RUN
from dagferry_runtime.logs import fields
from dagferry_server.errors import MethodNotAllowed, RouteNotFound, ServerError
from dagferry_server.http.admission import LOOPBACK_ONLY, admit
from dagferry_server.http.app_state import AppState
from dagferry_server.http.audit import audit
from dagferry_server.http.models import FIXED_HEADERS, error_response
from dagferry_server.http.request_body import Body
from dagferry_server.http.request_context import CALLER, REFUSAL, SERVICE, STATE
from dagferry_server.http.routing import ROUTE, RawHandler, Route, add_routes, allowed_methods, find_route
from dagferry_server.metrics import CLIENT_DISCONNECTED, OUTCOME_OK
from dagferry_server.service import Service
from dagferry_server.webhooks.messages import is_refusal, refused

UNAUTHORIZED, UNAVAILABLE = 401, 503
NO_CONTENT = 204
SERVER_PATHS = {"/", "*"}
"""Paths for which OPTIONS asks about the server as a whole: some load balancers use it as a health check."""

log = logging.getLogger(__name__)


def make_app(service: Service, state: AppState, routes: Iterable[Route], *, loopback_only: bool) -> web.Application:
    """Return the application of one listener, which has ``routes``.

    ``loopback_only``: only this machine can reach the listener, and every client is let in.
    """
    app = web.Application(middlewares=[finish_changes, count, answer_errors])
    app[SERVICE] = service
    app[STATE] = state
    app[LOOPBACK_ONLY] = loopback_only
    served = tuple(routes)
    for route in served:  # shown from the start, so that the first failure is seen as an increase
        service.metrics.requests.labels(route.path, "5xx")
    add_routes(app, served, _endpoint, _no_route)
    return app


@web.middleware
async def finish_changes(request: web.Request, handler: RawHandler) -> web.StreamResponse:
    """Complete a request that changes something even if its client disconnects."""
    service, route = request.app[SERVICE], find_route(request)
    if route:
        request[ROUTE] = route
    with request.app[STATE].busy:
        if route is None or route.is_read:
            return await handler(request)

        async def finish() -> web.StreamResponse:
            return await handler(request)

        return await asyncio.shield(service.spawn(finish()))


@web.middleware
async def count(request: web.Request, handler: RawHandler) -> web.StreamResponse:
    """Count each request by its route and the class of its status."""
    status = CLIENT_DISCONNECTED
    try:
        response = await handler(request)
        status = f"{response.status // 100}xx"
    finally:
        route = request.get(ROUTE)
        request.app[SERVICE].metrics.requests.labels(route.path if route else "", status).inc()
    return response


@web.middleware
async def answer_errors(request: web.Request, handler: RawHandler) -> web.StreamResponse:
    """Turn errors into responses, and log the outcome of each request."""
    route = request.get(ROUTE)
    try:
        response = await (handler(request) if route else _no_route(request))
    except DagferryError as error:
        audit(request, route, error.code, error.message)
        _count_failed(request, route, error.code)
        _send_refusal(request, route, error)
        return await _reject(request, error)
    except (ConnectionError, asyncio.TimeoutError, TimeoutError):
        # The client disconnected, or stopped reading.
        audit(request, route, CLIENT_DISCONNECTED)
        _count_failed(request, route, CLIENT_DISCONNECTED)
        raise ConnectionResetError from None
    except asyncio.CancelledError:  # as above, but the connection noticed it first
        audit(request, route, CLIENT_DISCONNECTED)
        raise
    except Exception:
        audit(request, route, DagferryError.code)
        _count_failed(request, route, DagferryError.code)
        log.exception("Request failed", extra=_of(request))
        return await _reject(
            request, DagferryError("The server could not answer this request because of an internal error.")
        )
    refusal = request.get(REFUSAL)
    audit(request, route, *((refusal.code, refusal.message) if refusal else (OUTCOME_OK,)))
    return _last(request, response)


def _endpoint(route: Route) -> RawHandler:
    async def handle(request: web.Request) -> web.StreamResponse:
        return await route.handler(await admit(route, request))

    return handle


async def _no_route(request: web.Request) -> web.StreamResponse:
    """Answer OPTIONS, which reveals nothing but the methods of a path, and reject requests without a route."""
    path = request.rel_url.raw_path
    allowed = allowed_methods(request)
    if request.method == hdrs.METH_OPTIONS and path in SERVER_PATHS:
        allowed = "DELETE, GET, HEAD, OPTIONS, POST"
    if request.method == hdrs.METH_OPTIONS and allowed:
        return web.Response(status=NO_CONTENT, headers={**FIXED_HEADERS, "Allow": allowed})
    if allowed:
        raise MethodNotAllowed(f"{request.method[:20]} is not allowed for this path.", f"Use {allowed}.")
    raise RouteNotFound(f"There is no endpoint {request.method[:20]} {path[:200]}.")


def _count_failed(request: web.Request, route: Route | None, outcome: str) -> None:
    """Count a deploy that failed; its handler counts the others. Unknown deployments and callers share one label."""
    if route and route.kind:
        service, caller = request.app[SERVICE], request.get(CALLER)
        name = request.match_info["deployment"]
        known = caller and caller.scopes(name) and name in service.deployments
        service.metrics.count_deploy(name if known else "", route.kind, outcome)


def _send_refusal(request: web.Request, route: Route | None, error: DagferryError) -> None:
    """Note that a deploy was refused, and inform webhooks, if its caller may deploy; not after a dry run."""
    service, caller = request.app[SERVICE], request.get(CALLER)
    deployment = service.deployments.get(request.match_info.get("deployment", ""))
    if not (route and route.scope == "deploy" and deployment and caller and is_refusal(error)):
        return
    if "deploy" in caller.scopes(deployment.name) and DRY_RUN not in request.query:
        request.app[STATE].refusals.add(deployment.name, caller.actor, error, service.clock())
        message = refused(deployment.name, caller.actor, error, service.clock())
        service.webhooks.send(deployment.settings.webhooks, message)


async def _reject(request: web.Request, error: DagferryError) -> web.StreamResponse:
    if request.writer.output_size:
        log.error("Response aborted", extra=_of(request, error=error.message))
        raise ConnectionResetError
    headers = {}
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = allowed_methods(request)
    if error.status == UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, ServerError) and error.status == UNAVAILABLE:
        headers["Retry-After"] = str(error.retry_after)
    route = request.get(ROUTE)
    response = route.pages.reject(request, error) if route and route.pages else error_response(error, headers)
    return await Body.of(request).reject(_last(request, response))


def _last(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    if request.app[SERVICE].stopping and not response.prepared:
        response.force_close()
    return response


def _of(request: web.Request, **more: str) -> dict[str, dict[str, object]]:
    return fields(method=request.method, path=request.path[:200], **more)
