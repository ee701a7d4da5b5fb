"""An object store in memory that checks the condition of a write, and then writes: so several of a race may win.

It speaks as much of S3 as the start of a server needs, and checks no signatures.
"""

import hashlib
import http.server
import re
import threading
from collections import Counter
from typing import Any
from urllib.parse import unquote, urlsplit

WAIT_SECONDS = 0.25
"""How long a write that has passed its check waits for another one to pass too."""


class RacyStore:
    """Listens on ``port`` of loopback. A conditional write waits between check and write until it is not alone."""

    def __init__(self) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.objects: dict[str, bytes] = {}
        self.lock = threading.Condition()
        self.passed: Counter[str] = Counter()
        """How many conditional writes of each key have passed their check."""

    def handle_error(self, *_: object) -> None:
        """Say nothing: a client went away."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def do_PUT(self) -> None:
        key, body = self._key(), self._body()
        with self.server.lock:
            if self.headers["If-None-Match"] == "*":
                if key in self.server.objects:
                    self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
                    return
                self.server.passed[key] += 1
                self.server.lock.notify_all()
                self.server.lock.wait_for(lambda: self.server.passed[key] > 1, WAIT_SECONDS)
            self.server.objects[key] = body
        self._answer(200)

    def do_GET(self) -> None:
        with self.server.lock:
            body = self.server.objects.get(self._key())
        self._answer(*((404, b"<Error><Code>NoSuchKey</Code></Error>") if body is None else (200, body)))

    def do_DELETE(self) -> None:
        self._delete(self._key())
        self._answer(204)

    def do_POST(self) -> None:
        # DeleteObjects: what it names is in the body.
        assert urlsplit(self.path).query == "delete"
        keys = re.findall("<Key>([^<]+)</Key>", self._body().decode())
        for key in keys:
            self._delete(f"{self._key()}/{key}")
        deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        self._answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    def _delete(self, key: str) -> None:
        with self.server.lock:
            self.server.objects.pop(key, None)

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).lstrip("/")

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"] or 0))

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)
