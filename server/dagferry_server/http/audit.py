"""Who did what, with which outcome, in the log.

Every attempt to change something is one line, refused ones too, and so is every download of content. Other reads are
not; where they are refused, they are counted: see ``refusals``.
"""

import logging

from aiohttp import web

from dagferry_runtime.logs import fields
from dagferry_server.auth.access import MAX_NAME_CHARACTERS, Caller
from dagferry_server.fleet.sidecars import report_of
from dagferry_server.http.refused_reads import Refusals
from dagferry_server.metrics import OUTCOME_OK

CLIENT_DISCONNECTED = "client_disconnected"
"""The outcome if the client went away before its answer; a deploy that was logged before stands."""
_READS = {"GET", "HEAD", "OPTIONS"}

log = logging.getLogger(__name__)


class Audit:
    """The line about one request for ``path``: its route's, or its own if it has none.

    ``caller`` is set as soon as it is known. ``sends_content`` says that the answer is what somebody deployed.
    """

    __slots__ = ("_call", "_deployment", "_reads", "_refusals", "_request", "_sends_content", "caller")

    def __init__(
        self,
        request: web.BaseRequest,
        refusals: Refusals,
        path: str,
        deployment: str | None = None,
        *,
        sends_content: bool = False,
    ) -> None:
        self._request = request
        self._refusals = refusals
        self._reads = request.method in _READS
        self._sends_content = sends_content
        self._call = f"{request.method[:20]} {path[:200]}"
        self._deployment = (deployment or "")[:MAX_NAME_CHARACTERS]
        self.caller: Caller | None = None

    def log(self, outcome: str, error: str = "") -> None:
        """Write the line. ``outcome`` is ``ok``, ``client_disconnected``, or an error's code; ``error`` is its text."""
        actor, peer = self.caller.actor if self.caller else "", self._request.remote or ""
        who: dict[str, object] = {"deployment": self._deployment, "call": self._call, "actor": actor}
        if self._reads and outcome not in {OUTCOME_OK, CLIENT_DISCONNECTED}:
            report = report_of(self._request.headers)
            instance = report.instance if report else ""
            self._refusals.log(actor or peer, outcome, instance, **who, error=error, peer=peer)
        elif self._sends_content or not self._reads:
            log.log(
                logging.INFO if outcome == OUTCOME_OK else logging.WARNING,
                "Audit",
                extra=fields(**who, outcome=outcome, error=error, peer=peer),
            )
