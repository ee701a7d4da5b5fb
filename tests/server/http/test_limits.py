"""Limits against abuse: slow uploads, too many of them, too many who wait, headers that are too large."""

import asyncio
import contextlib

import pytest

from credentials import TokensFile
from dagferry_server.fleet import waiters
from dagferry_server.http import concurrency, listeners, upload_body
from dagferry_server.http.listeners import MAX_FIELD_BYTES, MAX_HEADERS, MAX_LINE_BYTES
from harness import pack
from running import A, B, eventually

HEAD = "POST /default/dags/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"


async def test_an_upload_that_comes_drop_by_drop_is_given_up(server, monkeypatch) -> None:
    monkeypatch.setattr(upload_body, "UPLOAD_GRACE_SECONDS", 0.05)
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(HEAD.encode())

    async def drip() -> None:
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.005)

    dripping = asyncio.create_task(drip())
    await eventually("the upload to begin", lambda: len(server.state.upload_slots))
    await eventually("the upload to be given up", lambda: not len(server.state.upload_slots))
    dripping.cancel()
    writer.write(b"x" * 1000)
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 503 " in head
    assert b"less than 1024 bytes a second" in await reader.readuntil(b"}")
    writer.close()


async def test_the_pace_asks_no_more_than_a_bad_line_has(server, monkeypatch) -> None:
    monkeypatch.setattr(upload_body, "UPLOAD_GRACE_SECONDS", 0.2)
    monkeypatch.setattr(upload_body, "MIN_UPLOAD_BYTES_PER_SECOND", 10)
    body = pack(A)

    async def slowly():
        for start in range(0, len(body), 20):
            yield body[start : start + 20]
            await asyncio.sleep(0.02)  # 1,000 bytes a second: longer than the grace, but fast enough

    assert (await server.upload(slowly())).status == 200


async def test_more_uploads_than_the_limit_get_503_with_retry_after(server, monkeypatch) -> None:
    monkeypatch.setattr(concurrency, "MAX_UPLOADS", 1)
    server.state.upload_slots = concurrency.uploads()
    release = asyncio.Event()
    body = pack(A)

    async def held():
        yield body[:10]
        await release.wait()
        yield body[10:]

    first = asyncio.create_task(server.upload(held()))
    await eventually("the upload to begin", lambda: len(server.state.upload_slots))
    second = await server.upload(body)
    assert (second.status, second.json["code"]) == (503, "too_many_uploads")
    assert int(second.headers["Retry-After"]) > 0
    release.set()
    assert (await first).status == 200
    assert (await server.upload(body)).status == 200


async def test_one_caller_cannot_keep_a_deployment_closed(start, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    slow, healthy = tokens.add("slow", ["deploy"]), tokens.add("ci", ["deploy"])
    server = await start("--tokens-file", str(tokens.path))
    writers = []
    for number in range(1, concurrency.MAX_UPLOADS + 1):
        _, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(HEAD.replace("Host:", f"Authorization: {slow}\r\nHost:").encode() + b"x")
        writers.append(writer)
        most = min(number, concurrency.MAX_UPLOADS_OF_CALLER)
        await eventually("the upload to begin", lambda most=most: len(server.state.upload_slots) == most)
    refused = await server.call("POST", "/default/dags/upload", headers={"Authorization": slow}, data=pack(A))
    assert (refused.status, refused.json["code"]) == (503, "too_many_uploads")
    assert "token:slow" in refused.json["message"]
    assert (
        await server.call("POST", "/default/dags/upload", headers={"Authorization": healthy}, data=pack(A))
    ).status == 200
    for writer in writers:
        writer.close()
    await eventually("the slow ones to be gone", lambda: not len(server.state.upload_slots))


async def test_one_caller_cannot_keep_others_from_rolling_back(start, tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    slow, healthy = tokens.add("slow", ["deploy"], prefixes=["team-a/"]), tokens.add("ci", ["deploy"])
    server = await start("--tokens-file", str(tokens.path))
    headers = {"Authorization": healthy}
    old, _ = [
        (await server.call("POST", "/default/dags/upload", headers=headers, data=pack(files))).json for files in (A, B)
    ]
    head = HEAD.replace("upload", "rollback").replace("Host:", f"Authorization: {slow}\r\nHost:")
    writers = []
    for number in range(1, concurrency.MAX_COPIES + 1):
        _, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(head.replace("Host:", "Content-Type: application/json\r\nHost:").encode() + b"{")
        writers.append(writer)
        most = min(number, concurrency.MAX_COPIES_OF_CALLER)
        await eventually("the rollback to begin", lambda most=most: len(server.state.copy_slots) == most)
    body = {"version": old["version"]}
    refused = await server.call("POST", "/default/dags/rollback", headers={"Authorization": slow}, json=body)
    assert (refused.status, refused.json["code"]) == (503, "too_many_uploads")
    assert "token:slow" in refused.json["message"]
    undone = await server.call("POST", "/default/dags/rollback", headers=headers, json=body)
    assert (undone.status, undone.json["digest"]) == (200, old["digest"])
    for writer in writers:
        writer.close()
    await eventually("the slow ones to be gone", lambda: not len(server.state.copy_slots))


async def test_a_request_beyond_the_limit_of_waiters_is_answered_at_once(server, monkeypatch) -> None:
    monkeypatch.setattr(waiters, "MAX_WAITERS", 1)
    path = "/default/dags/current"
    first = asyncio.create_task(server.get(path, If_None_Match='"none"', Prefer="wait=50"))
    await eventually("the first to wait", lambda: len(server.service.deployments["default"].waiters))
    assert (await server.get(path, If_None_Match='"none"', Prefer="wait=50")).status == 304
    assert not first.done()
    await server.deploy(A)
    assert (await first).status == 200


@pytest.mark.parametrize(
    "sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: "], ids=["nothing", "half a head"]
)
async def test_a_connection_on_which_nothing_is_asked_is_closed(monkeypatch, start, sent) -> None:
    monkeypatch.setattr(listeners, "KEEPALIVE_SECONDS", 0.2)
    server = await start()
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(sent)

    async def trickle() -> None:
        while True:
            writer.write(b"x" if sent else b"")
            await asyncio.sleep(0.01)

    trickling = asyncio.create_task(trickle())
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 20) == b""
    trickling.cancel()
    writer.close()


@pytest.mark.parametrize(
    "head",
    [
        "GET /" + "x" * 2 * MAX_LINE_BYTES + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + "x" * 2 * MAX_FIELD_BYTES + "\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + "X: y\r\n" * MAX_HEADERS + "\r\n",
    ],
    ids=["first line", "one header", "many headers"],
)
async def test_headers_have_limits(server, head) -> None:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(head.encode())
    answer = await asyncio.wait_for(reader.readuntil(b"}"), 20)
    assert b" 400 " in answer
    assert b"request_invalid" in answer
    writer.close()
