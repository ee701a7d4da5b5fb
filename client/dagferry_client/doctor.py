"""What may be wrong between this machine and a deployment: checks, each with what it found and what to do.

The checks go from this machine towards the server. One that fails is the last: the others need what it lacks, and are
skipped. What works but deserves attention is a warning. Nothing is changed anywhere.
"""

import difflib
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from dagferry_client.api import Access, Api, Identity
from dagferry_client.credentials import Credentials, TokenSource
from dagferry_client.errors import RequestNotAllowed, ServerTooOld
from dagferry_client.failures import concerns_tls, failure
from dagferry_client.http import Http
from dagferry_client.output import ago, size, utc
from dagferry_client.settings import Target
from dagferry_client.states import notes
from dagferry_core import __version__
from dagferry_core.errors import DagferryError, SetupError
from dagferry_core.loopback import is_loopback
from dagferry_follow.errors import AnswerInvalid, ProxyFailed, ServerUnreachable, TokenUnreadable

NAMES = ("settings", "dns", "proxy", "connection", "tls", "server", "clock", "token", "scopes", "limits")
"""Every check, in its order."""
_HEALTH = "/healthz"
"""What every version of the server answers, without credentials."""
MAX_HEALTH_BYTES = 1000
MAX_SKEW_SECONDS = 5.0
"""How far this machine's clock may be from the server's."""
CERTIFICATE_SECONDS = 14 * 86400.0
TOKEN_SECONDS = 7 * 86400.0
"""A certificate, and a token of the server's tokens file, that expire sooner are warnings."""
MAX_ADDRESSES = 3


State = Literal["ok", "warning", "failed", "skipped"]


class Check(NamedTuple):
    """What one check found; ``hint`` says what to do, if anything is to be done."""

    name: str
    state: State
    message: str
    hint: str


class _Failed(Exception):
    def __init__(self, name: str, error: DagferryError) -> None:
        super().__init__(name)
        self.name = name
        self.error = error


class Examination:
    """The checks for the target that ``find_target`` returns; ``error`` is why one failed."""

    def __init__(self, find_target: Callable[[], Target], say: Callable[[str], None]) -> None:
        self._find_target = find_target
        self._say = say
        self.target: Target | None = None
        self.error: DagferryError | None = None

    def checks(self) -> Iterator[Check]:
        """Yield every check of ``NAMES``, each as soon as it is done."""
        left = list(NAMES)
        try:
            for check in self._all():
                left.remove(check.name)
                yield check
        except _Failed as failed:
            self.error = failed.error
            for name in left:
                if name == failed.name:
                    yield Check(name, "failed", failed.error.message, failed.error.hint)
                else:
                    yield Check(name, "skipped", f"It needs {failed.name}.", "")

    def _all(self) -> Iterator[Check]:
        try:
            target = self.target = self._find_target()
        except DagferryError as error:
            raise _Failed("settings", error) from error
        yield _settings(target)
        # Without a token, so that only a Dagferry server ever gets it.
        nobody = _http(target, Credentials(TokenSource(), target.server, {}), self._say)
        yield _dns(target, nobody.proxy)
        began = time.time()
        proxy = _ok("proxy", f"Through {nobody.proxy}." if nobody.proxy else "None is used.")
        try:
            answer = _answer_of(nobody)
        except _Failed as failed:
            if failed.name != "proxy":
                yield proxy
            if failed.name == "tls":
                yield _ok("connection", "The port answers.")
            raise
        connected = [proxy, _ok("connection", "The server answers."), _tls(target, nobody)]
        if answer is not None:
            yield from connected
            raise _Failed("server", answer)
        credentials = Credentials(target.token, target.server, os.environ)
        http = _http(target, credentials, self._say)
        api, identity, refused = Api(http), None, None
        try:
            identity = api.whoami()
        except DagferryError as error:
            refused = error
        yield from connected
        if refused and not _is_about_the_token(refused):
            raise _Failed("server", refused)
        yield _server(nobody)
        yield _clock(http.seen.headers or nobody.seen.headers, began, time.time())
        if identity is None:
            assert refused  # noqa: S101 - one of them is there
            raise _Failed("token", refused)
        yield _token(identity, credentials)
        yield _scopes(target, identity)
        yield _limits(target, api)


def _ok(name: str, message: str) -> Check:
    return Check(name, "ok", message, "")


def _http(target: Target, credentials: Credentials, say: Callable[[str], None]) -> Http:
    try:
        return Http(target, credentials, say)
    except ProxyFailed as error:
        raise _Failed("proxy", error) from error
    except SetupError as error:
        raise _Failed("tls", error) from error


def _answer_of(http: Http) -> DagferryError | None:
    """Ask whether the server is alive; return the error that the answer means. ``_Failed`` if there is no answer."""
    try:
        answer = http.request("GET", _HEALTH, repeat_seconds=0)
    except ProxyFailed as error:
        raise _Failed("proxy", error) from error
    except ServerUnreachable as error:
        raise _Failed("tls" if concerns_tls(error) else "connection", error) from error
    except DagferryError as error:
        return error
    if b'"status"' not in answer.body[:MAX_HEALTH_BYTES]:
        return AnswerInvalid(
            f"{http.target.server} answers, but not as Dagferry does.", "Check the server's URL, and its path."
        )
    return None


def _is_about_the_token(error: DagferryError) -> bool:
    if isinstance(error, ServerTooOld):
        return False
    # What is in front of the server may not allow a request either, but has no code for it.
    return isinstance(error, TokenUnreadable | SetupError) or (
        isinstance(error, RequestNotAllowed) and bool(error.reason)
    )


# --- one by one ------------------------------------------------------------------------------------------------------


def _settings(target: Target) -> Check:
    deployment = f"deployment {target.deployment}" if target.deployment else "no deployment"
    named = f", target {target.name}" if target.name else ""
    message = f"{target.server} (by {target.source}), {deployment}{named}."
    url = urlsplit(target.server)
    if url.scheme == "http" and not is_loopback(url.hostname or ""):
        return Check(
            "settings",
            "warning",
            f"{message} It is plain HTTP.",
            "Use https, unless you trust the network: others on it can read and change what is sent.",
        )
    return _ok("settings", message)


def _dns(target: Target, proxy: str) -> Check:
    if proxy:
        return Check("dns", "skipped", "The proxy finds the host.", "")
    url = urlsplit(target.server)
    try:
        found = socket.getaddrinfo(url.hostname, url.port or url.scheme, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise _Failed("dns", failure(error, target.server, None, "")) from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    more = f" and {len(addresses) - MAX_ADDRESSES} more" if len(addresses) > MAX_ADDRESSES else ""
    return _ok("dns", f"{url.hostname} is {', '.join(addresses[:MAX_ADDRESSES])}{more}.")


def _tls(target: Target, http: Http) -> Check:
    if not target.server.startswith("https:"):
        return Check("tls", "skipped", "The server's URL is http.", "")
    by = f"by {target.ca_file}" if target.ca_file else "by this machine's CAs"
    expires = http.seen.certificate.get("notAfter")
    if not expires:
        return _ok("tls", f"The certificate is trusted {by}.")
    at = ssl.cert_time_to_seconds(expires)
    message = f"The certificate is trusted {by}, and expires {ago(at)} ({utc(at)})."
    if at - time.time() < CERTIFICATE_SECONDS:
        return Check("tls", "warning", message, "Renew the server's certificate.")
    return _ok("tls", message)


def _server(http: Http) -> Check:
    # A proxy may replace the header by its own name.
    program = http.seen.headers.get("Server", "").strip()
    is_ours = program.startswith("dagferry/")
    said = f"It is {program}" if is_ours else "It is a Dagferry server"
    return _ok("server", f"{said}; this command is dagferry/{__version__}.")


def _clock(headers: Mapping[str, str], began: float, ended: float) -> Check:
    text = headers.get("Date", "")
    try:
        server = parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return Check("clock", "skipped", "The server does not say what time it is.", "")
    # The header has whole seconds, and was written at some moment between the two.
    ahead = max(began - (server + 1), min(ended - server, 0.0))
    if abs(ahead) <= MAX_SKEW_SECONDS:
        return _ok("clock", f"This machine's clock and the server's differ by less than {MAX_SKEW_SECONDS:.0f} s.")
    return Check(
        "clock",
        "warning",
        f"This machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the server's.",
        "Correct the one that is wrong (NTP): tokens and certificates expire by these clocks.",
    )


def _token(identity: Identity, credentials: Credentials) -> Check:
    source = credentials.source
    message = f"You are {identity.actor}" + (f", by the token of {source}." if source else ", without a token.")
    if identity.expires is None:
        return _ok("token", message)
    message += f" It expires {ago(identity.expires)} ({utc(identity.expires)})."
    # Others, such as those of CI jobs, live for minutes and are issued anew for each job.
    if identity.actor.startswith("token:") and identity.expires - time.time() < TOKEN_SECONDS:
        return Check("token", "warning", message, "Ask the server's operators for a new token.")
    return _ok("token", message)


def _scopes(target: Target, identity: Identity) -> Check:
    rows = {row.name: row for row in identity.deployments}
    if not target.deployment:
        if not rows:
            raise _Failed(
                "scopes", RequestNotAllowed("You may not see any deployment.", "Ask for a token with scopes.")
            )
        return _ok("scopes", "; ".join(f"{name}: {_shown(row)}" for name, row in rows.items()) + ".")
    if target.deployment not in rows:
        near = difflib.get_close_matches(target.deployment, rows, 1)
        others = f"Did you mean {near[0]}?" if near else f"You have scopes on: {', '.join(rows) or 'none'}."
        raise _Failed(
            "scopes",
            RequestNotAllowed(
                f"You have no scope on {target.deployment}, if it exists. {others}",
                "Check its name, or ask for a token with scopes on it.",
            ),
        )
    row = rows[target.deployment]
    message = f"{target.deployment}: {_shown(row)}."
    if "deploy" not in row.scopes:
        return Check("scopes", "warning", f"{message} You may not deploy.", "Ask for a token with scope deploy.")
    return _ok("scopes", message)


def _shown(row: Access) -> str:
    return " ".join(row.scopes) + (f", uploads only below {' '.join(row.prefixes)}" if row.prefixes else "")


def _limits(target: Target, api: Api) -> Check:
    try:
        listed = [one for one in api.deployments() if target.deployment in ("", one.name)]
    except DagferryError as error:
        raise _Failed("limits", error) from error
    message = "; ".join(f"{one.name}: uploads up to {size(one.upload_limit_bytes)}" for one in listed) + "."
    closed = [f"{one.name} is closed. {note}" for one in listed for note in notes(one.disabled, one.frozen)]
    if closed:
        hint = "Deploys are refused until its operators open it."
        return Check("limits", "warning", " ".join((message, *closed)), hint)
    return _ok("limits", message)
