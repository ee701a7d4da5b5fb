"""A proxy in front of an object store that spoils requests, counts them, and stops at a chosen one.

It forwards each request as it is, with its Host header, so signatures stay valid. A fault strikes once, at the next
request of its kind; what lasts is an attribute of the proxy, such as ``away``.
"""

import contextlib
import enum
import http.client
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from harness import PATIENCE_SECONDS

CREATE, PUT, GET, LIST, DELETE, PARTS = "create", "put", "get", "list", "delete", "parts"
"""The kinds of requests. ``create`` is a conditional PUT, and ``parts`` all that a multipart upload consists of."""
CONDITIONS = ("if-none-match", "if-match", "x-goog-if-generation-match")
LATE_SECONDS = 3.0
HEAD_BYTES = 64 * 1024
PIECE_BYTES = 16 * 1024
"""How much a slow proxy passes on at once."""
_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "content-length"}
_NO_BODY = {204, 304}


class Fault(enum.Enum):
    """What may happen to a PUT, once."""

    ANSWER_DROPPED = "the store takes it, and the connection ends without an answer"
    RESET_BEFORE = "the connection is reset, and the store never hears of it"
    RESET_AFTER = "the store takes it, and the connection is reset"
    ERROR_AFTER = "the store takes it, and the answer is 500"
    UNAVAILABLE_BEFORE = "the answer is 503, and the store never hears of it"
    CONFLICT = "the answer is 409, though nothing is stored"
    LATE = "the connection is reset, and the store gets it seconds later"
    CUT = "the store gets half of the body, and then the connection ends"


class Request(NamedTuple):
    """A request that arrived: its kind, its key below the bucket, and its number, from 1 on."""

    number: int
    kind: str
    key: str


class Message(NamedTuple):
    """A request as it arrived."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")

    def without(self, *names: str) -> "Message":
        return self._replace(headers=[pair for pair in self.headers if pair[0].lower() not in names])


class FaultyStore:
    """Listens on ``port`` of loopback and forwards to ``upstream``, a port of loopback too.

    ``bucket_segments`` is how many segments of a path come before the key. ``sign`` makes a request valid again whose
    headers were changed.
    """

    def __init__(
        self, upstream: int, bucket_segments: int = 1, sign: Callable[[Message], Message] | None = None
    ) -> None:
        self.upstream = upstream
        self.away = False
        """Whether each connection is reset, also those that are open."""
        self.strips_conditions = False
        self.refuses_conditions = False
        """Whether the answer to a condition is 501."""
        self.lies = False
        """Whether the answer to a create that the store refuses is 200."""
        self.bytes_per_second: float | None = None
        """How fast bodies pass, in each direction, those of all connections together."""
        self.unavailable: Callable[[Request], bool] = lambda _request: False
        """For which requests the answer is 503."""
        self.guard: Callable[[Message], Message | None] = lambda message: message
        """What is forwarded of a request; if that is ``None``, the answer is 403."""
        self.late_seconds = LATE_SECONDS
        self.requests: list[Request] = []
        self.struck: list[Fault] = []
        self._segments = bucket_segments
        self._sign = sign
        self._faults: list[tuple[Fault, frozenset[str], str]] = []
        self._stop: tuple[int, Callable[[Request], None]] | None = None
        self._lock = threading.Lock()
        self._paces = (_Pace(), _Pace())
        self._late: list[threading.Thread] = []
        self._clients: set[socket.socket] = set()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * PIECE_BYTES)  # so that a slow body is slow
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(128)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def spoil(self, fault: Fault, *kinds: str, key: str = "") -> None:
        """Let the fault strike at the next request of these kinds (any PUT by default) whose key contains ``key``."""
        with self._lock:
            self._faults.append((fault, frozenset(kinds or (CREATE, PUT)), key))

    def stop_at(self, number: int, what: Callable[[Request], None]) -> None:
        """Call ``what`` when the request of this number has arrived; the store does not get it, nor any later one.

        Numbers count from 1 with the first request after this call. ``what`` kills the process that sent it.
        """
        with self._lock:
            self.requests.clear()
            self._stop = (number, what)

    def resume(self) -> None:
        """Forward requests again after ``stop_at``, from other processes."""
        with self._lock:
            self._stop = None
            self.requests.clear()

    def counts(self) -> Counter[str]:
        """How many requests of each kind there were."""
        with self._lock:
            return Counter(request.kind for request in self.requests)

    def wait_for_late(self) -> None:
        """Wait until the store has got each PUT that is late."""
        for thread in self._late:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()

    def go_away(self) -> None:
        """Reset each connection from now on, also those that are open."""
        self.away = True
        for client in tuple(self._clients):
            _reset(client, close=False)

    def close(self) -> None:
        self.away = True
        self._listener.close()
        for client in tuple(self._clients):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._clients.add(client)
        try:
            with client.makefile("rb", buffering=0) as raw:
                reader = _Reader(raw, client)
                while not self.away and (message := reader.read(self._passing(0))) and not self.away:
                    if not self._handle(client, message):
                        return
        except (OSError, http.client.HTTPException, ValueError):
            _reset(client)
        finally:
            self._clients.discard(client)
            if self.away:
                _reset(client)
            client.close()

    def _handle(self, client: socket.socket, message: Message) -> bool:
        """Answer a request; return whether the connection goes on."""
        with self._lock:
            request = Request(len(self.requests) + 1, *self._described(message))
            self.requests.append(request)
            stop = self._stop if self._stop and request.number >= self._stop[0] else None
            fault = self._next_fault(request)
        if stop:
            if request.number == stop[0]:
                stop[1](request)
            _reset(client)
            return False
        guarded = self.guard(message)
        if guarded is None:
            client.sendall(_plain(403, "AccessDenied"))
            return True
        message = guarded
        if self.unavailable(request):
            client.sendall(_plain(503, "SlowDown"))
            return True
        if self.refuses_conditions and any(message.header(name) for name in CONDITIONS):
            client.sendall(_plain(501, "NotImplemented"))
            return True
        if self.strips_conditions and any(message.header(name) for name in CONDITIONS):
            message = message.without(*CONDITIONS)
            message = self._sign(message) if self._sign else message
        return self._strike(fault, client, message) if fault else self._pass(client, message, request)

    def _pass(self, client: socket.socket, message: Message, request: Request) -> bool:
        status, answer, body = _forward(self.upstream, message)
        if self.lies and request.kind == CREATE and status in (409, 412):
            answer, body = _plain(200, ""), b""
        if message.method == "HEAD":
            body = b""
        client.sendall(answer)
        pace = self._passing(1)
        for start in range(0, len(body), PIECE_BYTES if pace else max(1, len(body))):
            piece = body[start : start + PIECE_BYTES] if pace else body
            client.sendall(piece)
            if pace:
                pace(len(piece))
        return True

    def _strike(self, fault: Fault, client: socket.socket, message: Message) -> bool:
        if fault in (Fault.ANSWER_DROPPED, Fault.RESET_AFTER, Fault.ERROR_AFTER):
            _forward(self.upstream, message)
        elif fault is Fault.CUT:
            _cut(self.upstream, message)
        elif fault is Fault.LATE:
            late = threading.Thread(target=self._deliver, args=(message,), daemon=True)
            self._late.append(late)
            late.start()
        with self._lock:
            self.struck.append(fault)
        answers = {
            Fault.ERROR_AFTER: _plain(500, "InternalError"),
            Fault.UNAVAILABLE_BEFORE: _plain(503, "SlowDown"),
            Fault.CONFLICT: _plain(409, "ConditionalRequestConflict"),
        }
        if fault in answers:
            client.sendall(answers[fault])
            return True
        if fault is not Fault.ANSWER_DROPPED:
            _reset(client)
        return False

    def _deliver(self, message: Message) -> None:
        time.sleep(self.late_seconds)
        with contextlib.suppress(OSError, http.client.HTTPException):
            _forward(self.upstream, message)

    def _next_fault(self, request: Request) -> Fault | None:
        for number, (fault, kinds, key) in enumerate(self._faults):
            if request.kind in kinds and key in request.key:
                del self._faults[number]
                return fault
        return None

    def _described(self, message: Message) -> tuple[str, str]:
        parts = urlsplit(message.target)
        query = parse_qs(parts.query, keep_blank_values=True)
        key = "/".join(unquote(parts.path).lstrip("/").split("/")[self._segments :])
        if query.keys() & {"uploads", "uploadId"} or query.get("comp") in (["block"], ["blocklist"]):
            return PARTS, key
        if message.method == "PUT":
            return (CREATE if any(message.header(name) for name in CONDITIONS) else PUT), key
        if message.method in ("GET", "HEAD"):
            return (GET, key) if key else (LIST, (query.get("prefix") or [""])[0])
        bulk = "delete" in query or query.get("comp") == ["batch"] or parts.path.startswith("/batch/")
        return (DELETE if message.method == "DELETE" or bulk else message.method.lower()), key

    def _passing(self, direction: int) -> Callable[[int], None] | None:
        rate = self.bytes_per_second
        return None if rate is None else lambda size: self._paces[direction].wait(size / rate)


class _Pace:
    """Lets one after the other pass, each for as long as it takes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free = 0.0

    def wait(self, seconds: float) -> None:
        with self._lock:
            self._free = max(self._free, time.monotonic()) + seconds
            until = self._free
        time.sleep(max(0.0, until - time.monotonic()))


class _Reader:
    """Reads the requests of a connection."""

    def __init__(self, raw: "socket.SocketIO", client: socket.socket) -> None:
        self._raw = raw
        self._client = client
        self._rest = b""

    def read(self, pace: Callable[[int], None] | None) -> Message | None:
        while b"\r\n\r\n" not in self._rest:
            if not self._more(HEAD_BYTES):
                return None
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _version = first.split(" ")
        headers = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        message = Message(method, target, headers, b"")
        if message.header("expect"):
            self._client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if message.header("transfer-encoding"):
            return message._replace(body=self._chunks())
        return message._replace(body=self._exactly(int(message.header("content-length") or 0), pace))

    def _exactly(self, size: int, pace: Callable[[int], None] | None) -> bytes:
        pieces = [self._rest[:size]]
        have = len(pieces[0])
        self._rest = self._rest[size:]
        while have < size:
            piece = self._raw.read(min(size - have, PIECE_BYTES if pace else 1 << 20))
            if not piece:
                raise ConnectionError("the client went away")
            pieces.append(piece)
            have += len(piece)
            if pace:
                pace(len(piece))
        return b"".join(pieces)

    def _chunks(self) -> bytes:
        body = b""
        while True:
            while b"\r\n" not in self._rest:
                if not self._more(HEAD_BYTES):
                    raise ConnectionError("the client went away")
            line, _, self._rest = self._rest.partition(b"\r\n")
            size = int(line.partition(b";")[0], 16)
            body += self._exactly(size, None)
            self._exactly(2, None)
            if not size:
                return body

    def _more(self, size: int) -> bool:
        data = self._raw.read(size)
        self._rest += data or b""
        return bool(data)


def _forward(port: int, message: Message) -> tuple[int, bytes, bytes]:
    """Send a request to the store; return the status, the head of the answer as it is passed on, and the body."""
    store = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        _send(store, message)
        response = store.getresponse()
        body = response.read()
    finally:
        store.close()
    headers = [pair for pair in response.getheaders() if pair[0].lower() not in _HOP]
    if message.method == "HEAD":
        headers += [("Content-Length", response.getheader("Content-Length", "0"))]
    elif response.status not in _NO_BODY:
        headers += [("Content-Length", str(len(body)))]
    return response.status, _head(response.status, headers), body


def _send(store: http.client.HTTPConnection, message: Message) -> None:
    store.putrequest(message.method, message.target, skip_host=True, skip_accept_encoding=True)
    for name, value in message.headers:
        if name.lower() not in _HOP:
            store.putheader(name, value)
    if message.body or message.method in ("PUT", "POST"):
        store.putheader("Content-Length", str(len(message.body)))
    store.endheaders(message.body or None)


def _cut(port: int, message: Message) -> None:
    """Send a request with half of its body, and end the connection."""
    headers = [pair for pair in message.headers if pair[0].lower() not in _HOP]
    headers += [("Content-Length", str(len(message.body)))]
    lines = [f"{message.method} {message.target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
    with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as store:
        store.sendall("\r\n".join(lines).encode("latin-1") + message.body[: len(message.body) // 2])
        store.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while store.recv(PIECE_BYTES):
                pass


def _head(status: int, headers: list[tuple[str, str]]) -> bytes:
    reason = http.client.responses.get(status, "Unknown")
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def _plain(status: int, code: str) -> bytes:
    """An answer as S3 gives it; the other clouds' have such a code in XML too."""
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code></Error>'.encode() if code else b""
    headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
    return _head(status, headers if code else [*headers, ("ETag", '"0"')]) + body


def _reset(client: socket.socket, *, close: bool = True) -> None:
    """Break a connection as a crash does."""
    with contextlib.suppress(OSError):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if not close:
            client.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads it, which closes it
    if close:
        client.close()
