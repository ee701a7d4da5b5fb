"""What every request goes through, and what every answer has."""

import asyncio
import logging

import pytest

from dagferry_server.deploys.request import DeployRequest
from dagferry_server.http.routes import ROUTES
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
    assert (await server.call("DELETE", "/default/dags/current")).headers["Allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_no_answer_may_be_cached(server, route) -> None:
    path = route.path.replace("{deployment}", "default").replace("{version}", "20200101T000000Z-000001")
    path = path.replace("{name}", "default").replace("{id}", "c" * 32)
    for body in (b"", pack(A)):
        answer = await server.call(route.method, path, data=body if route.method == "POST" else None)
        assert answer.headers["Cache-Control"] == "no-store, no-transform"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Python" not in answer.headers["Server"]


@pytest.mark.parametrize("route", [route for route in ROUTES if route.method == "GET"], ids=lambda route: route.path)
async def test_head_has_the_headers_of_get_and_no_body(server, route) -> None:
    version = (await server.deploy({**A, "big.txt": bytes(range(256)) * 1000}))["version"]
    path = route.path.replace("{deployment}", "default").replace("{version}", version)
    path = path.replace("{path}", "big.txt")
    if "{id}" in path:
        deployment = server.service.deployments["default"]
        current = deployment.current_deploy()
        add = server.service.checks.add
        candidate = await asyncio.to_thread(add, deployment, current.digest, DeployRequest("ann"))
        path = path.replace("{id}", candidate.id)
    get, head = await server.get(path), await server.call("HEAD", path)
    assert (head.status, head.body) == (get.status, b"") == (200, b"")
    # What changes between two answers in any case, and how the body that HEAD does not have is framed.
    changing = {"Date", "Transfer-Encoding", *({"Content-Length"} if route.path == "/metrics" else ())}
    assert {name: value for name, value in head.headers.items() if name not in changing} == {
        name: value for name, value in get.headers.items() if name not in changing
    }


async def test_head_of_a_download_leaves_the_connection_usable(server) -> None:
    await server.deploy(A)
    for _ in range(2):
        assert (await server.call("HEAD", "/default/dags/download")).status == 200
        assert (await server.get("/healthz")).json == {"status": "ok"}


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", "DELETE, GET, HEAD, OPTIONS, POST"),
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/default/dags/upload", "OPTIONS, POST"),
        ("/default/dags/freeze", "DELETE, OPTIONS, POST"),
        ("/-/deployments/preview-1", "DELETE, OPTIONS, POST"),
        ("/-/deployments", "GET, HEAD, OPTIONS"),
        ("/-/whoami", "GET, HEAD, OPTIONS"),
        ("/never/dags/current", "GET, HEAD, OPTIONS"),
    ],
)
async def test_options_lists_the_methods(server, path, allowed) -> None:
    answer = await server.call("OPTIONS", path)
    assert (answer.status, answer.headers["Allow"], answer.body) == (204, allowed, b"")


async def test_options_of_no_path_is_404(server) -> None:
    assert (await server.call("OPTIONS", "/neverwas")).status == 404


@pytest.mark.parametrize("line", ["OPTIONS / HTTP/1.0", "GET /healthz HTTP/1.0", "HEAD /healthz HTTP/1.0"])
async def test_health_checks_of_http_1_0_without_host_are_answered(server, line) -> None:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(f"{line}\r\n\r\n".encode())
    status = (await reader.readline()).split()[1]
    writer.close()
    assert status in {b"200", b"204"}


async def test_a_defect_is_500_without_details(server, monkeypatch, caplog) -> None:
    def defect(*arguments: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(server.service.metrics, "render", defect)
    answer = await server.get("/metrics")
    assert (answer.status, answer.json["code"]) == (500, "internal")
    assert b"secret" not in answer.body
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.fields == {"method": "GET", "path": "/metrics"}
