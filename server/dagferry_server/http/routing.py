"""What a route is, and how the table of routes is registered with aiohttp's router."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Literal, NamedTuple, Protocol

from aiohttp import hdrs, web
from pydantic import BaseModel

from dagferry_core.errors import DagferryError
from dagferry_core.tokens import Scope
from dagferry_server.auth.access import Caller
from dagferry_server.http.request_context import RequestContext

Handler = Callable[[RequestContext], Awaitable[web.StreamResponse]]
RawHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Parameter(NamedTuple):
    """A query parameter or a header, for the OpenAPI description."""

    name: str
    place: Literal["query", "header"]
    description: str
    kind: Literal["string", "integer"] = "string"


class Pages(Protocol):
    """What is different about the routes that people open in a browser: who asks, and how errors are shown."""

    async def identify(self, request: web.Request) -> Caller | None:
        """Return who sent a request, ``None`` if it has no credentials although the server requires them."""

    def reject(self, request: web.Request, error: DagferryError) -> web.Response:
        """Return the response for ``error``."""


class Route(NamedTuple):
    """One endpoint: who may use it, which handler answers, with which content, and with which errors.

    ``or_scope`` is another scope that is enough. ``answer`` is the model of the JSON response, or the media types
    of another response. ``implied_deployment`` routes have a deployment that their path does not name. ``admin``
    routes are on the admin listener, ``public`` routes on the public one. ``not_modified`` routes may answer 304.
    ``takes_file`` routes receive an upload; ``sends_content`` routes send deployed content. ``body`` is the model
    of a JSON body. The deployment of a route that ``creates`` it need not exist. ``kind`` is that of the deploys
    that a route makes. A POST that ``only_reads`` changes nothing that people have to know of: what pods report
    does not count. ``pages`` is what the routes of the web page share.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    scope: Scope | Literal["any"] | None
    handler: Handler
    summary: str
    answer: type[BaseModel] | tuple[str, ...]
    or_scope: Scope | None = None
    errors: tuple[type[DagferryError], ...] = ()
    parameters: tuple[Parameter, ...] = ()
    implied_deployment: bool = False
    admin: bool = False
    public: bool = True
    not_modified: bool = False
    takes_file: bool = False
    sends_content: bool = False
    body: type[BaseModel] | None = None
    creates: bool = False
    kind: str = ""
    only_reads: bool = False
    pages: Pages | None = None

    @property
    def is_read(self) -> bool:
        """Whether its requests change nothing: they may be cut off, and the audit log has only those refused."""
        return self.only_reads or self.method == hdrs.METH_GET


Routes = Mapping[tuple[str, str], Route]
"""Routes by method and path template; HEAD has the routes of GET (RFC 9110 §9.3.2)."""

_ENCODED_UNRESERVED = re.compile("%(?:2[de]|3[0-9]|[46][1-9a-f]|[57][0-9a]|5f|7e)", re.IGNORECASE)
"""A percent-encoded letter, digit, ``-``, ``.``, ``_`` or ``~`` (RFC 3986 §2.3)."""

_ANY_PATH = "{path:(?s:.+)}"
"""``{path}`` of a route as aiohttp wants it: any characters, slashes and newlines too."""

ROUTES_KEY = web.AppKey("ROUTES_KEY", Routes)
"""The routes of an application."""
ROUTE = web.RequestKey("ROUTE", Route)
"""The route of a request, if there is one for its method and path."""


def add_routes(
    app: web.Application, routes: Iterable[Route], endpoint: Callable[[Route], RawHandler], otherwise: RawHandler
) -> None:
    """Register each route with its ``endpoint``, and ``otherwise`` for every other method and path.

    aiohttp would send ``100 Continue`` for all of them before a middleware runs. None does: handlers send it, once
    the request is admitted.
    """
    by_path: dict[str, list[Route]] = {}
    for route in routes:
        by_path.setdefault(route.path, []).append(route)
    table: dict[tuple[str, str], Route] = {}
    for path, group in by_path.items():
        pattern = path.replace("{path}", _ANY_PATH)
        # Routes of one path are added in a row, so that they share one resource of aiohttp.
        for route in group:
            handler = endpoint(route)
            for method in (hdrs.METH_GET, hdrs.METH_HEAD) if route.method == hdrs.METH_GET else (route.method,):
                table[method, path] = route
                app.router.add_route(method, pattern, handler, expect_handler=_send_no_continue)
        app.router.add_route(hdrs.METH_ANY, pattern, otherwise, expect_handler=_send_no_continue)
    app.router.add_route(hdrs.METH_ANY, "/{path:(?s:.*)}", otherwise, expect_handler=_send_no_continue)
    app[ROUTES_KEY] = table


async def _send_no_continue(_: web.Request) -> None:
    pass


def find_route(request: web.Request) -> Route | None:
    """Return the route for a request's method and path, ``None`` if there is none, as aiohttp's router matched it."""
    found = request.match_info.route
    if found.resource is None or _is_overencoded(request):
        return None
    return request.app[ROUTES_KEY].get((found.method, found.resource.canonical))


def allowed_methods(request: web.Request) -> str:
    """Return the methods of a request's path, as in the header ``Allow``; empty if there is no such path."""
    resource = request.match_info.route.resource
    if resource is None or _is_overencoded(request):
        return ""
    methods = {method for method, path in request.app[ROUTES_KEY] if path == resource.canonical}
    return ", ".join(sorted({*methods, hdrs.METH_OPTIONS})) if methods else ""


def _is_overencoded(request: web.Request) -> bool:
    """Return whether the path percent-encodes characters that need no encoding, as in ``/%70rod/dags/current``.

    Such a path has no route: a proxy that protects ``/prod/`` may not recognize it.
    """
    path = request.rel_url.raw_path
    return "%" in path and _ENCODED_UNRESERVED.search(path) is not None
