"""A sidecar passes on what the dag processor beside it reports, and nothing else."""

import contextlib
import http.client
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from dagferry_core.protocol import MAX_REPORT_BYTES
from dagferry_core.source.observed import Observation
from dagferry_follow.beside import MAX_BODY_BYTES, READS_PATH, REPORTS_PATH, read_kept
from dagferry_follow.remote.connection import ConnectionOptions
from dagferry_follow.remote.server import Server
from dagferry_follow.volume.known_reads import MAX_READS_BYTES, READS, encode, read_known
from dagferry_follow.volume.volume import Volume
from dagferry_sidecar import passing_on
from dagferry_sidecar.passing_on import PassingOn, readable
from dagferry_sidecar.probes import Probes
from dagferry_sidecar.stats import Stats
from harness import eventually
from publishing import publish
from scripted_server import ScriptedServer

ANSWER = {"log_id": "log", "version": "v-1", "report_seconds": 30, "ignored": None}
REPORT = {"instance": "dag-processor-0", "parsed": None}
PATH = "POST /default/dags/reports"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    made = ScriptedServer()
    yield made
    made.stop()


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    made = Volume(str(tmp_path / "root"))
    made.load()
    made.sweep()
    publish(made, 1)
    yield made
    made.close()


@pytest.fixture
def passes(volume, server) -> Iterator[PassingOn]:
    connection = Server(server.url, "default", agent="test", access=ConnectionOptions(token="secret"))
    yield PassingOn(volume.root, connection)
    connection.close()


@pytest.fixture
def probes(passes) -> Probes:
    made = Probes(("127.0.0.1", 0), Stats())
    made.start()
    made.passing_on = passes
    return made


def tree(volume: Volume) -> str:
    assert volume.live
    return f"{volume.live.unique}/{volume.live.record.version}"


def said(volume: Volume, **more: object) -> bytes:
    return json.dumps({"tree": tree(volume), "keep": "kept", "report": REPORT, **more}).encode()


def post(probes: Probes, body: bytes, path: str = "/reports", **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", probes.port, timeout=30)
    with contextlib.closing(connection):
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text.startswith(b"{") else text


def test_a_report_goes_to_the_server_with_the_sidecars_token(probes, volume, server) -> None:
    server.answer(PATH, ANSWER)
    assert post(probes, said(volume)) == (200, ANSWER)
    [request] = server.requests
    assert json.loads(request.body) == REPORT
    assert request.headers["Authorization"] == "Bearer secret"
    assert request.headers["Content-Type"] == "application/json"
    assert "Dagferry-Instance" not in request.headers
    assert read_kept(volume.root.path) == "kept"


def test_what_the_server_refuses_is_told(probes, volume, server) -> None:
    server.answer(PATH, {"code": "forbidden", "message": "The token lacks sync.", "hint": ""}, 403)
    status, answer = post(probes, said(volume))
    assert status == 502
    assert answer == {"code": "server_refused", "message": "The server answered 403: The token lacks sync. (forbidden)"}


def test_a_server_that_is_away_is_told(probes, volume, server) -> None:
    server.stop()
    status, answer = post(probes, said(volume))
    assert (status, answer["code"]) == (502, "server_unreachable")


def test_only_who_reads_the_live_tree_may_report(probes, volume, server) -> None:
    old = tree(volume)
    publish(volume, 2)
    for other in (old, f"{'0' * 16}/v-2"):
        assert post(probes, said(volume, tree=other))[0] == 409
    assert server.requests == []


@pytest.mark.parametrize(
    "more",
    [
        {"tree": None}, {"tree": "../x"}, {"tree": ["a"]}, {"keep": 1}, {"report": []}, {"report": None},
        {"report": {"x": "x" * MAX_REPORT_BYTES}}, {"keep": "x" * (256 * 1024 + 1)}, {"keep": "\u20ac" * 100_000},
        {"keep": "\ud800"},
    ],
)  # fmt: skip
def test_what_is_no_report_is_refused(probes, volume, server, more) -> None:
    assert post(probes, said(volume, **more))[0] == 400
    assert server.requests == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(probes, server, body: bytes) -> None:
    assert post(probes, body)[0] == 400
    assert server.requests == []


@pytest.mark.parametrize("length", [str(MAX_BODY_BYTES + 1), "9" * 5000, "-1", "0x10", "1e3", ""])
def test_a_length_that_is_none_is_not_read(length) -> None:
    assert readable(length, MAX_BODY_BYTES) is None


def test_too_much_is_not_read(probes) -> None:
    assert post(probes, b"", Content_Length="x")[0] in {400, 413}
    connection = http.client.HTTPConnection("127.0.0.1", probes.port, timeout=30)
    with contextlib.closing(connection):
        connection.request("POST", "/reports", headers={"Content-Length": str(MAX_BODY_BYTES + 1)})
        assert connection.getresponse().status == 413


def test_other_machines_may_not_report(passes, volume, server) -> None:
    body = said(volume)
    untouched = iter([body])
    for path in (REPORTS_PATH, READS_PATH + tree(volume)):
        assert passes.take(path, untouched, len(body), "10.0.0.7", "10.0.0.8")[0] == 403
    assert list(untouched) == [body]
    assert server.requests == []
    server.answer(PATH, ANSWER)
    assert passes.take(REPORTS_PATH, [body], len(body), "10.0.0.8", "10.0.0.8")[0] == 200


def test_of_another_machine_nothing_is_read(probes) -> None:
    class Handler:
        path = REPORTS_PATH
        headers: ClassVar = {"Content-Length": "9"}
        client_address = ("10.0.0.7", 1)
        rfile = None  # reading would fail
        connection = SimpleNamespace(getsockname=lambda: ("10.0.0.8", 1))

    assert probes.take(Handler())[0] == 403


def test_one_body_is_taken_at_a_time_and_none_for_another_tree(passes, volume, monkeypatch) -> None:
    monkeypatch.setattr(passing_on, "WAIT_SECONDS", 0.01)
    known = encode({})
    path = READS_PATH + tree(volume)
    inner: list[int] = []

    def body() -> Iterator[bytes]:
        untouched = iter([known])
        inner.append(passes.take(path, untouched, len(known), "127.0.0.1", "127.0.0.1")[0])
        assert list(untouched) == [known]
        yield known

    assert passes.take(path, body(), len(known), "127.0.0.1", "127.0.0.1")[0] == 200
    assert inner == [503]
    untouched = iter([known])
    assert passes.take(READS_PATH + "x", untouched, len(known), "127.0.0.1", "127.0.0.1")[0] == 409
    assert list(untouched) == [known]


def started(probes: Probes, path: str, length: int, *, sent: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", probes.port), timeout=30)
    connection.sendall(f"POST {path} HTTP/1.1\r\nContent-Length: {length}\r\n\r\n".encode() + sent)
    return connection


def test_half_a_body_is_not_kept(probes, volume) -> None:
    known = {"dag.py": Observation("ab", frozenset({"dag.py", "a.yml"}), frozenset({"sql"}), 1)}
    path, body = READS_PATH + tree(volume), encode(known)
    assert post(probes, body, path)[0] == 200
    with started(probes, path, len(body), sent=body[:20]) as connection:
        connection.shutdown(socket.SHUT_WR)  # as when its process is killed
        assert b" 400 " in connection.makefile("rb").readline()
    assert read_known(volume.root.trees) == known


def test_a_body_that_comes_too_slowly_ends_the_connection_and_is_not_kept(probes, volume, monkeypatch) -> None:
    monkeypatch.setattr(passing_on, "BODY_SECONDS", 0.1)
    path = READS_PATH + tree(volume)
    # Reset, if it had not even read what came.
    with started(probes, path, 100, sent=b"{") as connection, contextlib.suppress(ConnectionResetError):
        assert connection.recv(1) == b""
    assert not os.path.exists(f"{volume.root.trees}/{READS}")
    monkeypatch.undo()
    assert post(probes, encode({}), path)[0] == 200


def test_a_body_is_read_for_so_long_however_it_comes(monkeypatch) -> None:
    """A byte now and then makes it no longer."""
    now = 0.0

    def read1(_: int) -> bytes:
        nonlocal now
        now += 1.0
        return b"x"

    monkeypatch.setattr(passing_on, "time", SimpleNamespace(monotonic=lambda: now))
    waits: list[float] = []
    handler: Any = SimpleNamespace(
        connection=SimpleNamespace(settimeout=waits.append), rfile=SimpleNamespace(read1=read1)
    )
    received: list[int] = []
    with pytest.raises(TimeoutError):
        received.extend(piece[0] for piece in passing_on.pieces(handler, 100))
    assert waits == [5.0, 4.0, 3.0, 2.0, 1.0]


def test_what_parses_read_is_kept_on_the_volume(probes, volume, server) -> None:
    known = {"dag.py": Observation("ab", frozenset({"dag.py", "a.yml"}), frozenset({"sql"}), 1)}
    assert post(probes, encode(known), READS_PATH + tree(volume))[0] == 200
    assert read_known(volume.root.trees) == known
    assert server.requests == []


def test_what_parses_of_another_tree_read_is_not_kept(probes, volume) -> None:
    old = tree(volume)
    publish(volume, 2)
    for other in (old, "", f"{'0' * 16}/v-2", "../x"):
        assert post(probes, encode({}), READS_PATH + other)[0] == 409
    assert not os.path.exists(f"{volume.root.trees}/{READS}")


def test_more_than_is_kept_is_not_taken(probes, volume) -> None:
    assert post(probes, b" " * MAX_READS_BYTES, READS_PATH + tree(volume))[0] == 200
    connection = http.client.HTTPConnection("127.0.0.1", probes.port, timeout=30)
    with contextlib.closing(connection):
        length = {"Content-Length": str(MAX_READS_BYTES + 1)}
        connection.request("POST", READS_PATH + tree(volume), headers=length)
        assert connection.getresponse().status == 413


def test_what_cannot_be_kept_is_told(probes, volume, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dagferry_sidecar.passing_on.write_reads", full)
    status, answer = post(probes, encode({}), READS_PATH + tree(volume))
    assert (status, answer["code"]) == (507, "report_refused")
    assert "No space left" in answer["message"]


def test_without_a_place_to_send_to_there_is_no_such_path(volume, probes) -> None:
    assert post(probes, said(volume), "/metrics")[0] == 404
    probes.passing_on = None
    assert post(probes, said(volume))[0] == 404


def test_what_cannot_be_kept_is_reported_all_the_same(probes, volume, server, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dagferry_sidecar.passing_on.write_kept", full)
    server.answer(PATH, ANSWER)
    assert post(probes, said(volume))[0] == 200


def test_probes_are_answered_while_a_report_waits_for_the_server(probes, volume, server) -> None:
    go_on, arrived = threading.Event(), threading.Event()

    def slow(handler: Any) -> None:
        arrived.set()
        go_on.wait(30)
        body = json.dumps(ANSWER).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    server.act(PATH, slow)
    sent: list[int] = []
    thread = threading.Thread(target=lambda: sent.append(post(probes, said(volume))[0]))
    thread.start()
    assert arrived.wait(30)
    assert probes.answer("/healthz")[0] == 200
    go_on.set()
    thread.join(30)
    assert sent == [200]
    eventually("no more requests", lambda: len(server.requests) == 1)
