"""JSON bodies: bounded in size and time, and of exactly the described shape."""

import asyncio
import gzip

import pytest

from dagferry_server.http import json_body
from dagferry_server.http.json_body import MAX_JSON_BYTES
from running import A

PATH = "/default/dags/rollback"
JSON = {"Content-Type": "application/json"}


async def told(server, body, headers=JSON) -> tuple[int, str, str]:
    answer = await server.call("POST", PATH, data=body, headers=headers)
    return answer.status, answer.json["code"], answer.json["message"]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "Invalid JSON"),
        (b"{", "Invalid JSON"),
        (b"null", "should be an object"),
        (b"[]", "should be an object"),
        (b"{}", "'version': Field required"),
        (b'{"version": 5}', "'version': Input should be a valid string"),
        (b'{"version": ["a"]}', "'version': Input should be a valid string"),
        (b'{"version": "x", "descripton": ""}', "'descripton': Extra inputs are not permitted"),
        (b'{"version": "x", "from": "staging"}', "'from': Extra inputs are not permitted"),
        (b'{"version": "x", "under": 5}', "'under': Input should be a valid string"),
        (b'{"version": "\xff"}', "Invalid JSON"),
        (b'{"version": "\\ud800"}', "Invalid JSON"),
        (b'{"version": ' + b"[" * 10_000, "Invalid JSON"),
        (b"x" * MAX_JSON_BYTES, "Invalid JSON"),
    ],
    ids=lambda body: str(body)[:40],
)
async def test_another_body_is_400_and_says_what_is_wrong(server, body, text) -> None:
    status, code, message = await told(server, body)
    assert (status, code) == (400, "request_invalid")
    assert text in message
    assert len(message) < 1000


async def test_what_was_sent_is_not_repeated(server) -> None:
    assert "hunter2" not in (await told(server, b'{"version": {"password": "hunter2"}}'))[2]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "", "multipart/form-data"])
async def test_another_type_of_body_is_400(server, content_type) -> None:
    status, code, message = await told(server, b'{"version": "x"}', {"Content-Type": content_type})
    assert (status, code) == (400, "request_invalid")
    assert "Content-Type: application/json" in message


async def test_a_charset_is_no_other_type(server) -> None:
    assert (await told(server, b"{}", {"Content-Type": "application/json; charset=utf-8"}))[2].count("Field required")


async def chunks(size: int):
    for _ in range(0, size, 1024):
        yield b" " * 1024


async def test_a_body_that_is_too_large_is_refused_whether_or_not_it_says_so(server) -> None:
    await server.deploy(A)
    for body in (b" " * (MAX_JSON_BYTES + 1), chunks(MAX_JSON_BYTES + 1), chunks(4 * MAX_JSON_BYTES)):
        status, code, message = await told(server, body)
        assert (status, code) == (400, "request_invalid")
        assert "65,536 bytes" in message


async def test_a_compressed_body_cannot_hide_its_size(server) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    status, code, _ = await told(server, bomb, {**JSON, "Content-Encoding": "gzip"})
    assert (status, code) == (400, "request_invalid")


async def test_a_body_that_does_not_arrive_is_given_up(server, monkeypatch) -> None:
    monkeypatch.setattr(json_body, "MAX_JSON_SECONDS", 0.2)
    asked = asyncio.Event()

    async def slow():
        yield b'{"version"'
        await asked.wait()
        yield b": "

    telling = asyncio.create_task(told(server, slow()))
    status, code, _ = await asyncio.wait_for(telling, 20)
    assert (status, code) == (503, "upload_too_slow")
    asked.set()
