"""A client that closes its half of the connection after its request gets its answer."""

import asyncio
import socket

import pytest

from harness import pack
from running import A, B, Running, eventually


def post(body: bytes, path: str = "/default/dags/upload") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


async def half_closed(server: Running, sent: bytes, *, at_once: bool) -> bytes:
    """All that comes back to a client that sends this and closes its half, with the last bytes or a moment later."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    if at_once:
        # Until it is uncorked, the kernel keeps the end back and sends it with the FIN.
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    writer.write(sent)
    if not at_once:
        await writer.drain()
        await asyncio.sleep(0.001)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return answer


@pytest.fixture(params=[True, False], ids=["at once", "a moment later"])
def at_once(request) -> bool:
    return request.param


async def test_whole_uploads_are_deployed_and_answered(server, at_once) -> None:
    for number, files in enumerate((A, B, {**A, "large": bytes(range(256)) * 10_000}), 1):
        answer = await half_closed(server, post(pack(files)), at_once=at_once)
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        assert b'"sequence":%d' % number in answer


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/default/dags/current", b"200"),
        ("/default/dags/deploys", b"200"),
        ("/default/dags/download", b"200"),
        ("/default/dags/versions/{}", b"200"),
        ("/healthz", b"200"),
        ("/metrics", b"200"),
        ("/nothing", b"404"),
    ],
)
async def test_whole_reads_are_answered(server, at_once, path, status) -> None:
    version = (await server.deploy({**A, "large": bytes(range(256)) * 10_000}))["version"]
    answer = await half_closed(server, get(path.format(version)), at_once=at_once)
    assert answer.split()[1] == status
    await eventually("the connection to be closed", lambda: server.connections() <= 1)


async def test_all_of_several_requests_are_answered(server, at_once) -> None:
    sent = get("/healthz") + post(pack(A)) + get("/default/dags/current")
    answer = await half_closed(server, sent, at_once=at_once)
    assert answer.count(b"HTTP/1.1 200 ") == 3
    assert b'"sequence":1' in answer.rpartition(b"HTTP/1.1")[2]
    await eventually("the connection to be closed", lambda: not server.connections())


async def test_who_waits_and_closes_its_half_has_hung_up(server, at_once) -> None:
    version = (await server.deploy(A))["version"]
    waits = get("/default/dags/current", f'If-None-Match: "{version}"', "Prefer: wait=50")
    assert await half_closed(server, waits, at_once=at_once) == b""
    assert len(server.service.deployments["default"].waiters) == 0
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(waits)
    await eventually("the waiter", lambda: len(server.service.deployments["default"].waiters))
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 20) == b""
    assert len(server.service.deployments["default"].waiters) == 0
    writer.close()


async def test_a_request_for_a_change_that_happened_already_is_answered_at_once(server, at_once) -> None:
    await server.deploy(A)
    waits = get("/default/dags/current", 'If-None-Match: "none"', "Prefer: wait=50")
    assert (await half_closed(server, waits, at_once=at_once)).startswith(b"HTTP/1.1 200 ")
    seen = get("/default/dags/current", "If-None-Match: *")
    assert (await half_closed(server, seen, at_once=at_once)).startswith(b"HTTP/1.1 304 ")


@pytest.mark.parametrize(
    "sent", [b"", b"GET /healthz HTTP/1.1\r\nHost:", post(pack(A))[:-10]], ids=["", "head", "body"]
)
async def test_what_is_not_whole_is_no_request(server, at_once, sent) -> None:
    assert await half_closed(server, sent, at_once=at_once) == b""
    await eventually("the connection to be closed", lambda: not server.connections())
    assert server.service.deployments["default"].current is None
