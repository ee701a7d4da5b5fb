"""Three servers behind nginx, which are replaced one after the other while everybody goes on."""

import contextlib
import http.client
import itertools
import json
import threading
import time
from pathlib import Path

import pytest

from harness import Server, Sidecar, eventually, free_port
from nginx import nginx
from server_processes import LONG, Servers, Wire, attempt, history, in_background, metric, sequence, unique, until_ready

pytestmark = pytest.mark.slow

HOME = Path(__file__).parents[2]
ROUNDS = 5 if LONG else 1
"""How often each server is replaced."""
UPLOADERS = 3
WAITERS = 60 if LONG else 30
WAIT_SECONDS = 5
"""How long a request of a waiter waits for a change."""
SLACK_SECONDS = 5
"""What a busy machine may add to it."""
MAX_REPEATS = 50
CLEAR = {503: {"shutting_down", "store_unavailable", "deploy_contended", "too_many_uploads"}}
"""The answers that say that nothing was deployed, and that the same upload may succeed in a moment."""


def front(cluster: Servers, port: int) -> str:
    """The configuration for nginx in deploy/, with the ports of these servers."""
    text = (HOME / "deploy" / "nginx" / "two-servers.conf").read_text()
    first, second, *more = (f"server 127.0.0.1:{port} max_fails=0;" for port in cluster.ports)
    for old, new in (
        ("server server-1:8000 max_fails=0;", first),
        ("server server-2:8000 max_fails=0;", " ".join([second, *more])),
        ("listen 8000;", f"listen 127.0.0.1:{port};"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    return text


class Site(Server):
    """All servers as clients see them."""

    def __init__(self, port: int) -> None:
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        self.ca_file, self.headers = None, {}


class Uploader:
    """Deploys without a pause, each content until it is told that it is deployed."""

    def __init__(self, site: Server, numbers: "itertools.count[int]") -> None:
        self.site = site
        self.numbers = numbers
        self.told: dict[int, dict] = {}
        self.refused: list[tuple[int, str]] = []

    def __call__(self, stop: threading.Event) -> None:
        while not stop.is_set():
            number = next(self.numbers)
            for _ in range(MAX_REPEATS):
                code, answer = attempt(self.site, unique(number))
                if code == 200:
                    self.told[number] = answer
                    break
                self.refused.append((code, answer.get("code", "")))
                assert answer.get("code") in CLEAR.get(code, set()), (code, answer)
                time.sleep(0.1)
            else:
                pytest.fail(f"an upload was refused {MAX_REPEATS} times: {self.refused}")
            time.sleep(0.05)


class Waiter:
    """Asks as a sidecar does, on one connection as long as that lasts. Notes how long it was without an answer."""

    def __init__(self, port: int, name: str) -> None:
        self.port = port
        self.name = name
        self.version = ""
        self.longest = 0.0
        self.failed: list[str] = []

    def __call__(self, stop: threading.Event) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2 * WAIT_SECONDS)
        answered = time.monotonic()
        with contextlib.closing(connection):
            while not stop.is_set():
                if self._is_answered(connection):
                    now = time.monotonic()
                    self.longest = max(self.longest, now - answered)
                    answered = now

    def _is_answered(self, connection: http.client.HTTPConnection) -> bool:
        try:
            self._ask(connection)
        except (OSError, http.client.HTTPException, AssertionError) as error:
            self.failed.append(repr(error))
            connection.close()  # the next request opens another one
            time.sleep(0.1)
            return False
        return True

    def _ask(self, connection: http.client.HTTPConnection) -> None:
        headers = {"Prefer": f"wait={WAIT_SECONDS}", "If-None-Match": f'"{self.version}"'}
        headers |= {"Dagferry-Instance": self.name, "Dagferry-Volume": self.name.encode().hex().zfill(32)}
        connection.request("GET", "/default/dags/current", headers=headers)
        response = connection.getresponse()
        body = response.read()
        assert response.status in (200, 304), response.status
        if response.status == 200:
            self.version = json.loads(body)["version"]


def test_a_rolling_restart_under_load_loses_no_upload_and_silences_no_waiter(several, tmp_path: Path, cleanup) -> None:
    cluster: Servers = several(3)
    cluster.start_all("--gate", "off", past_proxy=True)
    site = Site(free_port())
    with nginx(tmp_path / "nginx", front(cluster, site.port)):
        uploaders = [Uploader(site, numbers) for numbers in [itertools.count(1)] for _ in range(UPLOADERS)]
        waiters = [Waiter(site.port, f"pod-{number}") for number in range(WAITERS)]
        sidecar = Sidecar(site.url, tmp_path / "pod")
        cleanup.insert(0, sidecar.kill)
        with in_background([*uploaders, *waiters]) as failures:
            for _, which in itertools.product(range(ROUNDS), range(3)):
                before = sum(len(each.told) for each in uploaders)
                cluster.servers[which].stop()
                until_ready(cluster.start(which, "--gate", "off", past_proxy=True))
                eventually(
                    "uploads", lambda before=before: failures or sum(len(one.told) for one in uploaders) > before
                )
            assert not failures
            # All servers have their share of those that wait.
            for server in cluster.servers.values():
                eventually("its share", lambda server=server: metric(server, "dagferry_server_waiting_sidecars") > 0)
        told = {answer["sequence"]: answer for each in uploaders for answer in each.told.values()}
        sidecar.runs(told[max(told)]["version"])
    known = cluster.servers[0]
    eventually("all to be known", lambda: sequence(known) == max(told))
    logged = {entry["sequence"]: entry for entry in history(known)}
    # Each client's deploy is in the log as it was told, and nothing else: no upload was lost, and none came twice.
    assert {number: entry["version"] for number, entry in logged.items()} == {
        number: answer["version"] for number, answer in told.items()
    }
    longest = max(each.longest for each in waiters)
    assert longest < WAIT_SECONDS + SLACK_SECONDS, (longest, [each.failed for each in waiters if each.failed])
    cluster.verified(entries=max(told))


def test_pods_on_one_server_spread_when_others_come(several) -> None:
    """Through a Service of Kubernetes, which chooses a server for each connection, and not for each request."""
    cluster: Servers = several(3)
    first = until_ready(cluster.start(0, "--gate", "off", past_proxy=True))
    first.deploy(unique(0))
    service = Wire(*cluster.ports)
    waiters = [Waiter(service.port, f"pod-{number}") for number in range(WAITERS)]
    with in_background(waiters):
        eventually("all to wait", lambda: metric(first, "dagferry_server_waiting_sidecars") == WAITERS)
        others = [cluster.start(which, "--gate", "off", past_proxy=True) for which in (1, 2)]
        for other in others:
            until_ready(other)
            eventually("its share", lambda other=other: metric(other, "dagferry_server_waiting_sidecars") > 0)
        shares = [metric(server, "dagferry_server_waiting_sidecars") for server in (first, *others)]
    service.close()
    assert max(shares) < WAITERS, shares
    assert [each.failed for each in waiters if each.failed] == [], "a waiter lost its connection without an answer"
