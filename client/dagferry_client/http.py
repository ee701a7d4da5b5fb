"""HTTP for the sub-commands: one server, with the proxies of the environment, TLS, a token and bounded answers.

Redirects are never followed, and a password in a netrc file is never sent. Every failure is an error whose message says
what happened and whose hint says what to do: ``failures`` has those of the connection, ``answers`` those of the server
and of what is in front of it.

A request that may be repeated is repeated after a lost connection, and after the answers that mean "try again". Each
wait is announced on stderr, and the time of all attempts together is bounded.
"""

import http.client
import os
import random
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from dagferry_client.answers import refusal
from dagferry_client.credentials import Credentials
from dagferry_client.errors import ClientError, ConnectionLost
from dagferry_client.failures import NETWORK_ERRORS, failure, lost
from dagferry_client.settings import Target
from dagferry_core import __version__
from dagferry_core.errors import SetupError
from dagferry_follow.errors import AnswerInvalid, ProxyFailed
from dagferry_follow.remote.connection import proxy_for, tls_context

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 30.0
"""How long the server may send nothing, unless a request says otherwise."""
ANSWER_SECONDS = 120.0
DOWNLOAD_SECONDS = 3600.0
"""How long the body of an answer, and of a download, may take, however it trickles."""
MAX_ANSWER_BYTES = 64 << 20
"""The longest answer: the list of 100,000 files with long names has 50 MB."""
MAX_DOWNLOAD_BYTES = 4 << 30
MAX_ERROR_BYTES = 1 << 20
PIECE_BYTES = 256 << 10
READ_REPEAT_SECONDS = 10.0
REPEAT_SECONDS = 60.0
"""How long a request that only reads, and one that a CI job depends on, is repeated before it fails."""
FIRST_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 20.0
"""Also of a ``Retry-After``: a server that asks for more is asked again after this."""

_ERROR = 400

Body = bytes | Callable[[], Iterable[bytes]]
"""What a request sends: bytes, or what makes its pieces anew for each attempt."""


class Answer(NamedTuple):
    """An answer with status 2xx, or 304. The names of ``headers`` are found in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Seen(NamedTuple):
    """What the last answer, also an error, says about the server: its headers, and over TLS its certificate."""

    headers: Mapping[str, str] = {}
    certificate: Mapping[str, Any] = {}


class _Request(NamedTuple):
    method: str
    path: str
    query: Mapping[str, str] | None
    headers: Mapping[str, str] | None
    body: Body | None
    silence_seconds: float


class _Adapter(HTTPAdapter):
    """Verifies certificates by the context of followers: a CA file alone, or the machine's own CAs."""

    def __init__(self, context: Any) -> None:
        self._context = context
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options, ssl_context=self._context)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        return super().proxy_manager_for(proxy, **options, ssl_context=self._context)

    def cert_verify(self, conn: Any, *_others: Any) -> None:
        # requests would load its own CAs into the context, and trust them beside --ca-file.
        conn.cert_reqs = "CERT_REQUIRED"


class Http:
    """Requests to the server of ``target``. ``say`` prints a sentence on stderr."""

    def __init__(self, target: Target, credentials: Credentials, say: Callable[[str], None]) -> None:
        self.target = target
        self.credentials = credentials
        self.seen = Seen()
        self._say = say
        self._url = urlsplit(target.server)
        self._session = requests.Session()
        # No netrc, and proxies by our own rules: as for followers, none for this machine.
        self._session.trust_env = False
        self._session.headers.clear()
        self._session.headers.update({"User-Agent": f"dagferry/{__version__}", "Accept": "*/*"})
        self.proxy = self._set_up_proxy()
        if self._url.scheme == "https":
            self._session.mount("https://", _Adapter(_context(target.ca_file)))

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        silence_seconds: float = SILENCE_SECONDS,
        max_bytes: int = MAX_ANSWER_BYTES,
        repeat_seconds: float | None = None,
        unfinished: tuple[str, float] = ("", 0.0),
    ) -> Answer:
        """Send a request and return the answer with its body.

        ``path`` begins with a slash; a path of the server's URL is put in front. ``repeat_seconds`` is how long the
        request is repeated: for GET ``READ_REPEAT_SECONDS`` unless it is given, for others never. ``unfinished`` is
        the code with which the server says that it goes on with what was asked, and for how many seconds it is asked
        again then, as often as it says. Raises a ``ClientError`` for an error status, else ``ServerUnreachable``,
        ``ProxyFailed`` or ``AnswerInvalid``.
        """
        if repeat_seconds is None:
            repeat_seconds = READ_REPEAT_SECONDS if method == "GET" else 0.0
        asked = _Request(method, path, query, headers, body, silence_seconds)
        started = time.monotonic()
        until = started + repeat_seconds
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                with self._open(asked) as response:
                    read = b"".join(self._pieces(response, max_bytes, ANSWER_SECONDS))
                    return Answer(response.status_code, response.headers, read)
            except (ClientError, ConnectionLost) as error:
                after = 0.0 if isinstance(error, ConnectionLost) else error.retry_after
                goes_on = isinstance(error, ClientError) and error.reason == unfinished[0] != ""
                wait = max(FIRST_PAUSE_SECONDS if goes_on else pause, min(after or 0.0, MAX_PAUSE_SECONDS))
                if after is None or time.monotonic() + wait > (started + unfinished[1] if goes_on else until):
                    raise
                if goes_on:
                    # An attempt that fails later has as long as if it were the first.
                    until = time.monotonic() + wait + repeat_seconds
                    pause = FIRST_PAUSE_SECONDS / 2
                again = "Asking again" if goes_on else "Trying again"
                self._say(f"{error.message} {again} in {wait:.0f} s.")
            # Not exactly then, so that many jobs do not come at once.
            time.sleep(wait * random.uniform(1, 1.25))  # noqa: S311
            pause = min(2 * pause, MAX_PAUSE_SECONDS)

    @contextmanager
    def stream(
        self, path: str, *, query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[tuple[Mapping[str, str], Iterator[bytes]]]:
        """GET ``path``; give its headers and the pieces of its body. Errors are those of ``request``."""
        with self._open(_Request("GET", path, query, headers, None, SILENCE_SECONDS)) as response:
            yield response.headers, self._pieces(response, MAX_DOWNLOAD_BYTES, DOWNLOAD_SECONDS)

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    # --- one attempt -------------------------------------------------------------------------------------------------

    @contextmanager
    def _open(self, asked: _Request) -> Iterator[requests.Response]:
        """Send a request; give the answer with its body unread, if it is not an error."""
        sent = {"Accept-Encoding": "gzip", **(asked.headers or {}), **self.credentials.headers()}
        try:
            response = self._session.request(
                asked.method,
                self.target.server + asked.path,
                params=asked.query,
                headers=sent,
                data=asked.body() if callable(asked.body) else asked.body,
                timeout=(CONNECT_SECONDS, asked.silence_seconds),
                allow_redirects=False,
                stream=True,
            )
        except NETWORK_ERRORS as error:
            raise failure(error, self.target.server, self.target.ca_file, self.proxy) from error
        with response:
            self.seen = Seen(response.headers, _certificate(response))
            status = response.status_code
            said = b"".join(self._pieces(response, MAX_ERROR_BYTES, SILENCE_SECONDS)) if status >= _ERROR else b""
            if refused := refusal(status, response.headers, said, self.target.server, self.credentials):
                raise refused
            yield response

    def _pieces(self, response: requests.Response, max_bytes: int, seconds: float) -> Iterator[bytes]:
        until, received = time.monotonic() + seconds, 0
        try:
            # read1 returns what has arrived, so that a slow trickle is seen here.
            while piece := response.raw.read1(PIECE_BYTES, decode_content=True):
                received += len(piece)
                if received > max_bytes:
                    raise AnswerInvalid(f"The answer of {self.target.server} is longer than {max_bytes} bytes.")
                if time.monotonic() > until:
                    raise ConnectionLost(
                        f"The answer of {self.target.server} was not complete after {seconds:.0f} s: "
                        f"{received} bytes were received."
                    )
                yield piece
        except NETWORK_ERRORS as error:
            raise lost(error, self.target.server, received) from error

    def _set_up_proxy(self) -> str:
        """Use the environment's proxy, if it names one for this server; return its address without a password."""
        try:
            proxy = proxy_for(self._url, os.environ)
        except ValueError as error:
            raise ProxyFailed(f"It cannot be used: {error}.") from None
        if not proxy:
            return ""
        self._session.proxies = {self._url.scheme: proxy.geturl()}
        return f"{proxy.hostname}:{proxy.port or http.client.HTTP_PORT}"


def _certificate(response: requests.Response) -> Mapping[str, Any]:
    """Return the server's certificate as ``ssl`` decodes it; empty without TLS, or if the connection was closed."""
    sock = getattr(response.raw.connection, "sock", None)
    return (sock.getpeercert() or {}) if isinstance(sock, ssl.SSLSocket) else {}


def _context(ca_file: str | None) -> Any:
    try:
        context = tls_context(ca_file)
    except OSError as error:
        raise SetupError(
            f"The CA file {ca_file} cannot be used: {error.strerror or error}.",
            "It must hold certificates in PEM form.",
        ) from error
    if not ca_file:
        # A Python from python.org for macOS has no CAs of its own.
        context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    return context
