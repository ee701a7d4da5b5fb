"""Several ``dagferry-server`` processes on one prefix of a bucket, as a chart runs them, and what comes between them.

Each has a proxy of its own in front of the store, and a wire of its own to each of the others: either can fail.
"""

import contextlib
import itertools
import json
import os
import random
import secrets
import socket
import subprocess
import sys
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from faulty_store import FaultyStore
from harness import PATIENCE_SECONDS, Server, eventually, free_port, pack
from stores import ObjectStoreUnderTest

LONG = os.environ.get("DAGFERRY_SCALE") == "long"
"""Whether the tests take their long form, as ``make stores`` does."""
POLL_SECONDS = 0.5
_PIECE_BYTES = 64 * 1024


class Wire:
    """Forwards connections to ``port`` to any of ``targets``, which are ports too, until it is cut.

    Like the Service of Kubernetes it chooses by chance, and only among those that accept a connection.
    """

    def __init__(self, *targets: int) -> None:
        self.targets = list(targets)
        self.is_cut = False
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def cut(self) -> None:
        """End each connection, and each new one at once."""
        self.is_cut = True
        for end in tuple(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Forward again."""
        self.is_cut = False

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            target = None if self.is_cut else self._connected()
            if target is None:
                client.close()
                continue
            self._open |= {client, target}
            for one, other in ((client, target), (target, client)):
                threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    def _connected(self) -> socket.socket | None:
        for target in random.sample(self.targets, len(self.targets)):
            with contextlib.suppress(OSError):
                return socket.create_connection(("127.0.0.1", target), PATIENCE_SECONDS)
        return None

    def _copy(self, one: socket.socket, other: socket.socket) -> None:
        one.settimeout(None)
        with contextlib.suppress(OSError):
            while data := one.recv(_PIECE_BYTES):
                other.sendall(data)
        self._open.discard(one)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)
        if other not in self._open:
            one.close()
            other.close()


class Servers:
    """Up to ``number`` servers, known by 0, 1, …; each keeps its port, its proxy and its wires when it starts again.

    Without ``with_peers`` they do not know of each other.
    """

    def __init__(self, under_test: ObjectStoreUnderTest, folder: Path, number: int, *, with_peers: bool = True) -> None:
        self.under_test = under_test
        self.folder = folder
        self.ports = [free_port() for _ in range(number)]
        service = under_test.service
        upstreams = itertools.cycle(service.ports)
        self.proxies = [FaultyStore(next(upstreams), service.segments, service.sign) for _ in range(number)]
        self.wires: dict[tuple[int, int], Wire] = {}
        if with_peers:
            pairs = itertools.permutations(range(number), 2)
            self.wires = {(one, other): Wire(self.ports[other]) for one, other in pairs}
        self.secret = folder / "peer-secret"
        self.secret.write_text(secrets.token_hex(32))
        self.secret.chmod(0o600)
        self.servers: dict[int, Server] = {}
        self._starts = itertools.count(1)

    def start(self, which: int, *flags: str, past_proxy: bool = False) -> Server:
        """Start a server, with an empty data folder: as a new pod has. ``past_proxy``: without its proxy."""
        peers = [f"127.0.0.1:{wire.port}" for (one, _), wire in self.wires.items() if one == which]
        known = ["--peers", ",".join(peers), "--peer-secret-file", str(self.secret)] if peers else []
        if "--store-poll" not in flags:
            flags = (*flags, "--store-poll", str(POLL_SECONDS))
        port = self.proxies[which].upstream if past_proxy else self.proxies[which].port
        self.servers[which] = Server(
            self.folder / f"server-{which}-{next(self._starts)}",
            *("--store", self.under_test.url),
            *known,
            *flags,
            port=self.ports[which],
            **self.under_test.service.variables(port),
        )
        return self.servers[which]

    def start_all(self, *flags: str, past_proxy: bool = False) -> list[Server]:
        """Start all at once, and wait until they are ready and know each other."""
        for which in range(len(self.ports)):
            self.start(which, *flags, past_proxy=past_proxy)
        for server in self.servers.values():
            until_ready(server)
        if self.wires:
            for server in self.servers.values():
                eventually("it to hear all others", lambda server=server: hears(server) == (len(self.ports),) * 2)
        return [self.servers[which] for which in range(len(self.ports))]

    def between(self, *pair: int) -> list[Wire]:
        """The wires between two servers, in both directions."""
        return [wire for ends, wire in self.wires.items() if set(ends) == set(pair)]

    def verified(self, *, entries: int) -> None:
        """Assert that ``dagferry-server verify`` finds so many entries, a chain, and no problem."""
        command = [sys.executable, "-m", "dagferry_server", "verify", "--data-dir", str(self.folder / "verify")]
        (self.folder / "verify").mkdir(exist_ok=True)
        port = self.under_test.service.ports[0]
        environment = {**os.environ, **self.under_test.service.variables(port)}
        done = subprocess.run(
            [*command, "--store", self.under_test.url], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        # The first one has none before it.
        assert f"default: {entries} entries, {entries - 1} of them chained" in done.stdout, done.stdout
        assert done.stdout.endswith("; 0 problems\n"), done.stdout

    def close(self) -> None:
        for server in self.servers.values():
            server.kill()
        for one in (*self.wires.values(), *self.proxies):
            one.close()


def until_ready(server: Server) -> Server:
    """Wait until a server is ready."""
    server.ready()
    eventually("it to be ready", lambda: server.get("/readyz")[0] == 200)
    return server


def hears(server: Server) -> tuple[int, int]:
    """How many servers a server asks for the status of the fleet, itself included, and how many of them answer."""
    servers = status(server)["servers"]
    return servers["asked"], servers["answered"]


def status(server: Server) -> dict[str, Any]:
    """The status of the fleet, as a server knows it."""
    found: dict[str, Any] = json.loads(server.get("/default/dags/status")[1])
    return found


def sequence(server: Server) -> int:
    """The sequence of the current deploy, as a server knows it; 0 if there is none."""
    return server.current()["sequence"] or 0


def history(server: Server) -> list[dict[str, Any]]:
    """All deploys that a server lists, the oldest one first."""
    found: list[dict[str, Any]] = []
    page = "?limit=100"
    while True:
        code, body = server.get(f"/default/dags/deploys{page}")
        assert code == 200, body
        deploys = json.loads(body)["deploys"]
        found += deploys
        if not deploys or deploys[-1]["sequence"] == 1:
            return found[::-1]
        page = f"?limit=100&before={deploys[-1]['sequence']}"


def metric(server: Server, name: str) -> float:
    """The sum of a metric over its labels."""
    lines = server.get("/metrics")[1].decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.split("{")[0].split(" ")[0] == name)


def unique(number: int) -> dict[str, bytes]:
    """A tree that no other number has."""
    return {"etl.py": b"rate = %d\n" % number, "sql/load.sql": b"select 1\n"}


def attempt(server: Server, files: dict[str, bytes]) -> tuple[int, dict[str, Any]]:
    """Upload; return the status and the answer. Status 0: the connection ended without an answer."""
    try:
        code, body = server.request("/default/dags/upload", pack(files))
    except (OSError, urllib.error.URLError):
        return 0, {}
    try:
        return code, json.loads(body)
    except ValueError:
        return code, {}


@contextlib.contextmanager
def in_background(work: Sequence[Callable[[threading.Event], None]]) -> Iterator[list[BaseException]]:
    """Run each in a thread until the block ends and its event is set; then raise the first failure of any."""
    stop, failures = threading.Event(), []

    def run(one: Callable[[threading.Event], None]) -> None:
        try:
            one(stop)
        except BaseException as error:  # noqa: BLE001 - it is raised at the end
            failures.append(error)

    threads = [threading.Thread(target=run, args=(one,), daemon=True) for one in work]
    for thread in threads:
        thread.start()
    try:
        yield failures
    finally:
        stop.set()
        end = time.monotonic() + 3 * PATIENCE_SECONDS
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
    assert not any(thread.is_alive() for thread in threads), "a thread did not end"
    if failures:
        raise failures[0]
