"""What forms look like on the wire: cut, malformed, endless."""

import asyncio

import pytest

from dagferry_server.http import request_body as body
from harness import pack
from rawhttp import BOUNDARY, FORM, Wire, connected, multipart, post, sequence
from running import A


@pytest.mark.parametrize("end", ["", "\r\n", "-", "x"])
async def test_a_form_without_its_end_is_refused(server, end) -> None:
    async with connected(server) as wire:
        form = multipart(pack(A), end=end)
        await wire.send(post(len(form), FORM), form)
        status, _, told = await wire.answer()
        assert (status, told["code"]) == (400, "multipart_invalid")
    assert await sequence(server) == 0


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("multipart/form-data", multipart(b"x")),
        ("multipart/form-data; boundary=", multipart(b"x")),
        ("multipart/form-data; boundary=" + "x" * 71, multipart(b"x")),
        ("multipart/form-data; boundary=other", multipart(b"x")),
        (f"multipart/form-data; boundary={BOUNDARY}", b"no form at all"),
        (f"multipart/form-data; boundary={BOUNDARY}", b""),
        (
            f"multipart/form-data; boundary={BOUNDARY}",
            f"--{BOUNDARY}\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y--\r\n--{BOUNDARY}--\r\n".encode(),
        ),
        (
            f"multipart/form-data; boundary={BOUNDARY}",
            f"--{BOUNDARY}\r\nContent-Disposition: {'x' * 9000}\r\n\r\n\r\n--{BOUNDARY}--\r\n".encode(),
        ),
        (
            f"multipart/form-data; boundary={BOUNDARY}",
            f'--{BOUNDARY}\r\nContent-Disposition: "\r\n\r\nx\r\n--{BOUNDARY}--\r\n'.encode(),
        ),
    ],
)
async def test_a_malformed_form_is_refused_with_an_explanation(server, kind, form) -> None:
    async with connected(server) as wire:
        await wire.send(post(len(form), f"Content-Type: {kind}"), form)
        status, _, told = await wire.answer()
        assert (status, told["code"]) == (400, "multipart_invalid")


FIELD = b'--%b\r\nContent-Disposition: form-data; name="n"\r\n\r\n\r\n' % BOUNDARY.encode()


@pytest.mark.parametrize(
    ("begin", "endless"),
    [
        (b"", b"x\r\n"),
        (b"", b"x" * 77 + b"\r\n"),
        (b"", b"x" * 1000),
        (b"", FIELD),
        (FIELD[:-2], b"x" * 77 + b"\r\n"),
        (multipart(b"x"), b"x\r\n"),
        (multipart(b"x"), b"x" * 1000),
    ],
    ids=["lines", "long lines", "no line at all", "fields", "one field", "lines behind the end", "bytes behind it"],
)
async def test_a_form_that_never_comes_to_its_file_or_its_end_is_refused_early(
    server, monkeypatch, begin, endless
) -> None:
    monkeypatch.setattr(body, "DISCARD_BYTES", 100_000)
    piece = endless * (50_000 // len(endless))

    async def send(wire: Wire) -> None:
        await wire.send(post("Transfer-Encoding: chunked", FORM))
        await wire.send(b"%x\r\n%b\r\n" % (len(begin), begin) if begin else b"")
        while True:
            await wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))

    async with connected(server) as wire:
        sending = asyncio.create_task(send(wire))
        try:
            status, headers, told = await asyncio.wait_for(wire.answer(), 20)
        finally:
            sending.cancel()
        assert (status, headers["connection"], told["code"]) == (400, "close", "multipart_invalid")
    assert await sequence(server) == 0


async def test_what_comes_before_and_after_a_form_is_not_looked_at(server) -> None:
    async with connected(server) as wire:
        form = b"hello\r\n" * 100 + multipart(pack(A)) + b"bye\r\n" * 100
        await wire.send(post(len(form), FORM), form)
        assert (await wire.answer())[0] == 200
        await wire.send(post(len(form), FORM), form)
        assert (await wire.answer())[0] == 200
