"""A server to test against: real HTTP in a thread, bundles and patches by core, and every misbehaviour on demand."""

import contextlib
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from dagferry_core.names import make_version
from treemaker import Stored


class FakeServer:
    """One deployment, ``default``, of a server that does what it is told.

    ``intercept(kind, handler)`` is asked before each answer, ``kind`` being ``current``, ``whole`` or ``patch``; it may
    answer itself and return True. ``corrupt(kind, body)`` may change a body.
    """

    def __init__(self) -> None:
        self.log_id = "log-1"
        self.deploys: list[tuple[dict[str, object], Stored]] = []
        self.intercept: Callable[[str, BaseHTTPRequestHandler], bool] = lambda _kind, _handler: False
        self.corrupt: Callable[[str, bytes], bytes] = lambda _kind, body: body
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.waits = True
        self.stopping = False
        self._changed = threading.Condition()
        self._http: ThreadingHTTPServer | None = None
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16  # headers and body in one packet: no 40 ms of delayed acknowledgement

            def do_GET(self) -> None:
                fake.requests.append((self.path, dict(self.headers)))
                with contextlib.suppress(ConnectionError):
                    fake.answer(self)

            def log_message(self, *args: object) -> None:
                pass

        class Listener(ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self):
                request = super().get_request()
                self.connections.append(request[0])
                return request

            def handle_error(self, request, client_address) -> None:
                pass

        self.stopping = False
        self._http = Listener(("127.0.0.1", self.port), Handler)
        self._http.connections = []
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Be gone as a killed server is: nothing listens, every connection is broken."""
        if not self._http:
            return
        http, self._http = self._http, None
        self.stopping = True
        http.shutdown()
        http.server_close()
        with self._changed:
            self._changed.notify_all()
        for connection in http.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(2)
            connection.close()

    def deploy(self, files: dict[str, bytes], modes: dict[str, int] | None = None) -> str:
        with self._changed:
            sequence = len(self.deploys) + 1
            stored = Stored(files, modes)
            version = make_version(1_800_000_000 + sequence, sequence)
            answer = {"sequence": sequence, "version": version, "digest": stored.manifest.digest}
            self.deploys.append((answer, stored))
            self._changed.notify_all()
        return version

    def forget(self, log_id: str, keep: int = 0) -> None:
        """Become a server whose store was lost, or restored with ``keep`` deploys."""
        with self._changed:
            self.log_id = log_id
            del self.deploys[keep:]
            self._changed.notify_all()

    @property
    def version(self) -> str:
        return str(self.deploys[-1][0]["version"]) if self.deploys else ""

    def asked(self, what: str) -> int:
        return sum(what in path for path, _ in self.requests)

    # --- answering ---------------------------------------------------------------------------------------------------

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        url = urlsplit(handler.path)
        if url.path == "/default/dags/current":
            self._current(handler)
        elif match := re.fullmatch("/default/dags/versions/([^/]+)", url.path):
            self._bundle(handler, match[1], parse_qs(url.query).get("from", [""])[0])
        else:
            self.send(handler, 404, b'{"code":"route_not_found","message":"There is no such call.","hint":""}')

    def _current(self, handler: BaseHTTPRequestHandler) -> None:
        if self.intercept("current", handler):
            return
        seen = handler.headers.get("If-None-Match", "").strip('"')
        wait = int(handler.headers.get("Prefer", "wait=0").removeprefix("wait="))
        with self._changed:
            if self.waits:
                self._changed.wait_for(lambda: (self.version or "none") != seen or self.stopping, wait)
            tag = self.version or "none"
            body = {"log_id": self.log_id, "sequence": 0, "version": "", "digest": ""}
            if self.deploys:
                body.update(self.deploys[-1][0])
        if tag == seen:
            self.send(handler, 304, b"", {"ETag": f'"{tag}"'})
        else:
            self.send(handler, 200, json.dumps(body).encode(), {"ETag": f'"{tag}"'})

    def _bundle(self, handler: BaseHTTPRequestHandler, version: str, have: str) -> None:
        by_version = {str(answer["version"]): stored for answer, stored in self.deploys}
        if version not in by_version:
            self.send(handler, 404, b'{"code":"version_not_found","message":"No such version.","hint":""}')
            return
        new, old = by_version[version], by_version.get(have)
        body, kind = new.body, "whole"
        if old and (patch := new.patch_from(old)) is not None:
            body, kind = patch, "patch"
        if self.intercept(kind, handler):
            return
        content_type = "application/zstd" if kind == "whole" else "application/vnd.dagferry.patch"
        self.send(handler, 200, self.corrupt(kind, body), {"Content-Type": content_type})

    @staticmethod
    def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        handler.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            handler.send_header(name, value)
        if status != 304:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    @staticmethod
    def cut(handler: BaseHTTPRequestHandler, body: bytes, after: int, content_type: str) -> None:
        """Promise all of ``body``, send ``after`` bytes of it, and break the connection."""
        handler.send_response(200)
        handler.send_header("Content-Type", content_type)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[:after])
        handler.wfile.flush()
        handler.connection.shutdown(2)
        handler.close_connection = True
