"""A proxy between a sidecar and a server that tampers with responses as real proxies, networks and caches do."""

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from harness import PATIENCE_SECONDS

CURRENT, BUNDLE = "current", "bundle"
"""The kinds of requests."""
HEAD_BYTES = 64 * 1024
HTML = b"<html><body>Please sign in</body></html>"


class Answer(NamedTuple):
    """An answer of the server."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def head(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} -", *(f"{name}: {value}" for name, value in self.headers), "", ""]
        return "\r\n".join(lines).encode()


Tampering = Callable[[socket.socket, Answer], None]
"""Sends a response to a waiting client, or only a part of it; then the connection is closed."""


class Request(NamedTuple):
    moment: float
    kind: str
    path: str


class TamperingProxy:
    """Listens on ``port`` and forwards to the port ``upstream``; ``tampering`` has functions by kind of response."""

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.tampering: dict[str, Tampering] = {}
        self.requests: list[Request] = []
        self.answers: list[tuple[str, Answer]] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._clients: set[socket.socket] = set()
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._listener.close()
        for client in tuple(self._clients):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def asked(self, kind: str, since: float = 0.0) -> int:
        """How many requests of a kind arrived since a moment (``time.monotonic``)."""
        return sum(request.kind == kind and request.moment >= since for request in tuple(self.requests))

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._clients.add(client)
        try:
            with client, client.makefile("rb") as lines:
                while self._pass_on(client, lines):
                    pass
        except OSError:
            pass
        finally:
            self._clients.discard(client)

    def _pass_on(self, client: socket.socket, lines) -> bool:
        """Serve one request; return whether there may be another."""
        first = lines.readline(HEAD_BYTES)
        if not first:
            return False
        path = first.split()[1].decode()
        headers = http.client.parse_headers(lines)
        kind = CURRENT if path.partition("?")[0].endswith("/current") else BUNDLE
        self.requests.append(Request(time.monotonic(), kind, path))
        upstream = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=2 * PATIENCE_SECONDS)
        with contextlib.closing(upstream):
            upstream.request("GET", path, headers=dict(headers.items()))
            response = upstream.getresponse()
            answer = Answer(response.status, response.getheaders(), response.read())
        self.answers.append((kind, answer))
        tamper = self.tampering.get(kind)
        if tamper:
            client.settimeout(PATIENCE_SECONDS)
            tamper(client, answer)
            return False
        client.sendall(answer.head + answer.body)
        return True


# --- ways to tamper --------------------------------------------------------------------------------------------------


def cut(client: socket.socket, answer: Answer) -> None:
    client.sendall(answer.head + answer.body[: len(answer.body) // 2])


def reset(client: socket.socket, answer: Answer) -> None:
    client.sendall(answer.head + answer.body[: len(answer.body) // 2])
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def flip(client: socket.socket, answer: Answer) -> None:
    middle = len(answer.body) // 2
    changed = bytes([answer.body[middle] ^ 0x10])
    client.sendall(answer.head + answer.body[:middle] + changed + answer.body[middle + 1 :])


def bad_gateway(client: socket.socket, answer: Answer) -> None:
    client.sendall(Answer(502, [("Content-Type", "text/html"), ("Content-Length", str(len(HTML)))], HTML).head + HTML)


def sign_in_page(client: socket.socket, answer: Answer) -> None:
    client.sendall(Answer(200, [("Content-Type", "text/html"), ("Content-Length", str(len(HTML)))], HTML).head + HTML)


def elsewhere(port: int) -> Tampering:
    """Send the client to another address."""

    def redirect(client: socket.socket, answer: Answer) -> None:
        location = ("Location", f"http://127.0.0.1:{port}/default/dags/current")
        client.sendall(Answer(302, [location, ("Content-Length", "0")], b"").head)

    return redirect


def cached(old: Answer) -> Tampering:
    """Send an old response to every request."""

    def replay(client: socket.socket, answer: Answer) -> None:
        client.sendall(old.head + old.body)

    return replay


def drip(client: socket.socket, answer: Answer) -> None:
    """Send one byte at a time, for longer than any client should wait."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    client.sendall(answer.head)
    for number in range(len(answer.body)):
        client.sendall(answer.body[number : number + 1])
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)


def black_hole(client: socket.socket, answer: Answer) -> None:
    """Send nothing until the client disconnects."""
    client.recv(1)
