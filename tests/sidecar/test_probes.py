"""Liveness, readiness and metrics over HTTP, and what each of them means."""

import json
import socket
import urllib.error
import urllib.request

import pytest

from dagferry_core.errors import SetupError
from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import ServerUnreachable
from dagferry_sidecar.probes import Probes
from dagferry_sidecar.stats import Stats


class Root:
    def __init__(self, version: str) -> None:
        self.version = version

    def published_version(self) -> str:
        return self.version


@pytest.fixture
def stats() -> Stats:
    return Stats()


@pytest.fixture
def probes(stats) -> Probes:
    made = Probes(("127.0.0.1", 0), stats)
    made.start()
    return made


def get(probes: Probes, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{probes.port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def ready(probes: Probes) -> tuple[int, dict[str, object]]:
    status, body = get(probes, "/readyz")
    return status, json.loads(body)


def test_the_loop_is_alive_until_it_takes_longer_than_it_said(probes, stats) -> None:
    assert get(probes, "/healthz") == (200, "ok\n")
    stats.watchdog(-1)
    assert get(probes, "/healthz")[0] == 503
    stats.watchdog(10)
    assert get(probes, "/healthz")[0] == 200


def test_it_is_ready_only_when_a_checked_tree_is_published_and_looks_each_time(probes, stats) -> None:
    assert ready(probes)[0] == 503
    probes.root = Root("v-1")
    assert ready(probes)[0] == 503, "published, but not checked yet"
    stats.intact = True
    assert ready(probes) == (200, {"ready": True, "version": "v-1", "seconds_since_contact": None, "error": None})
    probes.root.version = ""
    assert ready(probes)[0] == 503


def test_being_out_of_touch_is_reported_and_makes_nobody_unready(probes, stats) -> None:
    probes.root = Root("v-1")
    stats.intact = True
    stats.last_contact = 1.0
    stats.error = ServerUnreachable("It is away.")
    status, body = ready(probes)
    assert status == 200
    assert body["seconds_since_contact"] > 1e9
    assert body["error"]["code"] == "server_unreachable"


def test_metrics_agree_with_readiness(probes, stats) -> None:
    stats.live = DeployRef("log", 1, "v-1", "sha256:1")
    stats.intact = True
    probes.root = Root("v-1")
    assert "dagferry_sidecar_published 1.0" in get(probes, "/metrics")[1]
    probes.root.version = ""
    assert "dagferry_sidecar_published 0.0" in get(probes, "/metrics")[1]


def test_a_query_is_ignored_and_another_path_is_not_found(probes) -> None:
    assert get(probes, "/healthz?verbose=1")[0] == 200
    assert get(probes, "/")[0] == 404


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/"])
def test_head_has_the_headers_of_get_and_no_body(probes, path) -> None:
    status, body = get(probes, path)
    with socket.create_connection(("127.0.0.1", probes.port), timeout=30) as connection:
        connection.sendall(f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.0 {status}".encode())
    assert f"Content-Length: {len(body)}".encode() in head
    assert rest == b""


def test_a_prober_that_says_nothing_holds_up_nobody(probes) -> None:
    with socket.create_connection(("127.0.0.1", probes.port)):
        assert get(probes, "/healthz")[0] == 200


def test_an_address_that_is_taken_is_a_mistake_in_the_settings() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SetupError, match="--listen"):
        Probes(taken.getsockname(), Stats())
