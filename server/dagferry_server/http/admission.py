"""The one place where a request is let in, or refused, by its first line and headers.

The body of a request is not read, and the store not touched, before its route, caller and deployment are known and in
order. So a stranger's upload costs nothing but the discarding of what arrives.
"""

from collections.abc import Iterable

from aiohttp import web

from dagferry_core.errors import RequestError
from dagferry_server.auth.access import authorize
from dagferry_server.auth.browser import refuse_web_pages
from dagferry_server.http.request_context import CALLER, SERVICE, RequestContext
from dagferry_server.http.routing import Route

LOOPBACK_ONLY = web.AppKey("LOOPBACK_ONLY", bool)
"""Whether nobody but this machine can reach an application's listener, and whoever does is let in."""
MAX_SHOWN_PARAMETERS = 5


async def admit(route: Route, request: web.Request) -> RequestContext:
    """Return what ``route``'s handler needs; raise what speaks against the request."""
    service = request.app[SERVICE]
    if route.implied_deployment:
        request.match_info["deployment"] = service.implied_deployment
    name = request.match_info.get("deployment")
    caller = None
    # A web page gets nothing at all of a server that anybody on this machine may use.
    if route.scope or not service.authenticator.auth_required:
        caller = await service.authenticator.authenticate(request.headers)
        if caller:
            request[CALLER] = caller
            if caller.by_browser:
                refuse_web_pages(request.headers, loopback_only=request.app[LOOPBACK_ONLY])
    authorize(route.scope, name or "", caller)
    refuse_unknown_parameters(route, request.query)
    target = None if name is None else service.deployment(name)
    return RequestContext(request, service, target, caller)


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
