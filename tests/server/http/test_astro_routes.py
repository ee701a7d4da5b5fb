"""The endpoint of the ``astro`` CLI is there only if it is configured, and then like any other endpoint."""

import json

import pytest

from dagferry_server.http.astro_routes import astro_routes
from dagferry_server.http.openapi import describe
from dagferry_server.http.routes import ROUTES, documented


def test_without_the_setting_there_is_none() -> None:
    assert astro_routes(None) == ()


async def test_without_the_setting_nothing_answers(start) -> None:
    server = await start("--deployments", "astro")
    for method, path in (("POST", "/astro"), ("GET", "/astro/token"), ("GET", "/astro")):
        answer = await server.call(method, path, json={"query": "{ appConfig { version } }"})
        assert (answer.status, answer.json["code"]) == (404, "route_not_found")
    assert "/astro" not in (await server.get("/openapi.json")).json["paths"]


async def test_with_it_a_deployment_of_the_same_name_works_as_before(start) -> None:
    server = await start("--deployments", "astro", "--astro-cli", "/astro")
    version = (await server.deploy({"a.py": b"import airflow\n"}, "astro"))["version"]
    assert (await server.get("/astro/dags/current")).json["version"] == version
    asked = await server.call("POST", "/astro", json={"query": "{ workspaceDeployments { id } }"})
    assert [row["id"] for row in asked.json["data"]["workspaceDeployments"]] == ["astro"]


async def test_it_is_on_the_public_listener_only_whatever_its_path(start) -> None:
    server = await start("--astro-cli", "/v1/houston", "--admin-listen", "127.0.0.1:0")
    assert (await server.get("/v1/houston/token")).status == 200
    assert (await server.get(f"http://127.0.0.1:{server.admin_port}/v1/houston/token")).status == 404


async def test_other_methods_are_refused_and_named(start) -> None:
    server = await start("--astro-cli", "/astro")
    for path, method, allowed in (("/astro", "GET", "OPTIONS, POST"), ("/astro/token", "POST", "GET, HEAD, OPTIONS")):
        answer = await server.call(method, path)
        assert (answer.status, answer.json["code"]) == (405, "method_not_allowed")
        assert answer.headers["Allow"] == allowed


async def test_it_is_described_where_it_is_served(start) -> None:
    server = await start("--astro-cli", "/astro")
    described = (await server.get("/openapi.json")).json
    assert described == json.loads(json.dumps(describe((*ROUTES, *astro_routes("/astro")))))
    assert described["paths"]["/astro"]["post"]["security"] == []
    schema = described["components"]["schemas"]["AstroAnswer"]
    assert set(schema["properties"]) == {"data", "errors"}


@pytest.mark.parametrize("endpoint", ["`POST /astro`", "`GET /astro/token`"])
def test_the_docs_say_that_it_depends_on_the_setting(endpoint: str) -> None:
    (row,) = [row for row in documented() if row[0] == endpoint]
    assert row[3].endswith("only with --astro-cli.")
