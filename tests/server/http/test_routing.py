"""How a request finds its route."""

import pytest

from dagferry_server.errors import MethodNotAllowed, RouteNotFound
from dagferry_server.http.routes import ROUTES, documented
from dagferry_server.http.routing import Table

TABLE = Table(ROUTES)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_is_found_by_its_own_path(route) -> None:
    path = route.path.replace("{deployment}", "prod").replace("{version}", "v")
    found, parts = TABLE.match(route.method, path)
    assert found is route
    assert parts.get("deployment") == ("prod" if "{deployment}" in route.path else None)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "//dags/current",
        "/prod//current",
        "/prod/dags/current/",
        "/prod/dags",
        "/prod/DAGS/current",
        "/prod/dags/versions/",
        "/prod/dags/versions/a/b",
        "/healthz/",
    ],
)
def test_anything_else_is_not_there(path) -> None:
    with pytest.raises(RouteNotFound):
        TABLE.match("GET", path)


def test_the_wrong_method_is_told_the_right_one() -> None:
    with pytest.raises(MethodNotAllowed) as caught:
        TABLE.match("GET", "/prod/dags/upload")
    assert "POST" in caught.value.hint
    assert TABLE.allowed("/prod/dags/upload") == "OPTIONS, POST"


def test_a_route_with_a_deployment_has_a_scope_and_the_others_are_for_the_admin() -> None:
    for route in ROUTES:
        names_one = "{deployment}" in route.path or route.implied_deployment
        assert names_one == (route.scope is not None)
        assert names_one != route.admin


def test_on_the_public_listener_only_healthz_needs_no_scope() -> None:
    assert [route.path for route in ROUTES if route.public and route.scope is None] == ["/healthz"]


def test_the_documented_table_has_every_route() -> None:
    assert len(documented()) == len(ROUTES)
    assert all(summary for *_, summary in documented())
