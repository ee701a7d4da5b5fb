"""A login service that a proxy asks to authenticate each request, such as oauth2-proxy."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def login_service(*, names_nobody: bool = False) -> Iterator[int]:
    """Run a login service that accepts ``Authorization: ann`` and ``bob``; yield its port.

    Its page to sign in is ``/oauth2/start``. With ``names_nobody`` it accepts them without returning a user name.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/oauth2/start?"):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"Sign in")
                return
            name = self.headers.get("Authorization", "")
            self.send_response(200 if name in {"ann", "bob"} else 401)
            if not names_nobody:
                self.send_header("X-Auth-Request-User", f"{name}@example.com")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield http.server_address[1]
        http.shutdown()
