"""What every request goes through, and what every answer has."""

import logging

import pytest

from credentials import TokensFile
from dagferry_core.errors import Forbidden
from dagferry_server import app
from dagferry_server.routes import ROUTES
from harness import pack
from running import A


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "route_not_found"),
        ("GET", "/default/dags/none", 404, "route_not_found"),
        ("DELETE", "/default/dags/current", 405, "method_not_allowed"),
        ("PUT", "/default/dags/upload", 405, "method_not_allowed"),
        ("GET", "/other/dags/current", 404, "deployment_not_found"),
        ("POST", "/other/dags/upload", 404, "deployment_not_found"),
        ("GET", "/default/dags/download", 404, "nothing_deployed"),
        ("GET", "/default/dags/versions/x", 400, "request_invalid"),
    ],
)
async def test_an_error_is_json_of_the_one_table(server, method, path, status, code) -> None:
    answer = await server.call(method, path)
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/json")
    assert answer.json["code"] == code
    assert answer.json["message"]
    assert answer.json["hint"]


async def test_405_names_the_allowed_methods(server) -> None:
    assert (await server.call("DELETE", "/default/dags/current")).headers["Allow"] == "GET"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_no_answer_may_be_cached(server, route) -> None:
    path = route.path.replace("{deployment}", "default").replace("{version}", "20200101T000000Z-000001")
    for body in (b"", pack(A)):
        answer = await server.call(route.method, path, data=body if route.method == "POST" else None)
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Python" not in answer.headers["Server"]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_the_caller_is_decided_once_before_the_body_and_the_store(server, monkeypatch, route) -> None:
    asked = []

    def nobody(scope, deployment, caller) -> None:
        asked.append((scope, deployment))
        raise Forbidden("No.")

    monkeypatch.setattr(app, "decide", nobody)
    monkeypatch.setattr(server.service, "store", None)
    path = route.path.replace("{deployment}", "default").replace("{version}", "20200101T000000Z-000001")
    answer = await server.call(route.method, path, data=pack(A) if route.method == "POST" else None)
    assert (answer.status, answer.json["code"]) == (403, "forbidden")
    assert asked == [(route.scope, "default" if route.scope else "")]


async def test_a_defect_is_500_without_details(server, monkeypatch, caplog) -> None:
    def defect(*arguments: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(server.service.metrics, "render", defect)
    answer = await server.get("/metrics")
    assert (answer.status, answer.json["code"]) == (500, "internal")
    assert b"secret" not in answer.body
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.fields == {"method": "GET", "path": "/metrics"}


async def test_a_wrong_deployment_is_told_which_ones_there_are_unless_somebody_may_not_know(start, tmp_path) -> None:
    server = await start("--deployments", "staging,default")
    told = (await server.get("/prod/dags/current")).json
    assert told["message"] == "There is no deployment 'prod' on this server. It has: default, staging."
    await server.close()
    tokens = TokensFile(tmp_path / "tokens.toml")
    secret = tokens.add("ci", ["read"], ["other"])
    server = await start("--tokens-file", str(tokens.path))
    told = (await server.get("/prod/dags/current", Authorization=secret)).json
    assert "It has" not in told["message"]
