"""The table of the web page's routes. They are not part of the API: what they answer may change with any release.

Each page has its JSON beside it: the answer of the endpoint that has the same facts, for who is signed in by a cookie.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from aiohttp import web

from dagferry_core.protocol import BEFORE, FROM, LIMIT, TO
from dagferry_core.tokens import Scope
from dagferry_server.errors import RouteNotFound
from dagferry_server.http.deploy_routes import DEPLOY_ROUTES
from dagferry_server.http.handlers.deployments import deployments as deployments_json
from dagferry_server.http.handlers.deploys import deploy as deploy_json
from dagferry_server.http.handlers.deploys import deploys as deploys_json
from dagferry_server.http.handlers.diff import diff as diff_json
from dagferry_server.http.handlers.status import status as status_json
from dagferry_server.http.request_context import RequestContext
from dagferry_server.http.routing import Handler, Parameter, Route

if TYPE_CHECKING:
    from dagferry_server.web.site import Site

View = Callable[["Site", RequestContext], Awaitable[web.StreamResponse]]
HTML = ("text/html",)
JSON = ("application/json",)
ONE = "/-/ui/deployments/{deployment}"


def is_installed() -> bool:
    """Return whether the libraries of the web page are there."""
    return all(find_spec(name) for name in ("jinja2", "pygments"))


def page_routes(site: "Site") -> tuple[Route, ...]:
    """Return the routes of the web page."""
    # Imported here, because a server without the extra must start.
    from dagferry_server.web.views import deployment, deployments, deploys, freeze, guide, rollback, session  # noqa: PLC0415

    def page(path: str, scope: Scope | Literal["any"] | None, view: View, summary: str, *query: str) -> Route:
        return _route(path, scope, partial(view, site), summary, *query)

    def json(path: str, scope: Scope | Literal["any"], handler: Handler, *query: str) -> Route:
        return _route(path, scope, handler, "The facts of a page, as JSON.", *query)._replace(answer=JSON)

    def form(path: str, scope: Scope | Literal["any"] | None, view: View, summary: str) -> Route:
        return _route(path, scope, partial(view, site), summary)._replace(method="POST")

    def _route(path: str, scope: Scope | Literal["any"] | None, handler: Handler, summary: str, *query: str) -> Route:
        return Route(
            method="GET",
            path=path,
            scope=scope,
            handler=handler,
            summary=summary,
            answer=HTML,
            parameters=tuple(Parameter(name, "query", "") for name in query),
            pages=site,
        )

    rollback_errors = next(route.errors for route in DEPLOY_ROUTES if route.kind == "rollback")
    return (
        page("/", None, deployments.home, "Leads to the first page."),
        page("/-/ui", None, deployments.home_from_below, "Leads to the first page."),
        page("/-/ui/", "any", deployments.deployments, "The deployments that the visitor may see."),
        json("/-/ui/json/deployments", "any", deployments_json),
        page(ONE, "read", deployment.deployment, "A deployment: what is live, its pods, its deploys.", "pod", "state"),
        page(
            "/-/ui/live/{deployment}",
            "read",
            deployment.live,
            "Its parts that change; given the status last seen, waits for another one.",
            "pod",
            "state",
        )._replace(not_modified=True),
        json(f"{ONE}/json/status", "read", status_json)._replace(not_modified=True),
        page(f"{ONE}/deploys", "read", deploys.history, "The deploy log, newest first, in pages.", BEFORE),
        json(f"{ONE}/json/deploys", "read", deploys_json, LIMIT, BEFORE),
        page(f"{ONE}/deploys/{{version}}", "read", deploys.deploy, "One deploy, and what it changed.", "first", "path"),
        json(f"{ONE}/json/deploys/{{version}}", "read", deploy_json),
        page(f"{ONE}/diff", "read", deploys.compare, "What differs between two versions.", FROM, TO, "first", "path"),
        json(f"{ONE}/json/diff", "read", diff_json, FROM, TO),
        page(deploys.FILE_PATH, "read", deploys.raw_file, "One file of a version, to be saved.")._replace(
            answer=("text/plain",), sends_content=True
        ),
        page(f"{ONE}/refusals", "read", guide.refusals, "The deploys that this server refused lately."),
        json(f"{ONE}/json/refusals", "read", guide.refusals_json),
        page(f"{ONE}/guide", "read", guide.guide, "How to deploy, and the limits in effect."),
        json(f"{ONE}/json/limits", "read", guide.limits_json),
        page(f"{ONE}/rollback", "deploy", rollback.confirm, "What a rollback would change.", TO, "under", "first"),
        form(f"{ONE}/rollback", "deploy", rollback.rollback, "Rolls back.")._replace(
            errors=rollback_errors, kind="rollback"
        ),
        form(f"{ONE}/freeze", "admin", freeze.freeze, "Freezes a deployment, or lifts its freeze."),
        page("/-/ui/sign-in", None, session.sign_in_page, "The form to sign in with a token."),
        form("/-/ui/sign-in", None, session.sign_in, "Signs in."),
        form("/-/ui/sign-out", "any", session.sign_out, "Signs out."),
        page("/-/ui/static/{name}", None, _asset, "The style and the script of the pages.", "v")._replace(
            answer=("text/css", "text/javascript", "image/svg+xml")
        ),
        page("/-/ui/{path}", None, _missing, "Any other page: there is none."),
    )


async def _asset(site: "Site", context: RequestContext) -> web.StreamResponse:
    found = site.asset_response(context.request.match_info["name"], context.request.query.get("v", ""))
    return found or await _missing(site, context)


async def _missing(site: "Site", context: RequestContext) -> web.StreamResponse:  # noqa: ARG001 - as all views
    raise RouteNotFound("There is no such page.", "Go to the first page, and follow its links.")


def documented(site: "Site") -> list[tuple[str, str, str]]:
    """Return route, scope and summary of every page, for the docs."""
    return [(f"`{route.method} {route.path}`", route.scope or "", route.summary) for route in page_routes(site)]
