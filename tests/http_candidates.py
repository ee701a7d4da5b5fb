"""``FakeServer`` of ``fake_candidates`` over real HTTP."""

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from dagferry_core import protocol
from fake_candidates import FakeServer

MAX_WAIT_SECONDS = 5.0
"""Shorter than what is asked for: the client must not mind."""


class HttpCandidates:
    """Serves ``state`` for every deployment but those ``beside``.

    ``headers`` are those of all requests; the next ``refuse`` are answered with 503.
    """

    def __init__(self, state: FakeServer, **beside: FakeServer) -> None:
        self.state = state
        self.beside = beside
        self.headers: list[dict[str, str]] = []
        self.refuse = 0
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with contextlib.suppress(ConnectionError):
                    site._handle(self)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        self.headers.append(dict(request.headers))
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        url = urlsplit(request.path)
        state = self.beside.get(url.path.split("/")[1], self.state)
        *_, kind, last = url.path.split("/")
        have = parse_qs(url.query).get(protocol.FROM, [""])[0]
        if self.refuse:
            self.refuse -= 1
            self._answer(request, 503, {"code": "x", "message": "Not now.", "hint": ""})
        elif last == "candidates":
            self._candidates(request, state)
        elif request.command == "POST":
            found = any(one.id == last for one in state.waiting)
            if found:
                state.verdict(last, json.loads(body))
            self._answer(request, 200 if found else 404, {})
        elif kind == "versions" and last in state.versions:
            self._send(request, state.download(last, have))
        elif kind == "candidates" and (download := state.candidate(last, have)):
            self._send(request, download)
        else:
            self._answer(request, 404, {"code": "x", "message": "It is not there.", "hint": ""})

    def _candidates(self, request: BaseHTTPRequestHandler, state: FakeServer) -> None:
        if request.headers.get(protocol.DEREGISTER):
            state.leave({protocol.AIRFLOW: request.headers.get(protocol.AIRFLOW, "")})
        waits = "Prefer" in request.headers
        deadline = time.monotonic() + (MAX_WAIT_SECONDS if waits else 0)
        seen = request.headers.get("If-None-Match", "")
        while (found := state.candidates(seen, 0, {})) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if found is None:
            request.send_response(304)
            request.send_header("ETag", seen)
            request.end_headers()
            return
        listed = [{**one._asdict(), "created": 1.5} for one in found.candidates]
        live = found.live._asdict() if found.live else None
        self._answer(request, 200, {"log_id": found.log_id, "live": live, "candidates": listed}, found.tag)

    def _answer(self, request: BaseHTTPRequestHandler, status: int, said: object, tag: str = "") -> None:
        body = json.dumps(said).encode()
        request.send_response(status)
        request.send_header("Content-Type", protocol.JSON_TYPE)
        request.send_header("Content-Length", str(len(body)))
        if tag:
            request.send_header("ETag", tag)
        request.end_headers()
        request.wfile.write(body)

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, download: object) -> None:
        body = download.read()  # type: ignore[attr-defined]
        is_patch = download.kind == "patch"  # type: ignore[attr-defined]
        request.send_response(200)
        request.send_header("Content-Type", protocol.PATCH_TYPE if is_patch else protocol.BUNDLE_TYPE)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)
