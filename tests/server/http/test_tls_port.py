"""The port that speaks TLS, and clients that do not."""

import asyncio
import contextlib
import logging
import socket
import ssl

import pytest

from dagferry_server.http import tls_port as tlsport
from harness import pack
from issuer import make_certificate
from running import A, Running, eventually


@pytest.fixture
async def certificate(tmp_path) -> tuple[str, str]:
    return await asyncio.to_thread(make_certificate, tmp_path)


@pytest.fixture
async def secure(start, certificate) -> Running:
    return await start("--tls-cert", certificate[0], "--tls-key", certificate[1], "--admin-listen", "127.0.0.1:0")


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.fields["error"] for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000000\r\n\r\n" + bytes(3_000_000),
        b"G",
    ],
    ids=["a read", "an upload", "one byte"],
)
async def test_plain_http_gets_an_error_that_says_so_and_is_logged_once(secure, caplog, sent) -> None:
    for _ in range(3):
        reader, writer = await asyncio.open_connection(secure.host, secure.port)
        writer.write(sent)
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        head, _, text = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"text/plain" in head
        assert b"https://" in text
        assert int(head.partition(b"Content-Length: ")[2].split()[0]) == len(text)
    assert warned(caplog) == ["Plain HTTP was sent to the HTTPS port."]
    assert secure.service.metrics.requests.labels("", "4xx")._value.get() == 3


@pytest.mark.parametrize("sent", [b"\x00\x01\x02", b"\x16\x03\x01junk" * 10, b"\r\n", b""])
async def test_what_is_neither_is_closed_and_no_noise(secure, caplog, sent) -> None:
    reader, writer = await asyncio.open_connection(secure.host, secure.port)
    writer.write(sent)
    if not sent:
        writer.write_eof()
    with contextlib.suppress(ConnectionResetError):
        assert b"HTTP" not in await asyncio.wait_for(reader.read(), 20)
    writer.close()
    assert warned(caplog) == []


async def test_a_connection_of_which_nothing_comes_is_closed(secure, monkeypatch) -> None:
    monkeypatch.setattr(tlsport, "HANDSHAKE_SECONDS", 0.05)
    for sent in (b"", b"\x16"):
        reader, writer = await asyncio.open_connection(secure.host, secure.port)
        writer.write(sent)
        assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()


async def test_the_end_closes_what_is_still_silent(secure) -> None:
    connections = [await asyncio.open_connection(secure.host, secure.port) for _ in range(5)]
    for _, writer in connections[:2]:
        writer.write(b"\x16\x03")
    await asyncio.sleep(0.05)
    await asyncio.wait_for(secure.listeners.close(), 20)
    for reader, writer in connections:
        assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_works_as_before_whenever_its_first_byte_comes(secure, certificate, version) -> None:
    context = ssl.create_default_context(cafile=certificate[0])
    context.minimum_version = context.maximum_version = version
    body = pack(A)
    head = f"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    for seconds in (0.0, 0.05):
        connection = socket.socket()
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (secure.host, secure.port))
        await asyncio.sleep(seconds)
        reader, writer = await asyncio.open_connection(sock=connection, ssl=context, server_hostname="localhost")
        writer.write(head.encode() + body)
        assert (await asyncio.wait_for(reader.read(), 20)).startswith(b"HTTP/1.1 200 ")
        writer.close()
    await eventually("the connections to be closed", lambda: not secure.connections())


async def test_a_waiter_over_tls_is_notified_of_the_end_at_once(secure, certificate) -> None:
    context = ssl.create_default_context(cafile=certificate[0])
    reader, writer = await asyncio.open_connection(secure.host, secure.port, ssl=context)
    writer.write(
        b'GET /default/dags/current HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: "none"\r\nPrefer: wait=50\r\n\r\n'
    )
    await eventually("the waiter", lambda: len(secure.service.deployments["default"].waiters))
    await asyncio.wait_for(secure.listeners.close(), 20)
    answer = await asyncio.wait_for(reader.read(), 20)
    assert answer.startswith(b"HTTP/1.1 304 ")
    assert b"Connection: close" in answer
    writer.close()
