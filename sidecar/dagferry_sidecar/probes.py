"""``/healthz``, ``/readyz`` and ``/metrics``, answered by a thread of their own; and what the dag processor sends.

``/healthz`` is 200 as long as the loop is alive. ``/readyz`` is 200 as long as an intact tree is published; it looks at
the link itself each time. Losing contact with the server makes a pod neither unhealthy nor unready, because its DAGs
still run; the body and the metrics report it.
"""

import json
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING

from dagferry_core.errors import SetupError
from dagferry_follow.log import Log
from dagferry_follow.volume.root import Root
from dagferry_sidecar.hints import hint
from dagferry_sidecar.stats import Stats

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler

    from dagferry_sidecar.passing_on import PassingOn

BACKLOG_CONNECTIONS = 64
ROUND_SECONDS = 3600.0
"""How often the listener wakes up without a request."""
REQUEST_SECONDS = 5.0
"""A client that takes longer to send its request is disconnected."""
FORBIDDEN = 403
"""The answer to another machine, of which nothing is read."""

log = Log(__name__)


class Probes:
    """Answers on ``address`` from ``start`` until the process ends. ``SetupError`` if it cannot listen there."""

    def __init__(self, address: tuple[str, int], stats: Stats) -> None:
        self._stats = stats
        self.root: Root | None = None
        """Set when it is open; until then the pod is not ready."""
        self.passing_on: PassingOn | None = None
        """Set when it is known where reports go to."""
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
        # Imported in the thread, so that nothing waits for it.
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer  # noqa: PLC0415

        probes = self

        class Handler(BaseHTTPRequestHandler):
            timeout = REQUEST_SECONDS

            def do_GET(self) -> None:
                status, content_type, body = probes.answer(self.path.partition("?")[0])
                _send(self, status, content_type, body)

            def do_POST(self) -> None:
                _send(self, *probes.take(self))

            do_HEAD = do_GET  # noqa: N815 - the name is the base class's

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
                """Log nothing: probes come every few seconds."""

        class Listener(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - the name is the base class's
                if not isinstance(sys.exc_info()[1], OSError):  # a client may disconnect at any time
                    log.exception("A probe could not be answered because of an internal error")  # noqa: LOG004 - it is in a handler

        server = Listener(("", 0), Handler, bind_and_activate=False)
        server.socket.close()
        server.socket = self._socket
        server.serve_forever(poll_interval=ROUND_SECONDS)

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

    def take(self, handler: "BaseHTTPRequestHandler") -> tuple[int, str, bytes]:
        """Return status, content type and body for a request that sends something."""
        from dagferry_sidecar.passing_on import max_bytes, pieces, readable  # noqa: PLC0415 - only beside a dag processor

        most = max_bytes(handler.path)
        if most is None or self.passing_on is None:
            return 404, "text/plain", b"not found\n"
        length = readable(handler.headers.get("Content-Length"), most)
        if length is None:
            return 413, "text/plain", b"too large, or without Content-Length\n"
        body = pieces(handler, length)
        sender, receiver = handler.client_address[0], handler.connection.getsockname()[0]
        status, answer = self.passing_on.take(handler.path, body, length, sender, receiver)
        if status != FORBIDDEN:
            for _ in body:
                """A client that still sends would not see the answer."""
        return status, "application/json", answer

    def _published(self) -> str:
        return self.root.published_version() if self.root and self._stats.intact else ""

    def _ready(self) -> tuple[int, str, bytes]:
        stats = self._stats
        version = self._published()
        body = {
            "ready": bool(version),
            "version": version or None,
            "seconds_since_contact": round(time.time() - stats.last_contact, 1) if stats.last_contact else None,
            "error": {**stats.error.as_dict(), "hint": hint(stats.error)} if stats.error else None,
        }
        return 200 if version else 503, "application/json", json.dumps(body).encode() + b"\n"


def _send(handler: "BaseHTTPRequestHandler", status: int, content_type: str, body: bytes) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", content_type)
    handler.send_header("Content-Length", str(len(body)))
    handler.send_header("Cache-Control", "no-store")
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)
