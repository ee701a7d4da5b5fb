"""One HTTP connection of a follower, kept between requests: every wait is bounded, and errors name the cause.

Every failure before there is an answer is ``ServerUnreachable``, or ``ProxyFailed`` if the environment's proxy is the
cause.
"""

import contextlib
import http.client
import os
import socket
import threading
import time
from collections.abc import Mapping
from typing import NamedTuple, NoReturn
from urllib.parse import urlsplit

from dagferry_follow.errors import ProxyFailed, ServerUnreachable
from dagferry_follow.remote.connection import ConnectionOptions, connect, proxy_for

STALE_SECONDS = 1.0
"""A kept connection that fails this soon after a request was already closed by the server; that is not a failure."""
MAX_SHOWN_CHARACTERS = 300

_TUNNEL = "Tunnel connection failed: "
_TLS_RECORDS = ("\x15\x03", "\x16\x03")
"""How the answer of a server that uses TLS begins: an alert, or a handshake."""
_NOT_VALID_NOW = {9, 10}
_OTHER_NAME = {62, 63, 64}
"""OpenSSL's numbers: not valid yet, expired; another host, mail or IP address."""


class _Response(http.client.HTTPResponse):
    def _read_next_chunk_size(self) -> int:
        # A chunk of -1 bytes would be read to the end of the stream, however long that is.
        size: int = super()._read_next_chunk_size()  # type: ignore[misc] # tests check it with each Python
        if size < 0:
            raise ValueError("a chunk claims a negative size")
        return size


class Request(NamedTuple):
    """An HTTP request; headers that are ``None`` are not sent."""

    method: str
    path: str
    headers: Mapping[str, str | None]
    body: str | bytes | None = None


class Transport:
    """Sends requests to the host of ``url``; ``access`` names the CAs to trust. Its token is for the caller to send."""

    def __init__(self, url: str, access: ConnectionOptions) -> None:
        self.url = urlsplit(url)
        self._access = access
        self._before, self._for_proxy = "", dict[str, str]()
        self._proxy = ""
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._timer: threading.Timer | None = None
        self._answered = False

    def close(self) -> None:
        """Close the connection, also under a thread that reads from it."""
        connection = self._connection
        if self._timer:
            self._timer.cancel()
        self._abort()
        self._connection = self._socket = None
        if connection:
            connection.close()

    def _abort(self) -> None:
        # While a proxy opens a tunnel, only the connection knows the socket.
        if sock := self._socket or (self._connection.sock if self._connection else None):
            with contextlib.suppress(OSError):  # the other side may have closed it first
                sock.shutdown(socket.SHUT_RDWR)

    def limit(self, seconds: float) -> None:
        """Abort the connection after ``seconds``, unless another limit replaces this one before."""
        if self._timer:
            self._timer.cancel()
        self._timer = threading.Timer(seconds, self._abort)
        self._timer.daemon = True
        with contextlib.suppress(RuntimeError):  # no more threads: the limit on silence remains
            self._timer.start()

    def limit_silence(self, seconds: float) -> None:
        """From now on, let the server send nothing for at most ``seconds``."""
        if self._socket:
            self._socket.settimeout(seconds)

    def request(self, asked: Request, silence: float, connect_seconds: float) -> http.client.HTTPResponse:
        """Return the answer with its body unread. It must come within ``silence`` seconds of the request."""
        kept = self._connection is not None
        started = time.monotonic()
        try:
            response = self._send(asked, silence, connect_seconds)
        except (OSError, ValueError, http.client.HTTPException) as error:
            reached = self._socket is not None
            self.close()
            if kept and isinstance(error, ConnectionError) and time.monotonic() - started < STALE_SECONDS:
                return self.request(asked, silence, connect_seconds)
            self._fail(error, reached=reached)
        self._answered = True
        if self._proxy and response.status == http.client.PROXY_AUTHENTICATION_REQUIRED:
            self.close()
            raise self._proxy_refused(f"{response.status} {response.reason}")
        return response

    def _send(self, asked: Request, silence: float, connect_seconds: float) -> http.client.HTTPResponse:
        if self._connection is None:
            self._socket = None
            proxy = proxy_for(self.url, os.environ)
            self._proxy = f"{proxy.hostname}:{proxy.port or http.client.HTTP_PORT}" if proxy else ""
            self._connection, self._before, self._for_proxy = connect(
                self.url, self._access, os.environ, connect_seconds
            )
            self._connection.response_class = _Response
            self._connection.connect()
            self._socket = self._connection.sock
        if self._connection.sock:
            self._connection.sock.settimeout(silence)
        headers = {name: value for name, value in {**asked.headers, **self._for_proxy}.items() if value is not None}
        self._connection.request(asked.method, self._before + asked.path, asked.body, headers)
        response = self._connection.getresponse()
        if response.will_close:
            self._connection = None
        return response

    # --- causes of failures ------------------------------------------------------------------------------------------

    def _fail(self, error: Exception, *, reached: bool) -> NoReturn:
        url = self.url.geturl()
        if self.url.scheme == "https":
            import ssl  # noqa: PLC0415 - plain http does without

            if isinstance(error, ssl.SSLCertVerificationError):
                text = f"The certificate of {url} is not trusted: {error.verify_message}."
                raise ServerUnreachable(text, certificate_hint(error.verify_code, self._access.ca_file)) from error
        if self._proxy and str(error).startswith(_TUNNEL):
            raise self._proxy_refused(str(error).removeprefix(_TUNNEL)) from error
        if self._proxy and not reached and isinstance(error, OSError):
            raise ProxyFailed(f"The proxy {self._proxy} cannot be reached: {reason(error)}.") from error
        if self._proxy and not reached and isinstance(error, http.client.HTTPException):
            raise ProxyFailed(f"The proxy {self._proxy} did not answer like an HTTP proxy: {reason(error)}.") from error
        hint = None
        if not self._answered and self._uses_other_scheme(error):
            other = "https" if self.url.scheme == "http" else "http"
            hint = (
                f"If the server uses {other}, write {other}:// in the URL. "
                "Otherwise something in between may have closed the connection."
            )
        through = f", through the proxy {self._proxy}" if self._proxy else ""
        raise ServerUnreachable(f"{url} does not answer{through}: {reason(error)}.", hint) from error

    def _uses_other_scheme(self, error: Exception) -> bool:
        if self.url.scheme == "https":
            import ssl  # noqa: PLC0415 - plain http does without

            return isinstance(error, ssl.SSLError) and error.reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST"}
        if isinstance(error, http.client.BadStatusLine):
            return isinstance(error, ConnectionError) or str(error.args[0]).startswith(_TLS_RECORDS)
        return isinstance(error, ConnectionResetError)

    def _proxy_refused(self, said: str) -> ProxyFailed:
        host = f"{self.url.hostname}:{self.url.port}" if self.url.port else self.url.hostname
        text = f"The proxy {self._proxy} refused a connection to {host}: {said[:MAX_SHOWN_CHARACTERS]}."
        needs_credentials = said.startswith(str(int(http.client.PROXY_AUTHENTICATION_REQUIRED)))
        hint = (
            "Put the proxy's credentials into its variable: http://USER:PASSWORD@HOST:PORT."
            if needs_credentials
            else None
        )
        return ProxyFailed(text, hint)


def certificate_hint(code: int, ca_file: str | None) -> str:
    """Return what to do about a certificate that failed with OpenSSL's number ``code``; ``ca_file`` was trusted."""
    if code in _NOT_VALID_NOW:
        return "Renew the server's certificate, or correct this machine's clock."
    if code in _OTHER_NAME:
        return "Use a host name that is in the server's certificate."
    if ca_file:
        return f"Add the CA that signed the server's certificate to {ca_file} (--ca-file)."
    return "Pass the certificate of the CA that signed the server's certificate with --ca-file."


def reason(error: Exception) -> str:
    """Return in a few words why a connection failed."""
    if isinstance(error, TimeoutError):
        return "it sent nothing for too long"
    if isinstance(error, http.client.BadStatusLine) and not isinstance(error, ConnectionError):
        return f"it sent {str(error.args[0])[:40]!r}, which is not HTTP"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
