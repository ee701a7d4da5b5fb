"""Why there was no answer: the exceptions of requests and urllib3, as errors that say what to do."""

import errno
import http.client
import re
import socket
import ssl
from collections.abc import Iterator

import requests
import urllib3

from dagferry_client.errors import ConnectionLost
from dagferry_core.errors import DagferryError
from dagferry_follow.errors import ProxyFailed, ServerUnreachable
from dagferry_follow.remote.transport import MAX_SHOWN_CHARACTERS, certificate_hint

MAX_CAUSES = 20
_TLS_RECORDS = ("\x15\x03", "\x16\x03")
"""How the answer of a server that uses TLS begins: an alert, or a handshake."""
_SSL_LINE = re.compile(r" \(_ssl\.c:\d+\)")
"""Where OpenSSL's error was met in Python, which helps nobody here."""
_OTHER_SCHEME = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}
_UNREACHABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH}
NETWORK_ERRORS = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,
)
"""What a request may raise, and reading an answer."""


def failure(error: Exception, url: str, ca_file: str | None, proxy: str) -> DagferryError:
    """Return the error for a request to ``url`` that failed before there was an answer.

    ``proxy`` is the environment's, empty if there is none. It is a ``ConnectionLost`` if the request may succeed later.
    """
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ServerUnreachable(
                f"The certificate of {url} is not trusted: {cause.verify_message}.",
                certificate_hint(cause.verify_code, ca_file),
            )
    if proxy and any(isinstance(cause, requests.exceptions.ProxyError) for cause in causes):
        return _proxy_failed(causes, url, proxy)
    through = f", through the proxy {proxy}" if proxy else ""
    if _uses_other_scheme(url, causes):
        other = "http" if url.startswith("https:") else "https"
        return ServerUnreachable(
            f"{url} does not answer as its scheme says{through}: {_reason(causes)}.",
            f"Write {other}:// in the server's URL: it seems to use {other}.",
        )
    return _not_connected(causes, url, through)


def _not_connected(causes: list[BaseException], url: str, through: str) -> ServerUnreachable:
    for cause in causes:
        if isinstance(cause, socket.gaierror):
            kind = ConnectionLost if cause.errno == socket.EAI_AGAIN else ServerUnreachable
            return kind(
                f"The host of {url} cannot be found: {cause.strerror}.",
                "Check the name in the server's URL, and this machine's DNS or VPN.",
            )
        if isinstance(cause, ConnectionRefusedError):
            return ConnectionLost(
                f"{url} refuses connections{through}.",
                "Check the port in the server's URL, and that the server is running.",
            )
        if isinstance(cause, OSError) and cause.errno in _UNREACHABLE:
            return ServerUnreachable(
                f"{url} cannot be reached{through}: {_reason(causes)}.", "Check the network and the VPN."
            )
    return ConnectionLost(f"{url} does not answer{through}: {_reason(causes)}.")


def concerns_tls(error: BaseException) -> bool:
    """Return whether TLS is why a request failed: an untrusted certificate, or http where https is spoken."""
    causes = list(_causes(error))
    return any(isinstance(cause, ssl.SSLError) for cause in causes) or _uses_other_scheme("http:", causes)


def lost(error: Exception, url: str, received: int) -> ConnectionLost:
    """Return the error for an answer that ended too soon, after ``received`` bytes."""
    return ConnectionLost(f"The answer of {url} broke off after {received} bytes: {_reason(list(_causes(error)))}.")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield ``error`` and what it wraps: urllib3 keeps causes in ``reason`` and in its arguments."""
    queue, seen = [error], set[int]()
    while queue and len(seen) < MAX_CAUSES:
        cause = queue.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        linked = [getattr(cause, "reason", None), *cause.args, cause.__cause__, cause.__context__]
        queue += [found for found in linked if isinstance(found, BaseException)]


def _uses_other_scheme(url: str, causes: list[BaseException]) -> bool:
    if url.startswith("https:"):
        return any(
            isinstance(cause, ssl.SSLError) and getattr(cause, "reason", "") in _OTHER_SCHEME for cause in causes
        )
    return any(
        isinstance(cause, http.client.BadStatusLine) and str(cause.args[0]).startswith(_TLS_RECORDS) for cause in causes
    )


def _proxy_failed(causes: list[BaseException], url: str, proxy: str) -> ProxyFailed:
    said = _reason(causes)
    hint = None
    if "407" in said:
        hint = "Put the proxy's credentials into its variable: http://USER:PASSWORD@HOST:PORT."
    return ProxyFailed(f"The proxy {proxy} did not connect to {url}: {said}.", hint)


def _reason(causes: list[BaseException]) -> str:
    """Return in a few words why a connection failed: the innermost cause has them."""
    for cause in causes:
        if isinstance(cause, (TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError)):
            return "it sent nothing for too long"
        if isinstance(cause, http.client.BadStatusLine) and not isinstance(cause, ConnectionError):
            return f"it sent {str(cause.args[0])[:40]!r}, which is not HTTP"
    for cause in reversed(causes):
        text = (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
        if text:
            return _SSL_LINE.sub("", text).rstrip(".")[:MAX_SHOWN_CHARACTERS]
    return type(causes[0]).__name__
