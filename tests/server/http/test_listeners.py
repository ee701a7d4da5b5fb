"""How the server listens, and how it ends."""

import asyncio

import aiohttp
import pytest

from dagferry_core.errors import SetupError
from dagferry_server.http import listeners
from harness import pack
from running import A, eventually


async def slowly(release: asyncio.Event):
    body = pack(A)
    yield body[:10]
    await release.wait()
    yield body[10:]


async def test_what_is_being_received_is_finished_and_deployed(server) -> None:
    release = asyncio.Event()
    upload = asyncio.create_task(server.upload(slowly(release)))
    await eventually("the upload to begin", lambda: server.state.busy._count)
    closing = asyncio.create_task(server.listeners.close())
    await eventually("the end to begin", lambda: server.service.stopping)
    release.set()
    answer = await upload
    assert (answer.status, answer.headers["Connection"]) == (200, "close")
    await closing
    assert server.service.deployments["default"].current is not None


async def test_who_waits_is_answered_at_once(server) -> None:
    path = "/default/dags/current"
    waiters = [asyncio.create_task(server.get(path, If_None_Match='"none"', Prefer="wait=50")) for _ in range(20)]
    await eventually("the waiters", lambda: len(server.service.deployments["default"].waiters) == 20)
    await asyncio.wait_for(server.listeners.close(), 20)
    for answer in await asyncio.gather(*waiters):
        assert (answer.status, answer.headers["Connection"]) == (304, "close")


async def test_new_connections_are_refused_and_open_ones_take_no_uploads(server) -> None:
    release = asyncio.Event()
    await server.get("/healthz")
    upload = asyncio.create_task(server.upload(slowly(release)))
    await eventually("the upload to begin", lambda: server.state.busy._count)
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
    closing = asyncio.create_task(server.listeners.close())
    await eventually("the end to begin", lambda: server.service.stopping)
    writer.write(b"POST /default/dags/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx")
    assert b"503 Service Unavailable" in (told := await reader.read())
    assert b"shutting_down" in told
    writer.close()
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"http://{server.host}:{server.port}/healthz")
    release.set()
    assert (await upload).status == 200
    await closing


async def test_a_request_that_takes_too_long_is_aborted_and_changes_nothing(server, monkeypatch, caplog) -> None:
    monkeypatch.setattr(listeners, "SHUTDOWN_SECONDS", 0.05)
    upload = asyncio.create_task(server.upload(slowly(asyncio.Event())))
    await eventually("the upload to begin", lambda: server.state.busy._count)
    await server.listeners.close()
    with pytest.raises(aiohttp.ClientError):
        await upload
    await asyncio.wait_for(server.service.close(), 20)
    assert server.service.deployments["default"].current is None
    assert any(record.message == "Requests aborted" for record in caplog.records)


async def test_an_address_in_use_is_said_in_one_line(server, start) -> None:
    message = f"^Cannot listen on 127.0.0.1:{server.port}: address already in use.$"
    with pytest.raises(SetupError, match=message):
        await start("--listen", f"127.0.0.1:{server.port}", "--data-dir", f"{server.service.folder.root}-2")


@pytest.mark.parametrize(
    "request_line", [b"nonsense\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01"]
)
async def test_what_is_no_http_is_400_and_no_noise(server, request_line, caplog) -> None:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(request_line + b"\r\n\r\n")
    answer = await reader.read()
    assert b" 400 " in answer
    assert b'"code":"request_invalid"' in answer
    writer.close()
    assert caplog.records == []


@pytest.mark.parametrize(
    "sent",
    [
        "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer CANARY" + "x" * 9000 + "\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n" + "CANARY" * 2000 + ": x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: CANARY\x00\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nCANARY x: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: CANARY\r\n\r\n",
        "GET http://CANARY:99999/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /" + "CANARY" * 2000 + " HTTP/1.1\r\nHost: x\r\n\r\n",
        "CANARY / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / CANARY\r\n\r\n",
    ],
)
async def test_nothing_of_what_is_no_http_is_said_back_or_logged(server, sent, caplog) -> None:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(sent.encode())
    answer = await reader.read()
    writer.close()
    assert b" 400 " in answer
    assert b"The request is not valid HTTP: " in answer
    assert b"CANARY" not in answer
    assert caplog.records == []
