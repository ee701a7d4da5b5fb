"""GitHub for tests: gives jobs their tokens, and keeps the comments of one pull request, as strictly as GitHub does."""

import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

MAX_BODY_CHARACTERS = 65536
PULL_REQUEST = 7
REPOSITORY = "/repos/acme/dags"
JOB = {"login": "github-actions[bot]", "type": "Bot"}
ANN = {"login": "ann", "type": "User"}


class GitHub:
    """``comments`` are those of the pull request; ``tokens`` maps a token to who writes with it, ``None``: nobody may.

    ``request_token`` is what a job asks for its identity with, ``identity`` makes the token that it gets.
    """

    def __init__(self) -> None:
        self.comments: list[dict[str, Any]] = []
        self.tokens: dict[str, dict[str, str] | None] = {"ghs_thetokenofthejob": JOB}
        self.request_token = "request-token"
        self.identity: Callable[[], str] = lambda: ""
        self.asked: list[str] = []
        self.answer: tuple[int, dict[str, str], bytes] | None = None
        self.url = ""
        self._ids = itertools.count(1000)

    def environment(self, *, keyless: bool = True) -> dict[str, str]:
        """What a job gets from it; ``keyless``: with the permission id-token."""
        url = f"{self.url}/token/88?api-version=2.0"
        asks = {"ACTIONS_ID_TOKEN_REQUEST_URL": url, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": self.request_token}
        return {"GITHUB_API_URL": self.url, **(asks if keyless else {})}

    def add(self, body: str, user: dict[str, str]) -> dict[str, Any]:
        self.comments.append({"id": next(self._ids), "body": body, "user": user})
        return self.comments[-1]

    def handle(self, method: str, target: str, headers: Any, body: bytes) -> tuple[int, Any]:
        """Status and body of the answer to a request."""
        url = urlsplit(target)
        query = parse_qs(url.query)
        kind, _, token = headers.get("Authorization", "").partition(" ")
        if url.path == "/token/88":
            good = query == {"api-version": ["2.0"], "audience": ["dagferry"]} and kind.lower() == "bearer"
            return (200, {"value": self.identity()}) if good and token == self.request_token else (401, {})
        if not headers.get("User-Agent"):
            return 403, {"message": "Request forbidden by administrative rules."}
        if token not in self.tokens:
            return 401, {"message": "Bad credentials"}
        if headers.get("X-GitHub-Api-Version") not in {None, "2022-11-28"}:
            return 400, {"message": "There is no such version of the API"}
        return self._api(method, url.path, query, self.tokens[token], body)

    def _api(
        self, method: str, path: str, query: dict[str, list[str]], user: dict[str, str] | None, body: bytes
    ) -> tuple[int, Any]:
        if (method, path) == ("GET", "/user"):
            if user and user["type"] == "User":
                return 200, user
            return 403, {"message": "Resource not accessible by integration"}
        listed = f"{REPOSITORY}/issues/{PULL_REQUEST}/comments"
        if (method, path) == ("GET", listed):
            size, page = min(100, int(query.get("per_page", ["30"])[0])), int(query.get("page", ["1"])[0])
            return 200, self.comments[(page - 1) * size : page * size]
        return self._write(method, path, user, body)

    def _write(self, method: str, path: str, user: dict[str, str] | None, body: bytes) -> tuple[int, Any]:
        listed = f"{REPOSITORY}/issues/{PULL_REQUEST}/comments"
        one = re.fullmatch(f"{REPOSITORY}/issues/comments/([0-9]+)", path)
        if (method, path) != ("POST", listed) and not (method == "PATCH" and one):
            return 404, {"message": "Not Found"}
        if user is None:
            return 403, {"message": "Resource not accessible by integration"}
        text = json.loads(body)["body"]
        if not isinstance(text, str) or not text or len(text) > MAX_BODY_CHARACTERS:
            return 422, {"message": "Validation Failed"}
        if one is None:
            return 201, self.add(text, user)
        found = [comment for comment in self.comments if comment["id"] == int(one[1])]
        for comment in found:
            comment["body"] = text
        return (200, found[0]) if found else (404, {"message": "Not Found"})


@contextmanager
def github() -> Iterator[GitHub]:
    """Run it until the end of the block."""
    fake = GitHub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fake.asked.append(f"{self.command} {urlsplit(self.path).path}")
            status, answer = fake.handle(self.command, self.path, self.headers, body)
            headers, data = {"Content-Type": "application/json; charset=utf-8"}, json.dumps(answer).encode()
            if fake.answer and "/token/" not in self.path:
                status, headers, data = fake.answer
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self) -> None:
            self.do_GET()

        def do_PATCH(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        fake.url = f"http://127.0.0.1:{http.server_address[1]}"
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield fake
        http.shutdown()
