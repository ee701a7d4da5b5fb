"""``/healthz``, ``/readyz`` and ``/metrics``, answered by a thread of their own.

``/healthz`` is 200 as long as the loop is alive. ``/readyz`` is 200 as long as an intact tree is published; it looks at
the link itself each time. Losing contact with the server makes a pod neither unhealthy nor unready, because its DAGs
still run; the body and the metrics report it.

Python's ``http.server`` would take 1.5 MB of each pod's memory for these three paths (docs/adr/0027).
"""

import http.client
import json
import socket
import threading
import time

from dagferry_core.errors import SetupError
from dagferry_follow.log import Log
from dagferry_follow.volume.root import Root
from dagferry_sidecar.stats import Stats

BACKLOG_CONNECTIONS = 64
ACCEPT_PAUSE_SECONDS = 0.1
MAX_REQUEST_BYTES = 16 * 1024
REQUEST_SECONDS = 5.0
"""A client that takes longer to send its request is disconnected."""
SHORTEST_SECONDS = 0.001
"""A timeout of 0 would mean that the socket does not block."""

log = Log(__name__)


class Probes:
    """Answers on ``address`` from ``start`` until the process ends. ``SetupError`` if it cannot listen there."""

    def __init__(self, address: tuple[str, int], stats: Stats) -> None:
        self._stats = stats
        self.root: Root | None = None
        """Set when it is open; until then the pod is not ready."""
        host, port = address
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server(address, family=family, backlog=BACKLOG_CONNECTIONS)
        except OSError as error:
            raise SetupError(f"Cannot listen on {host}:{port} (--listen): {error.strerror}.") from error

    @property
    def port(self) -> int:
        """The port that it listens on."""
        port: int = self._socket.getsockname()[1]
        return port

    def start(self) -> None:
        """Start answering."""
        threading.Thread(target=self._serve, name="probes", daemon=True).start()

    def _serve(self) -> None:
        while True:
            self._accept()

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
            threading.Thread(target=self._talk, args=(connection,), name="probe", daemon=True).start()
        except (OSError, RuntimeError):  # there are no more descriptors or threads, or the client has disconnected
            time.sleep(ACCEPT_PAUSE_SECONDS)

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.sendall(self._reply(_read_request(connection)))
            except OSError:  # a client may disconnect at any time
                pass
            except Exception:
                log.exception("A probe could not be answered because of an internal error")

    def _reply(self, request: bytes) -> bytes:
        """Return the whole answer to the head of a request."""
        method = ""
        match request.partition(b"\n")[0].decode("latin-1").split():
            case [("GET" | "HEAD") as method, target, protocol] if protocol.startswith("HTTP/"):
                status, content_type, body = self.answer(target.partition("?")[0])
            case [_, _, protocol] if protocol.startswith("HTTP/"):
                status, content_type, body = 501, "text/plain", b"only GET and HEAD are supported\n"
            case _:
                status, content_type, body = 400, "text/plain", b"this is not an HTTP request\n"
        head = (
            f"HTTP/1.0 {status} {http.client.responses[status]}\r\n"
            f"Content-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\n"
            "Cache-Control: no-store\r\n"
            "Connection: close\r\n\r\n"
        )
        return head.encode() + (b"" if method == "HEAD" else body)

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Return status, content type and body for a path."""
        if path == "/healthz":
            return (200, "text/plain", b"ok\n") if self._stats.alive else (503, "text/plain", b"the loop is stuck\n")
        if path == "/readyz":
            return self._ready()
        if path == "/metrics":
            from dagferry_sidecar import metrics  # noqa: PLC0415 - the first scrape comes later than the first deploy

            return 200, *metrics.render(self._stats, published=bool(self._published()))
        return 404, "text/plain", b"not found; try /healthz, /readyz or /metrics\n"

    def _published(self) -> str:
        return self.root.published_version() if self.root and self._stats.intact else ""

    def _ready(self) -> tuple[int, str, bytes]:
        stats = self._stats
        version = self._published()
        body = {
            "ready": bool(version),
            "version": version or None,
            "seconds_since_contact": round(time.time() - stats.last_contact, 1) if stats.last_contact else None,
            "error": stats.error.as_dict() if stats.error else None,
        }
        return 200 if version else 503, "application/json", json.dumps(body).encode() + b"\n"


def _read_request(connection: socket.socket) -> bytes:
    """Return the head of a request, or as much as fits into ``MAX_REQUEST_BYTES``; raise ``OSError`` if it is late."""
    deadline = time.monotonic() + REQUEST_SECONDS
    request = b""
    while b"\n\r\n" not in request and b"\n\n" not in request and len(request) < MAX_REQUEST_BYTES:
        connection.settimeout(max(deadline - time.monotonic(), SHORTEST_SECONDS))
        piece = connection.recv(MAX_REQUEST_BYTES)
        if not piece:
            raise ConnectionError
        request += piece
    return request
