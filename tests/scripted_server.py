"""A server that gives the answers of a script, one after another, over real HTTP or HTTPS.

It is strict: a request that the script does not have next for its method and path gets the answer of a Dagferry server
that is too old, and fails the test at its end, as does an answer that nobody asked for.
"""

import contextlib
import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

OLD = {"code": "route_not_found", "message": "There is no such endpoint.", "hint": "See the documentation."}


class Received(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class ScriptedServer:
    """``answers`` maps method and path with its query to what is answered next: a function of the handler each."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.requests: list[Received] = []
        self.unexpected: list[str] = []
        self.answers: dict[str, list[Callable[[BaseHTTPRequestHandler], None]]] = {}
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            server_version, sys_version = "dagferry/9.8.7", ""
            wbufsize = 1 << 16

            def do_GET(self) -> None:
                with contextlib.suppress(ConnectionError):
                    script._handle(self)

            def do_POST(self) -> None:
                self.do_GET()

            def do_DELETE(self) -> None:
                self.do_GET()

            def do_CONNECT(self) -> None:
                self.do_GET()

            def log_message(self, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
            scheme = "https"
        self.port = self._http.server_port
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def answer(self, request: str, body: Any = b"", status: int = 200, **headers: str) -> None:
        """Answer the next ``request``, such as ``"GET /-/whoami"``, with bytes as they are, or else with JSON.

        The names of ``headers`` have underscores for hyphens.
        """
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if not isinstance(body, bytes):
            body, named = json.dumps(body).encode(), {"Content-Type": "application/json", **named}

        def send(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, value in named.items():
                handler.send_header(name, value)
            if status != 304:
                handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        self.act(request, send)

    def act(self, request: str, action: Callable[[BaseHTTPRequestHandler], None]) -> None:
        """Do what ``action`` does at the next ``request``."""
        self.answers.setdefault(request, []).append(action)

    def stop(self) -> None:
        """Stop, and fail if the script and the requests were not the same."""
        self._http.shutdown()
        self._http.server_close()
        unasked = [request for request, actions in self.answers.items() if actions]
        assert (self.unexpected, unasked) == ([], [])

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        if "chunked" in handler.headers.get("Transfer-Encoding", ""):
            body = b""
            while size := int(handler.rfile.readline(), 16):
                body += handler.rfile.read(size)
                handler.rfile.readline()
            handler.rfile.readline()
        else:
            body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        self.requests.append(Received(handler.command, handler.path, dict(handler.headers), body))
        request = f"{handler.command} {handler.path}"
        if not self.answers.get(request):
            self.unexpected.append(request)
            self.answer(request, OLD, 404)
        self.answers[request].pop(0)(handler)
