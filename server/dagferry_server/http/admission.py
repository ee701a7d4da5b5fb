"""The one place that decides whether a request is let in, by its request line and headers alone.

The body is not read and the store is not touched before the route, the caller and the deployment are known and allowed.
So an unauthorized upload costs no more than discarding what arrives.
"""

from collections.abc import Iterable

from aiohttp import web

from dagferry_server.auth.access import Caller, authorize
from dagferry_server.auth.browser import refuse_web_pages
from dagferry_server.errors import RequestError
from dagferry_server.http.request_context import CALLER, SERVICE, STATE, RequestContext, named_deployment
from dagferry_server.http.routing import Route

LOOPBACK_ONLY = web.AppKey("LOOPBACK_ONLY", bool)
"""Whether only this machine can reach an application's listener, and every client is let in."""
MAX_SHOWN_PARAMETERS = 5


async def admit(route: Route, request: web.Request) -> RequestContext:
    """Return what the handler of ``route`` needs; raise a ``DagferryError`` if the request is not allowed."""
    service = request.app[SERVICE]
    if route.implied_deployment:
        request.match_info["deployment"] = service.deployments.implied
    name = named_deployment(request)
    caller = None
    # A web page may not use a server that lets in everybody on this machine, not even endpoints without a scope.
    if route.scope or not service.authenticator.auth_required:
        caller = await (route.pages.identify(request) if route.pages else identify(request))
    authorize(route.scope, name or "", caller, creates=route.creates, or_scope=route.or_scope)
    refuse_unknown_parameters(route, request.query)
    target = None
    if name is not None and "deployment" in request.match_info:
        target = await service.deployments.find_or_look(name)
    return RequestContext(request, service, request.app[STATE], target, caller)


async def identify(request: web.Request) -> Caller | None:
    """Return who sent a request, ``None`` if it has no credentials although the server requires them.

    Raises what ``Authenticator.authenticate`` raises, and ``OriginRefused``.
    """
    caller = await request.app[SERVICE].authenticator.authenticate(request.headers)
    if caller:
        request[CALLER] = caller
        if caller.by_browser:
            refuse_web_pages(request.headers, loopback_only=request.app[LOOPBACK_ONLY])
    return caller


def refuse_unknown_parameters(route: Route, query: Iterable[str]) -> None:
    """Raise ``RequestError`` if the query has a parameter that the route lacks: ignoring it would hide a mistake."""
    known = [parameter.name for parameter in route.parameters if parameter.place == "query"]
    unknown = [name for name in dict.fromkeys(query) if name not in known]
    if unknown:
        shown = ", ".join(repr(name[:40]) for name in unknown[:MAX_SHOWN_PARAMETERS])
        raise RequestError(
            f"{route.method} {route.path} has no query parameter {shown}.",
            f"It accepts: {', '.join(known)}." if known else "It accepts none: remove the query string.",
        )
