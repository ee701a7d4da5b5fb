"""What real clients of the upload protocol do on the wire, byte by byte, and how the server survives it.

docs/reference/protocol.md says what they do: they take only 200 for success, repeat a 5xx, and after a broken
connection send an empty file.
"""

import asyncio
import contextlib
import io
import ssl
import tarfile
from collections.abc import Iterable

import pytest

from dagferry_core.limits import MIB
from dagferry_server.http import request_body as body
from dagferry_server.http.openapi import errors_of
from dagferry_server.http.routes import ROUTES
from harness import pack
from issuer import make_certificate
from rawhttp import FORM, Wire, connected, multipart, post, sequence
from running import A, B, eventually

# --- only 200 is success, a 5xx is repeated, a 4xx is final --------------------------------------------------------


def test_try_again_is_503_or_507_never_429_and_nothing_is_ever_redirected() -> None:
    for route in ROUTES:
        if route.takes_file:
            statuses = {error.status for error in errors_of(route)}
            assert statuses <= {400, 401, 403, 404, 405, 409, 412, 413, 422, 423, 500, 503, 507}


# --- after a broken connection the retry carries a file part of 0 bytes ---------------------------------------------


@pytest.mark.parametrize(
    "request_bytes",
    [
        post(len(multipart(b"")), FORM) + multipart(b""),
        post("Transfer-Encoding: chunked", FORM) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(multipart(b"")), multipart(b"")),
        post(0),
        post("Transfer-Encoding: chunked") + b"0\r\n\r\n",
        post("X-Nothing: 1"),
    ],
    ids=["form", "chunked form", "raw", "chunked raw", "no body at all"],
)
async def test_an_empty_file_is_503_and_never_changes_anything(start, request_bytes) -> None:
    server = await start("--allow-empty")
    await server.deploy(A)
    async with connected(server) as wire:
        await wire.send(request_bytes)
        status, _, told = await wire.answer()
        assert (status, told["code"]) == (503, "upload_empty_body")
        assert await sequence(server) == 1
        await wire.send(post(len(pack(B))), pack(B))
        assert (await wire.answer())[0] == 200


# --- a reply before the body is read, followed by a close, provokes exactly that ------------------------------------


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [("/nowhere/dags/upload", 5 * MIB, 404), ("/nothing", 5 * MIB, 404), ("/default/dags/upload", 20 * MIB, 413)],
)
async def test_a_client_that_sends_everything_before_it_reads_gets_its_refusal(server, path, size, status) -> None:
    async with connected(server) as wire:
        await wire.send(post(size, path=path), *pieces(size))
        found, headers, _ = await wire.answer()
        assert found == status
        # All of the body was taken, so the connection is as good as new.
        assert "connection" not in headers
        await wire.send(post(len(pack(A))), pack(A))
        assert (await wire.answer())[0] == 200


def pieces(size: int) -> Iterable[bytes]:
    return (bytes(min(MIB, size - start)) for start in range(0, size, MIB))


async def test_the_answer_waits_until_the_body_was_sent(server) -> None:
    async with connected(server) as wire:
        await wire.send(post(2 * MIB, path="/nowhere/dags/upload"), bytes(MIB))
        assert await wire.silent()
        await wire.send(bytes(MIB))
        assert (await wire.answer())[0] == 404


async def test_a_body_without_end_is_discarded_up_to_a_limit_then_answered_and_half_closed(server, monkeypatch) -> None:
    monkeypatch.setattr(body, "DISCARD_BYTES", 2 * MIB)
    size = 30 * MIB
    async with connected(server) as wire:
        # More than any buffer in between holds, and none of it is answered with a reset.
        await wire.send(post(size), *pieces(size))
        status, headers, _ = await wire.answer()
        assert (status, headers["connection"]) == (413, "close")
        assert await wire.reader.read() == b""


async def test_over_tls_no_answer_is_lost_in_a_reset_either(start, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(body, "DISCARD_BYTES", 2 * MIB)
    certificate, key = await asyncio.to_thread(make_certificate, tmp_path)
    server = await start("--tls-cert", certificate, "--tls-key", key)
    context = ssl.create_default_context(cafile=certificate)
    size = 30 * MIB
    for _ in range(3):
        async with connected(server, context) as wire:
            await wire.send(post(size), *pieces(size))
            status, headers, _ = await wire.answer()
            assert (status, headers["connection"]) == (413, "close")
        await eventually("the connection to be closed", lambda: not server.connections())


async def test_a_client_that_goes_on_sending_is_not_read_without_a_limit(server, monkeypatch) -> None:
    monkeypatch.setattr(body, "DISCARD_BYTES", 1000)
    monkeypatch.setattr(body, "MAX_LINGER_SECONDS", 0.1)

    async def send(wire: Wire) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                await wire.send(bytes(10_000))
                await asyncio.sleep(0.001)

    async with connected(server) as wire:
        await wire.send(post(1 << 40))
        sending = asyncio.create_task(send(wire))
        assert (await wire.answer())[0] == 413
        await eventually("the request to be over", lambda: not server.state.busy._count)
        await sending


async def test_a_slow_body_is_discarded_for_a_while_then_answered_and_half_closed(server, monkeypatch) -> None:
    monkeypatch.setattr(body, "DISCARD_SECONDS", 0.05)
    async with connected(server) as wire:
        await wire.send(post(20 * MIB), bytes(MIB))
        status, headers, _ = await wire.answer()
        assert (status, headers["connection"]) == (413, "close")
        assert await wire.reader.read() == b""
        # The server's half is closed, the client's is not: what it still sends breaks nothing.
        await wire.send(bytes(1000))


async def test_the_server_does_not_linger_without_a_limit(server, monkeypatch) -> None:
    monkeypatch.setattr(body, "DISCARD_SECONDS", 0.01)
    monkeypatch.setattr(body, "LINGER_SECONDS", 0.01)
    async with connected(server) as wire:
        await wire.send(post(20 * MIB), bytes(1000))
        assert (await wire.answer())[0] == 413
        await eventually("the request to be over", lambda: not server.state.busy._count)


async def test_a_file_over_the_limit_that_content_length_hides_is_refused_all_the_same(server) -> None:
    async with connected(server) as wire:
        await wire.send(post("Transfer-Encoding: chunked"))
        for piece in pieces(16 * MIB):
            await wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await wire.send(b"0\r\n\r\n")
        status, _, told = await wire.answer()
        assert (status, told["code"]) == (413, "upload_too_large")


# --- Expect: 100-continue -------------------------------------------------------------------------------------------


async def test_a_client_that_asks_first_gets_100_continue_if_the_request_is_allowed(server) -> None:
    async with connected(server) as wire:
        await wire.send(post(len(pack(A)), "Expect: 100-continue"))
        assert await wire.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await wire.send(pack(A))
        assert (await wire.answer())[0] == 200


@pytest.mark.parametrize(
    ("path", "length", "status"),
    [
        ("/nowhere/dags/upload", 9, 404),
        ("/default/dags/upload", 20 * MIB, 413),
        ("/default/dags/upload?typo=1", 9, 400),
        ("/default/dags/nothing", 9, 404),
        ("/default/dags/current", 9, 405),
    ],
)
async def test_a_client_that_asks_first_is_refused_at_once(server, path, length, status) -> None:
    async with connected(server) as wire:
        await wire.send(post(length, "Expect: 100-continue", path=path))
        found, headers, _ = await wire.answer()
        assert (found, headers["connection"]) == (status, "close")
        assert await wire.reader.read() == b""


async def test_a_client_that_asks_first_and_does_not_wait_is_refused_after_the_body(server) -> None:
    # As a proxy does whose patience ends before the server answers: it has sent 100 Continue to its own client.
    async with connected(server) as wire:
        await wire.send(post(2 * MIB, "Expect: 100-continue", path="/nowhere/dags/upload"), bytes(MIB))
        assert await wire.silent()
        await wire.send(bytes(MIB))
        found, headers, _ = await wire.answer()
        assert found == 404
        assert "connection" not in headers


@pytest.mark.parametrize(("path", "status"), [("/default/dags/upload", 200), ("/nothing", 404), ("/healthz", 405)])
async def test_another_expectation_is_ignored(server, path, status) -> None:
    async with connected(server) as wire:
        await wire.send(post(len(pack(A)), "Expect: the-best", path=path), pack(A))
        found, headers, _ = await wire.answer()
        assert (found, headers["content-type"]) == (status, "application/json")


async def test_http_1_0_knows_no_100_continue(server) -> None:
    async with connected(server) as wire:
        head = post(len(pack(A)), "Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0")
        await wire.send(head, pack(A))
        assert (await wire.answer())[0] == 200


# --- what Content-Length says, and what comes -----------------------------------------------------------------------


@pytest.mark.parametrize("form", [False, True])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_truncated_body_changes_nothing_and_leaves_nothing(server, form, chunked) -> None:
    file = pack(A)
    whole = multipart(file) if form else file
    headers = [FORM] if form else []
    outcome = server.service.metrics.uploads.labels("default", "upload_incomplete")
    for breaking in ("close", "reset"):
        before = outcome._value.get()
        async with connected(server) as wire:
            if chunked:
                await wire.send(post("Transfer-Encoding: chunked", *headers), b"%x\r\n%b\r\n" % (len(whole), whole))
            else:
                await wire.send(post(len(whole) + 1, *headers), whole)
            await eventually("the upload to begin", lambda: server.state.busy._count)
            if breaking == "reset":
                wire.reset()
        await eventually("the end of it", lambda before=before: outcome._value.get() > before)
    assert await sequence(server) == 0


async def test_a_content_length_that_is_too_short_cuts_the_archive(server) -> None:
    async with connected(server) as wire:
        await wire.send(post(len(pack(A)) - 10), pack(A)[:-10])
        status, _, told = await wire.answer()
        assert (status, told["code"]) == (422, "archive_truncated")
        # What comes behind is taken for the next request, and is none.
        await wire.send(pack(A)[-10:] + b"\r\n\r\n")
        status, _, told = await wire.answer()
        assert (status, told["code"]) == (400, "request_invalid")
        assert await wire.reader.read() == b""
    assert await sequence(server) == 0


async def test_an_upload_of_which_nothing_more_comes_is_given_up(server, monkeypatch) -> None:
    monkeypatch.setattr("dagferry_server.http.upload_body.UPLOAD_IDLE_SECONDS", 0.05)
    monkeypatch.setattr(body, "DISCARD_SECONDS", 3600)
    async with connected(server) as wire:
        await wire.send(post(1000), b"x")
        status, headers, told = await asyncio.wait_for(wire.answer(), 20)
        assert (status, headers["connection"], told["code"]) == (503, "close", "upload_too_slow")
        assert "broke" not in told["hint"]


@pytest.mark.parametrize("sent", [post(1000), post(1000, FORM), post(1000, FORM) + multipart(b"", end="")[:-12]])
async def test_an_upload_of_which_nothing_arrives_gets_an_error_that_says_so(server, monkeypatch, sent) -> None:
    monkeypatch.setattr("dagferry_server.http.upload_body.UPLOAD_IDLE_SECONDS", 0.05)
    monkeypatch.setattr("dagferry_server.http.upload_body.UPLOAD_GRACE_SECONDS", 0.05)
    monkeypatch.setattr(body, "DISCARD_SECONDS", 0.01)
    async with connected(server) as wire:
        await wire.send(sent)
        status, _, told = await wire.answer()
        assert (status, told["message"]) == (503, "No byte of the file arrived for 0.05 s.")


async def test_the_bytes_of_a_file_are_taken_as_they_are_whatever_is_said_of_their_encoding(server) -> None:
    async with connected(server) as wire:
        await wire.send(post(len(pack(A)), "Content-Encoding: gzip", "Content-Type: application/gzip"), pack(A))
        assert (await wire.answer())[0] == 200


# --- there is no idempotency key ------------------------------------------------------------------------------------


async def test_the_same_upload_after_a_lost_answer_is_unchanged_and_adds_no_entry(server) -> None:
    async with connected(server) as wire:
        await wire.send(post(len(pack(A))), pack(A))
        await eventually("the deploy", lambda: server.service.deployments["default"].current)
        wire.reset()
    async with connected(server) as wire:
        await wire.send(post(len(multipart(pack(A))), FORM), multipart(pack(A)))
        status, _, told = await wire.answer()
    assert (status, told["unchanged"], told["sequence"]) == (200, True, 1)


# --- an empty, missing or linked dags folder ------------------------------------------------------------------------


async def test_a_dags_folder_that_is_a_link_is_refused_by_name(server) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("dags")
        member.type, member.linkname = tarfile.SYMTYPE, "/home/me/dags"
        archive.addfile(member)
    link = packed.getvalue()
    async with connected(server) as wire:
        await wire.send(post(len(link)), link)
        status, _, told = await wire.answer()
    assert (status, told["code"]) == (422, "root_is_link")


# --- slow clients ---------------------------------------------------------------------------------------------------


async def test_slow_clients_hold_up_nobody_else(server) -> None:
    slow = [await asyncio.open_connection(server.host, server.port) for _ in range(100)]
    for _, writer in slow:
        writer.write(post(1000) + b"x")
    await eventually("the slow ones to be there", lambda: server.state.busy._count == 100)
    assert (await server.upload(pack(A))).status == 200
    for _, writer in slow:
        writer.close()
    await eventually("the slow ones to be gone", lambda: server.state.busy._count == 0)
