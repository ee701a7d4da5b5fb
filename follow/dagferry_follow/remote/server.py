"""The HTTP client of a follower: requests deploys from one server, over one connection that is kept open.

A follower is a sidecar, or the DAG bundle inside Airflow.

Promises: every wait is bounded; redirects are never followed; a small answer is read only up to its maximum size; a
bundle is streamed, never held in memory. Every failure is ``ServerUnreachable``, ``ServerRefused`` or
``AnswerInvalid``.
"""

import http.client
import math
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, NoReturn
from urllib.parse import quote

from dagferry_core import __version__, protocol
from dagferry_core.bundle.patch import MAX_PATCH_BYTES
from dagferry_core.documentation import DOCUMENTATION
from dagferry_core.errors import DagferryError
from dagferry_core.limits import PIECE_BYTES
from dagferry_core.typed import typed_json
from dagferry_follow.deploy_ref import DeployRef, read_deploy_ref
from dagferry_follow.errors import AnswerInvalid, ServerRefused, ServerUnreachable
from dagferry_follow.remote.connection import ConnectionOptions, Timeouts
from dagferry_follow.remote.transport import MAX_SHOWN_CHARACTERS, Request, Transport, reason
from dagferry_follow.witness import Stated, read_stated

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 20.0
"""How long the server may send nothing, apart from the wait it was asked for; and how long a small answer may take."""
DOWNLOAD_SECONDS = 900.0
"""How long a bundle may take. A slow trickle is never silent, so the whole download is limited too."""
SILENCE_FIRST_SECONDS = 0.5
"""How much later a whole request is aborted, so that the error says that the server was silent."""
PATCH_PIECE_BYTES = 1024  # so that a slow trickle does not block for long
DEREGISTER_SECONDS = 2.0
MAX_ANSWER_BYTES = 64 * 1024

NO_ACCESS = ConnectionOptions()

WHOLE, PATCH = "whole", "patch"
"""The kinds of ``Download``."""


class Report(NamedTuple):
    """What a follower reports to the server: its live version and the log it is of, and its current error, if any.

    ``in_use`` is how many of its old trees processes use.

    The server counts it as a pod only if the connection names an instance.
    """

    live: str
    error: DagferryError | None
    log_id: str = ""
    in_use: int = 0


class _Refusal(NamedTuple):
    """What the server says about an error."""

    code: str
    message: str


class Download:
    """A bundle or a patch that is being downloaded; it must be read to its end, or aborted.

    ``abort`` closes the connection, also under another thread that reads from it.
    """

    __slots__ = ("_expected", "_response", "abort", "kind", "received")

    def __init__(self, response: http.client.HTTPResponse, kind: str, abort: Callable[[], None]) -> None:
        self._response = response
        self._expected = response.length
        self.abort = abort
        self.kind = kind
        self.received = 0

    def read(self, size: int = PIECE_BYTES) -> bytes:
        """Return the next up to ``size`` bytes, or nothing at the end."""
        try:
            data = self._response.read(size)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise ServerUnreachable(f"The download failed after {self.received} bytes: {reason(error)}.") from error
        self.received += len(data)
        if not data and self._expected is not None and self.received < self._expected:
            raise ServerUnreachable(f"The download ended after {self.received} of {self._expected} bytes.")
        return data

    def read_patch(self, heartbeat: Callable[[], None] = lambda: None) -> bytes:
        """Return all of a patch, which is small; call ``heartbeat`` for each piece."""
        pieces = []
        while piece := self.read(PATCH_PIECE_BYTES):
            heartbeat()
            pieces.append(piece)
            if self.received > MAX_PATCH_BYTES:
                raise AnswerInvalid(f"The patch has more than {MAX_PATCH_BYTES} bytes.")
        return b"".join(pieces)


class Server:
    """One deployment of one server, as a follower sees it.

    ``agent`` names the program; ``instance``, ``component`` and the ``volume`` with its random id name the pod in
    reports. ``once``: the program ends after this deploy, so it sends no reports. ``access`` has its credentials;
    ``timeouts`` is for callers that cannot wait as long as a sidecar.
    """

    def __init__(
        self,
        url: str,
        deployment: str,
        instance: str = "",
        component: str = "",
        *,
        agent: str,
        volume: str = "",
        once: bool = False,
        access: ConnectionOptions = NO_ACCESS,
        timeouts: Timeouts | None = None,
    ) -> None:
        self._timeouts = timeouts or Timeouts(CONNECT_SECONDS, SILENCE_SECONDS, DOWNLOAD_SECONDS)
        self._transport = Transport(url, access)
        self._deployment = deployment
        self._headers = {
            "User-Agent": f"{agent}/{__version__}",
            # A cache in between must not answer for the server.
            "Cache-Control": "no-cache",
            **({protocol.INSTANCE: instance} if instance and not once else {}),
            **({protocol.COMPONENT: component} if component else {}),
            **({protocol.VOLUME: volume} if volume else {}),
            **({protocol.ONCE: "1"} if once else {}),
        }
        self._access = access
        self.stated: Stated | None = None
        """What the last answer of ``current`` says of the entry of the deploy that was reported as live."""

    def close(self) -> None:
        """Close the connection, also under a thread that reads from it."""
        self._transport.close()

    # --- requests ----------------------------------------------------------------------------------------------------

    def current(self, seen: str, wait: int, report: Report | None, *, timeout: float = math.inf) -> DeployRef | None:
        """Return the newest deploy (sequence 0: none yet), or ``None`` if it is still the version ``seen``.

        The server waits up to ``wait`` seconds for another one. Without a ``report`` it does not count this sidecar.
        Afterwards ``stated`` has what it says of the entry of the deploy that the report names.
        ``timeout`` is how many seconds the whole request may take, if that is less than the usual timeouts.
        """
        headers = self._report(report)
        if seen:
            headers["If-None-Match"] = f'"{seen}"'
        if wait:
            headers["Prefer"] = f"wait={wait}"
        response = self._get(
            protocol.CURRENT_PATH, headers, wait + self._timeouts.answer, self._timeouts.connect, timeout
        )
        said = response.headers.get(protocol.ENTRY)
        if response.status == http.client.NOT_MODIFIED:
            response.read()
            self.stated = read_stated(said)
            return None
        deploy = read_deploy_ref(self._read_answer(response))
        self.stated = read_stated(said)
        return deploy

    def download(self, version: str, have: str, *, retained: str = "", timeout: float = math.inf) -> Download:
        """Start the download of ``version``: a patch if the server has one from the version ``have``, else everything.

        ``retained`` is the digest of another tree that is there: a patch to this content may leave out the contents.
        ``timeout`` is how many seconds it may take until the answer begins, if that is less than the usual timeouts.
        """
        headers = {protocol.RETAINED: retained} if have and retained else {}
        return self._download(protocol.VERSION_PATH.replace("{version}", version), have, headers, timeout)

    def _download(
        self, path: str, have: str, headers: Mapping[str, str | None] | None = None, timeout: float = math.inf
    ) -> Download:
        query = f"?{protocol.FROM}={have}" if have else ""
        response = self._get(path + query, headers or {}, SILENCE_SECONDS, self._timeouts.connect, timeout)
        self._transport.limit(self._timeouts.download)
        content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if response.headers.get("Content-Encoding", "identity") != "identity":
            content_type = "content that was compressed in transit"
        if content_type == protocol.BUNDLE_TYPE:
            self._transport.limit_silence(SILENCE_SECONDS)
            return Download(response, WHOLE, self.close)
        if content_type == protocol.PATCH_TYPE and have:
            return Download(response, PATCH, self.close)
        self.close()
        raise AnswerInvalid(f"The server sent {content_type or 'no content type'} instead of a bundle.")

    def send_report(self, body: str) -> bytes:
        """Send a report about Airflow, as JSON, and return the answer, which is JSON too."""
        headers = {"Content-Type": protocol.JSON_TYPE}
        silence, connect_seconds = self._timeouts.answer, self._timeouts.connect
        return self._read_answer(self._get(protocol.REPORTS_PATH, headers, silence, connect_seconds, body=body))

    def deregister(self, report: Report) -> None:
        """Tell the server that this sidecar is shutting down."""
        self.close()
        headers = {**self._report(report), protocol.DEREGISTER: "1"}
        self._read_answer(self._get(protocol.CURRENT_PATH, headers, DEREGISTER_SECONDS, DEREGISTER_SECONDS))

    # --- one request -------------------------------------------------------------------------------------------------

    def _report(self, report: Report | None) -> dict[str, str | None]:
        if report is None:
            return {protocol.INSTANCE: None}
        headers: dict[str, str | None] = {protocol.LIVE: report.live or None, protocol.LOG: report.log_id or None}
        if report.in_use:
            headers[protocol.IN_USE] = str(report.in_use)
        if report.error:
            text = quote(f"{report.error.code}: {report.error.message}", safe=" :/")[: protocol.MAX_ERROR_CHARACTERS]
            headers[protocol.ERROR] = _INCOMPLETE_ESCAPE.sub("", text)
        return headers

    def _get(
        self,
        path: str,
        headers: Mapping[str, str | None],
        silence: float,
        connect_seconds: float,
        timeout: float = math.inf,
        *,
        body: str | None = None,
    ) -> http.client.HTTPResponse:
        """Return the answer with its body unread; its status is 200, or 304 if ``If-None-Match`` was sent.

        With a ``body``, the request is a POST.
        """
        silence, connect_seconds = min(silence, timeout), min(connect_seconds, timeout)
        self._transport.limit(min(connect_seconds + silence, timeout + SILENCE_FIRST_SECONDS))
        together = {**self._headers, **headers, **self._access.headers()}
        response = self._transport.request(
            Request("GET" if body is None else "POST", self._path(path), together, body), silence, connect_seconds
        )
        if response.status == http.client.OK or (
            response.status == http.client.NOT_MODIFIED and "If-None-Match" in headers
        ):
            return response
        try:
            self._refuse(response)
        finally:
            response.close()
            self.close()

    def _path(self, path: str) -> str:
        return self._transport.url.path.rstrip("/") + path.replace("{deployment}", self._deployment)

    def _refuse(self, response: http.client.HTTPResponse) -> NoReturn:
        status = response.status
        if http.client.MULTIPLE_CHOICES <= status < http.client.BAD_REQUEST or status < http.client.OK:
            to = response.headers.get("Location", "nowhere")[:MAX_SHOWN_CHARACTERS]
            raise AnswerInvalid(f"The server answered {status} with the location {to!r}. Redirects are not followed.")
        hint, said = None, ""
        try:
            body = typed_json(_Refusal, response.read(MAX_ANSWER_BYTES))
            said = f"{body.message} ({body.code})"
        except (OSError, ValueError, http.client.HTTPException):
            said = response.reason
            if status == http.client.BAD_REQUEST and self._transport.url.scheme == "http":
                hint = "If the server uses https, write https:// in the URL."
        if status in {http.client.UNAUTHORIZED, http.client.FORBIDDEN}:
            hint = _REFUSED if self._access.token or self._access.token_file else _ANONYMOUS
        shown = "".join(letter if letter.isprintable() else "?" for letter in said[:MAX_SHOWN_CHARACTERS])
        error = ServerRefused(f"The server answered {status}: {shown}", hint)
        error.answered = status
        raise error

    def _read_answer(self, response: http.client.HTTPResponse) -> bytes:
        try:
            body = response.read(MAX_ANSWER_BYTES)
        except (OSError, ValueError, http.client.HTTPException) as error:
            self.close()
            raise ServerUnreachable(f"Reading an answer failed: {reason(error)}.") from error
        if not response.isclosed():
            self.close()
            raise AnswerInvalid(f"An answer is longer than {MAX_ANSWER_BYTES} bytes, or incomplete.")
        return body


_ANONYMOUS = (
    "The server requires credentials: give the sidecar a token with --token-file. "
    f"See {DOCUMENTATION}/how-to/set-up-credentials.md for how to create one."
)
_REFUSED = (
    "Check that --token-file holds a token with scope sync for this deployment. The server's log says why it refused "
    "this one."
)
_INCOMPLETE_ESCAPE = re.compile("%[0-9A-F]?$")
