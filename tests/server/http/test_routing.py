"""How a request finds its route."""

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from yarl import URL

from dagferry_core.protocol import DEPLOYMENT_PATH
from dagferry_server.auth.access import ANY, SCOPES
from dagferry_server.http.astro_routes import astro_routes
from dagferry_server.http.peer_routes import PEER_ROUTES
from dagferry_server.http.routes import ROUTES, documented
from dagferry_server.http.routing import Route, add_routes, allowed_methods, find_route


async def nothing(request: web.Request) -> web.Response:
    return web.Response()


async def found(method: str, path: str) -> tuple[Route | None, web.Request]:
    """The route that a request finds, and the request."""
    app = web.Application()
    add_routes(app, ROUTES, lambda _: nothing, nothing)
    request = make_mocked_request(method, "/", app=app).clone(rel_url=URL.build(path=path, encoded=True))
    request._match_info = await app.router.resolve(request)
    request._match_info.add_app(app)
    return find_route(request), request


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_every_route_is_found_by_its_own_path(route) -> None:
    path = (
        route.path.replace("{deployment}", "prod")
        .replace("{version}", "v")
        .replace("{name}", "prod")
        .replace("{id}", "c")
    )
    for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
        at, request = await found(method, path)
        assert at is route
        assert request.match_info.get("deployment") == ("prod" if "{deployment}" in route.path else None)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "//dags/current",
        "/prod//current",
        "/prod/dags/current/",
        "/prod/dags",
        "/prod/DAGS/current",
        "/prod/dags/versions/",
        "/prod/dags/versions/a/b",
        "/healthz/",
        "/prod/dags/current%0a",
        "/prod%0a",
        "/prod/dags%2Fcurrent",
        "/%70rod/dags/current",
        "/prod/dags/%63urrent",
        "/prod/dags/versions/%2e%2E",
        "/prod/dags/versions/%5f%7E%39",
    ],
)
async def test_anything_else_is_not_there(path) -> None:
    at, request = await found("GET", path)
    assert at is None
    assert allowed_methods(request) == ""


@pytest.mark.parametrize(
    ("segment", "version"),
    [("a%2Fb", "a/b"), ("a%2fb", "a/b"), ("a%25b", "a%b"), ("a%20b", "a b"), ("a%0Ab", "a\nb"), ("a%FF", "a%FF")],
)
async def test_what_has_to_be_encoded_is_decoded_after_the_path_was_split(segment, version) -> None:
    at, request = await found("GET", f"/prod/dags/versions/{segment}")
    assert at is not None
    assert at.path == "/{deployment}/dags/versions/{version}"
    assert request.match_info["version"] == version


@pytest.mark.parametrize("name", ["deployments", "whoami", "dags", "upload", "freeze", "healthz", "metrics"])
async def test_a_deployment_may_have_the_name_of_anything_else(name) -> None:
    for method, end in (("GET", "current"), ("POST", "upload"), ("POST", "freeze"), ("DELETE", "freeze")):
        at, request = await found(method, f"/{name}/dags/{end}")
        assert at is not None
        assert (at.path, request.match_info["deployment"]) == (f"/{{deployment}}/dags/{end}", name)
    at, request = await found("DELETE", f"/-/deployments/{name}")
    assert (at and at.path, request.match_info["name"]) == (DEPLOYMENT_PATH, name)


async def test_the_error_for_a_wrong_method_lists_the_right_ones() -> None:
    for method in ("GET", "OPTIONS", "MKCOL"):
        at, request = await found(method, "/prod/dags/upload")
        assert at is None
        assert allowed_methods(request) == "OPTIONS, POST"


def test_a_route_with_a_deployment_has_a_scope_and_the_others_are_for_the_admin() -> None:
    for route in ROUTES:
        names_one = "{deployment}" in route.path or route.implied_deployment or route.path == DEPLOYMENT_PATH
        of_no_deployment = route.path.startswith("/-/") and not names_one
        assert (route.scope in SCOPES) == names_one
        assert (route.scope == ANY) == of_no_deployment
        assert route.admin == (not names_one and not of_no_deployment)


def test_on_the_public_listener_only_healthz_needs_no_scope() -> None:
    assert [route.path for route in ROUTES if route.public and route.scope is None] == ["/healthz"]


def test_the_documented_table_has_every_route() -> None:
    assert len(documented()) == len(ROUTES) + len(astro_routes("/astro")) + len(PEER_ROUTES)
    assert all(summary for *_, summary in documented())
