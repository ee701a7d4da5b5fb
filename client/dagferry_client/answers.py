"""What an answer means that is not the one that was asked for: an error of the server, or of something in front of it.

A reverse proxy, an ingress or a login service answers in its own name, mostly with a page of HTML. Nothing of such a
page is shown; the message says what it means and who can change it.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from dagferry_client.credentials import Credentials
from dagferry_client.errors import ClientError, RequestNotAllowed, RequestRefused, ServerTooOld, ServerUnavailable
from dagferry_core.documentation import DOCUMENTATION
from dagferry_core.errors import DagferryError
from dagferry_follow.errors import AnswerInvalid
from dagferry_follow.remote.transport import MAX_SHOWN_CHARACTERS

_OK, _REDIRECT, _NOT_MODIFIED, _ERROR = 200, 300, 304, 400
_NOT_ALLOWED = {401, 403, 404, 409, 410, 423}
_TRY_AGAIN = {502, 503, 504, 507}
_BAD_REQUEST = 400
_EXPECTS_TLS = re.compile(rb"https|\bssl\b", re.IGNORECASE)
"""What a port of Dagferry, nginx, Apache or Go that expects TLS says to plain HTTP."""
_UNAUTHORIZED, _TOO_LARGE, _PROXY_LOGIN = 401, 413, 407
_OPTION = re.compile(r"\?(skip_gate|allow_removals|override_freeze|skip_import_check)=1")
"""How the server's hints write what is an option here."""
_PROXIES = f"{DOCUMENTATION}/how-to/proxies.md"

_IN_FRONT = {
    401: ("asks for a login", "Reach the server past the login, or let the login service pass requests with a token."),
    403: ("forbids the request", "Ask those who run it: a firewall or a login in front of the server may block it."),
    404: ("does not know the path", "Check the server's URL: is it that of a Dagferry server, with the right path?"),
    405: ("does not allow the method", "Check the server's URL: is it that of a Dagferry server, with the right path?"),
    407: ("asks for a login", "Put the proxy's credentials into its variable: http://USER:PASSWORD@HOST:PORT."),
    408: ("waited too long for the request", f"Try again, or raise its timeouts: {_PROXIES}#what-any-proxy-must-do"),
    413: (
        "refuses an upload of this size, before it reaches the server",
        f"Let it pass larger bodies (nginx: client_max_body_size): {_PROXIES}#what-any-proxy-must-do",
    ),
    429: ("limits the number of requests", "Try again later, or raise its limit."),
    502: ("does not reach the server", "Try again. If it persists, is the server running?"),
    503: ("has no server to pass the request to", "Try again. If it persists, is the server running?"),
    504: (
        "waited too long for the server",
        f"Try again. If it persists, raise its timeouts: {_PROXIES}#what-any-proxy-must-do",
    ),
}
"""What something in front of the server means by a status, and what to do."""


def refusal(
    status: int, headers: Mapping[str, str], body: bytes, url: str, credentials: Credentials
) -> DagferryError | None:
    """Return the error that an answer to a request to ``url`` means; ``None`` if it is what a request asks for.

    ``body`` is read of errors only. 304 is a success; ``headers`` are found in any case.
    """
    content_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if _OK <= status < _REDIRECT or status == _NOT_MODIFIED:
        return _web_page(status, url) if content_type == "text/html" else None
    if status < _ERROR:
        to = headers.get("Location", "nowhere")[:MAX_SHOWN_CHARACTERS]
        return AnswerInvalid(
            f"{url} answered {status} and redirects to {to}. Redirects are not followed.",
            "Use the URL that it redirects to if that is the server's, such as https:// instead of http://. "
            "If it is a login page, let requests with a token pass.",
        )
    said = _error_fields(body)
    if said is None:
        if status == _BAD_REQUEST and url.startswith("http:") and _EXPECTS_TLS.search(body):
            return RequestRefused(
                f"{url} expects https, and was asked over plain http.",
                "Write https:// in the server's URL.",
                status=status,
            )
        return _in_front(status, headers, url)
    if said["code"] == "route_not_found":
        server = headers.get("Server", "")
        return ServerTooOld(
            f"The server at {url} ({server[:MAX_SHOWN_CHARACTERS]}) has no endpoint for this command."
            if server
            else f"The server at {url} has no endpoint for this command.",
            status=status,
            reason=said["code"],
        )
    return _server_error(status, headers, said, credentials)


def _error_fields(body: bytes) -> dict[str, Any] | None:
    """Return the fields of an error of the server; ``None`` if something else wrote the body."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or not all(isinstance(said.get(name), str) for name in ("code", "message", "hint")):
        return None
    return said


def _server_error(
    status: int, headers: Mapping[str, str], said: dict[str, Any], credentials: Credentials
) -> ClientError:
    details = {name: value for name, value in said.items() if name not in {"code", "message", "hint"}}
    code, message = said["code"], said["message"]
    hint = _OPTION.sub(lambda found: f"--{found[1].replace('_', '-')}", said["hint"])
    if status == _UNAUTHORIZED:
        hint = f"The token came from {credentials.source}. {hint}" if credentials.source else credentials.missing_hint
    kind: type[ClientError] = RequestRefused if status < 500 else ServerUnavailable  # noqa: PLR2004
    if status in _NOT_ALLOWED:
        kind = RequestNotAllowed
    return kind(message, hint, status=status, reason=code, details=details, retry_after=_retry_after(status, headers))


def _in_front(status: int, headers: Mapping[str, str], url: str) -> ClientError:
    server = headers.get("Server", "")[:MAX_SHOWN_CHARACTERS]
    who = f"Something in front of the server ({server})" if server else "Something in front of the server"
    what, hint = _IN_FRONT.get(
        status, (f"answered {status}", "Check the server's URL, and the proxies between it and this machine.")
    )
    message = f"{who} {what}: {url} answered {status}, but not as Dagferry does."
    if status in _NOT_ALLOWED | {_PROXY_LOGIN}:
        return RequestNotAllowed(message, hint, status=status)
    if status >= 500 or status in {408, 429}:  # noqa: PLR2004
        return ServerUnavailable(message, hint, status=status, retry_after=_retry_after(status, headers))
    return RequestRefused(message, hint, status=status)


def _web_page(status: int, url: str) -> AnswerInvalid:
    return AnswerInvalid(
        f"{url} answered {status} with a web page, which Dagferry does not send. It may be a login page.",
        "Check that the URL is that of a Dagferry server. A login in front of it must let requests with a token pass.",
    )


def _retry_after(status: int, headers: Mapping[str, str]) -> float | None:
    """Return how long to wait before trying again, in seconds; ``None`` if the same request would fail again."""
    if status not in _TRY_AGAIN:
        return None
    text = headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0.0  # noqa: PLR2004
