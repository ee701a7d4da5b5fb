"""The endpoints are asked by their paths, and names from a person cannot lead to another path."""

import pytest

from dagferry_client.api import path_of
from dagferry_core import protocol


def test_names_in_a_path_are_encoded() -> None:
    assert path_of(protocol.STATUS_PATH, deployment="prod") == "/prod/dags/status"
    assert path_of(protocol.DEPLOY_PATH, deployment="a/../b?c#d e", version="%2e") == (
        "/a%2F..%2Fb%3Fc%23d%20e/dags/deploys/%252e"
    )
    assert path_of("/{deployment}/x/{path}", deployment="p", path="a b/c?.py") == "/p/x/a%20b/c%3F.py"


@pytest.mark.parametrize("body", [b"", b"nothing", b"\xff", b"[" * 100_000, b"[]", b'{"deployments": null}'])
def test_what_is_no_answer_of_ours_is_said(at, server, body) -> None:
    server.answer("GET /-/deployments", body)
    done = at("deployments")
    assert done.code == 5
    assert done.err.startswith("Error: The server's answer cannot be understood: ")


def test_a_status_is_waited_for_without_an_end_by_silence(at, server, monkeypatch) -> None:
    from dagferry_client.api import WAIT_SLACK_SECONDS, Api
    from dagferry_client.http import Answer

    asked = []

    class Recorded:
        def request(self, method: str, path: str, **options: object) -> Answer:
            asked.append((method, path, options))
            return Answer(304, {}, b"")

    assert Api(Recorded()).status("prod", tag='"3"', wait=50) == (None, '"3"')
    [(method, path, options)] = asked
    assert (method, path) == ("GET", "/prod/dags/status")
    assert options["headers"] == {"If-None-Match": '"3"', "Prefer": "wait=50"}
    assert options["silence_seconds"] == 50 + WAIT_SLACK_SECONDS
