"""Reads leave a trace: requests are counted, refusals are in the log within limits, content that leaves is audited."""

import asyncio
import os
from pathlib import Path

import pytest
from yarl import URL

from credentials import TokensFile
from dagferry_server import log_limit as loglimit
from harness import pack
from running import A, Running, eventually

CURRENT = "/default/dags/current"


def lines(caplog: pytest.LogCaptureFixture, message: str) -> list[dict[str, object]]:
    return [record.fields for record in caplog.records if record.message == message]


def counted(server: Running, route: str, status: str) -> float:
    return server.service.metrics.requests.labels(route, status)._value.get()


async def test_requests_are_counted_by_route_and_class_of_status(server) -> None:
    route = "/{deployment}/dags/"
    await server.deploy(A)
    await server.upload(b"junk")
    for path, headers in (
        ("/default/dags/current", {}),
        ("/default/dags/current", {"If_None_Match": "*"}),
        ("/other/dags/current", {}),
        ("/nothing", {}),
    ):
        await server.get(path, **headers)
    await server.call("DELETE", "/upload")
    for path in ("/healthz", "/"):
        await server.call("OPTIONS", path)
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"nonsense\r\n\r\n")
    await reader.read()
    writer.close()
    assert counted(server, route + "upload", "2xx") == 1
    assert counted(server, route + "upload", "4xx") == 1
    assert [counted(server, route + "current", status) for status in ("2xx", "3xx", "4xx", "5xx")] == [1, 1, 1, 0]
    assert counted(server, "", "4xx") == 3
    assert counted(server, "", "2xx") == 2
    assert await server.metric('requests_total{route="/{deployment}/dags/upload",status="2xx"}') == 1
    waiter = asyncio.create_task(server.get(CURRENT, If_None_Match="*", Prefer="wait=50"))
    await eventually("the waiter", lambda: len(server.service.deployments["default"].waiters))
    waiter.cancel()
    await eventually("it to be counted", lambda: counted(server, route + "current", "client_disconnected"))


async def test_sidecars_that_are_refused_are_visible_and_do_not_fill_the_log(start, tmp_path: Path, caplog) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    reader = tokens.add("ann", ["read"])
    server = await start("--tokens-file", str(tokens.path))
    for _ in range(5):
        for number in range(40):
            await server.get(CURRENT, Authorization="Bearer dgf_no", Dagferry_Instance=f"worker-{number}")
    await server.get(CURRENT, Authorization=reader)
    refused = lines(caplog, "Request refused")
    assert [(line["actor"], line["peer"], line["outcome"], line["instance"]) for line in refused] == [
        ("", "127.0.0.1", "credentials_refused", "worker-0"),
        ("token:ann", "127.0.0.1", "forbidden", ""),
    ]
    assert {(line["request"], line["deployment"]) for line in refused} == {
        ("GET /{deployment}/dags/current", "default")
    }
    assert counted(server, "/{deployment}/dags/current", "4xx") == 201
    server.state.rejected_reads.flush()
    (left,) = lines(caplog, "Requests refused")
    assert (left["caller"], left["outcome"], left["suppressed"], left["instances"]) == (
        "127.0.0.1", "credentials_refused", 199, 40,
    )  # fmt: skip
    assert str(left["first_instances"]).startswith("worker-0, worker-1, ")
    assert len(str(left["first_instances"])) < 300


async def test_unknown_clients_cannot_grow_what_is_remembered_or_logged(
    start, tmp_path: Path, caplog, monkeypatch
) -> None:
    caplog.set_level("WARNING")
    monkeypatch.setattr(loglimit, "MAX_KEYS", 20)
    monkeypatch.setattr("dagferry_server.http.rejected_reads.MAX_INSTANCES", 20)
    server = await start("--tokens-file", str(TokensFile(tmp_path / "tokens.toml").path))
    rejected = server.state.rejected_reads
    for number in range(10_000):
        rejected.log(f"10.0.{number // 256}.{number % 256}", "unauthenticated", f"made-up-{number}")
    assert len(caplog.records) == 21
    assert len(rejected._instances) <= 20
    assert len(rejected._limit._seen) == 21
    rejected.flush()
    (left,) = lines(caplog, "Requests refused")
    assert (left["caller"], left["suppressed"]) == ("(others)", 10_000 - 21)
    assert not rejected._instances


async def test_who_downloads_content_is_an_audit_line(start, tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    tokens = TokensFile(tmp_path / "tokens.toml")
    ci, pods = tokens.add("ci", ["deploy"]), tokens.add("pods", ["sync"])
    server = await start("--tokens-file", str(tokens.path))
    body = pack({**A, "noise": os.urandom(1_000_000)})
    version = (await server.call("POST", "/upload", headers={"Authorization": ci}, data=body)).json["version"]
    caplog.clear()
    await server.get("/default/dags/download", Authorization=ci)
    await server.get(f"/default/dags/versions/{version}", Authorization=pods)
    await server.get(f"/default/dags/versions/{version}/files/etl.py", Authorization=ci)
    for path in ("deploys", "diff", f"versions/{version}/files"):
        assert (await server.get(f"/default/dags/{path}", Authorization=ci)).status == 200
    await server.get(CURRENT, Authorization=pods)
    await server.get("/default/dags/download", Authorization=pods)
    reader, writer = await asyncio.open_connection(server.host, server.port, limit=1024)
    writer.write(f"GET /default/dags/download HTTP/1.1\r\nHost: x\r\nAuthorization: {ci}\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()
    await eventually("the last line", lambda: len(lines(caplog, "Audit")) == 4)
    assert [(line["request"], line["actor"], line["outcome"]) for line in lines(caplog, "Audit")] == [
        ("GET /{deployment}/dags/download", "token:ci", "ok"),
        ("GET /{deployment}/dags/versions/{version}", "token:pods", "ok"),
        ("GET /{deployment}/dags/versions/{version}/files/{path}", "token:ci", "ok"),
        ("GET /{deployment}/dags/download", "token:ci", "client_disconnected"),
    ]
    assert [line["outcome"] for line in lines(caplog, "Request refused")] == ["forbidden"]


@pytest.mark.parametrize("name", ["%0A", "a%C2%85b", "%E2%80%A8", "%05"])
async def test_a_name_that_is_no_name_is_on_one_line_of_the_log(server, caplog, name) -> None:
    await server.call("DELETE", URL(f"/-/deployments/{name}", encoded=True))
    (line,) = lines(caplog, "Audit")
    assert line["outcome"] == "deployment_not_found"
    assert str(line["deployment"]).isprintable()
    assert str(line["deployment"]).count("\\") == 1
