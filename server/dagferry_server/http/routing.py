"""The shape of the table of routes, and how aiohttp's router gets it."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Literal, NamedTuple

from aiohttp import hdrs, web
from pydantic import BaseModel

from dagferry_core.errors import DagferryError
from dagferry_server.auth.access import Scope
from dagferry_server.http.request_context import RequestContext

Handler = Callable[[RequestContext], Awaitable[web.StreamResponse]]
RawHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Parameter(NamedTuple):
    """A parameter of the query or a header, for the spec."""

    name: str
    place: Literal["query", "header"]
    description: str
    kind: Literal["string", "integer"] = "string"


class Route(NamedTuple):
    """One endpoint: what it answers, which errors it may answer with, who may use it, and who handles it.

    ``answer`` is the model of its JSON, or the media types of what it sends. ``implied_deployment`` routes have a
    deployment that their path does not name. ``admin`` routes are on the admin listener. ``sends_content`` are
    those that send what somebody deployed.
    """

    method: Literal["GET", "POST"]
    path: str
    scope: Scope | None
    handler: Handler
    summary: str
    answer: type[BaseModel] | tuple[str, ...]
    errors: tuple[type[DagferryError], ...] = ()
    parameters: tuple[Parameter, ...] = ()
    implied_deployment: bool = False
    admin: bool = False
    public: bool = True
    not_modified: bool = False
    takes_file: bool = False
    sends_content: bool = False


Routes = Mapping[tuple[str, str], Route]
"""Routes by method and path; HEAD has those of GET (RFC 9110 §9.3.2)."""

_ENCODED_UNRESERVED = re.compile("%(?:2[de]|3[0-9]|[46][1-9a-f]|[57][0-9a]|5f|7e)", re.IGNORECASE)
"""A letter, digit, ``-``, ``.``, ``_`` or ``~`` (RFC 3986 §2.3) in percent-encoding."""

ROUTES_KEY = web.AppKey("ROUTES_KEY", Routes)
"""Where an application keeps the routes that it has."""
ROUTE = web.RequestKey("ROUTE", Route)
"""The route that a request found, if there is one for its method and path."""


def add_routes(
    app: web.Application, routes: Iterable[Route], endpoint: Callable[[Route], RawHandler], otherwise: RawHandler
) -> None:
    """Give ``app`` each route with its ``endpoint``, and ``otherwise`` for every other method and path.

    No route says "100 Continue" by itself: a client that waits for that is let send its body by the endpoint.
    """
    by_path: dict[str, list[Route]] = {}
    for route in routes:
        by_path.setdefault(route.path, []).append(route)
    table: dict[tuple[str, str], Route] = {}
    for path, group in by_path.items():
        # One after the other, so that they share what aiohttp matches with a path.
        for route in group:
            handler = endpoint(route)
            for method in (hdrs.METH_GET, hdrs.METH_HEAD) if route.method == hdrs.METH_GET else (route.method,):
                table[method, path] = route
                app.router.add_route(method, path, handler, expect_handler=_say_nothing)
        app.router.add_route(hdrs.METH_ANY, path, otherwise, expect_handler=_say_nothing)
    app.router.add_route(hdrs.METH_ANY, "/{path:(?s:.*)}", otherwise, expect_handler=_say_nothing)
    app[ROUTES_KEY] = table


async def _say_nothing(_: web.Request) -> None:
    pass


def find_route(request: web.Request) -> Route | None:
    """Return the route for a request's method and path, ``None`` if there is none, by what aiohttp's router found."""
    found = request.match_info.route
    if found.resource is None or _is_respelled(request):
        return None
    return request.app[ROUTES_KEY].get((found.method, found.resource.canonical))


def allowed_methods(request: web.Request) -> str:
    """Return the methods of a request's path, as the header ``Allow`` lists them; empty if there is no such path."""
    resource = request.match_info.route.resource
    if resource is None or _is_respelled(request):
        return ""
    methods = {method for method, path in request.app[ROUTES_KEY] if path == resource.canonical}
    return ", ".join(sorted({*methods, hdrs.METH_OPTIONS})) if methods else ""


def _is_respelled(request: web.Request) -> bool:
    """Return whether the path encodes what needs no encoding, as in ``/%70rod/dags/current``.

    Such a path leads nowhere: a proxy that guards ``/prod/`` may not see that it is the same.
    """
    path = request.rel_url.raw_path
    return "%" in path and _ENCODED_UNRESERVED.search(path) is not None
