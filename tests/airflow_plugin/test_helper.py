"""How the process beside the dag processor sends something to the sidecar; the rest needs Airflow."""

import http.client
import importlib
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from dagferry_airflow.reporter import NotNow
from dagferry_follow.errors import ServerRefused, ServerUnreachable
from scripted_server import ScriptedServer

PATH = "POST /reports"


@pytest.fixture
def helper(monkeypatch) -> Iterator[Any]:
    """The module, with as much of Airflow as it imports."""
    monkeypatch.setitem(sys.modules, "airflow.configuration", SimpleNamespace(conf=None))
    yield importlib.import_module("dagferry_airflow.helper")
    for name in ("helper", "options"):
        sys.modules.pop(f"dagferry_airflow.{name}", None)


@pytest.fixture
def sidecar() -> Iterator[ScriptedServer]:
    made = ScriptedServer()
    yield made
    made.stop()


def address(sidecar: ScriptedServer) -> tuple[str, int]:
    host, port = sidecar.url.removeprefix("http://").split(":")
    return host, int(port)


def test_the_answer_is_returned_and_a_refusal_is_an_error(helper, sidecar) -> None:
    sidecar.answer(PATH, {"a": 1})
    assert helper.post(address(sidecar), "/reports", b"{}").strip() == b'{"a": 1}'
    sidecar.answer(PATH, {}, 409)
    with pytest.raises(NotNow):
        helper.post(address(sidecar), "/reports", b"{}")
    sidecar.answer(PATH, {"message": "It is full."}, 507)
    with pytest.raises(ServerRefused, match=r"507: It is full\."):
        helper.post(address(sidecar), "/reports", b"{}")


def test_an_answer_that_never_ends_is_given_up(helper, sidecar, monkeypatch) -> None:
    """However slowly it comes: a piece of it takes longer than all of it may."""
    seconds = iter(range(0, 10_000, 100))
    monkeypatch.setattr(helper, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))

    def slow(handler: Any) -> None:
        handler.send_response(http.client.OK)
        handler.send_header("Content-Length", "60000")
        handler.end_headers()
        handler.wfile.write(b"x")
        handler.wfile.flush()
        handler.connection.recv(1)  # until the client has had enough

    sidecar.act(PATH, slow)
    with pytest.raises(ServerUnreachable, match="takes too long"):
        helper.post(address(sidecar), "/reports", b"{}")
