"""One line in the log for every attempt to change something: who, what, with which outcome; refused ones too."""

import logging

from aiohttp import web

from dagferry_core.command import fields
from dagferry_server.auth.access import MAX_NAME_CHARACTERS, Caller
from dagferry_server.metrics import OUTCOME_OK

BROKEN_OFF = "broken_off"
"""The outcome if the client went away before its answer; a deploy that was logged before stands."""
_READS = {"GET", "HEAD", "OPTIONS"}

log = logging.getLogger(__name__)


class Audit:
    """The line about one request for ``path``: its route's, or its own if it has none.

    ``caller`` is set as soon as it is known. A request that only reads has no line.
    """

    __slots__ = ("_call", "_deployment", "_peer", "_reads", "caller")

    def __init__(self, request: web.BaseRequest, path: str, deployment: str | None = None) -> None:
        self._reads = request.method in _READS
        self._call = f"{request.method[:20]} {path[:200]}"
        self._peer = request.remote
        self._deployment = (deployment or "")[:MAX_NAME_CHARACTERS]
        self.caller: Caller | None = None

    def log(self, outcome: str, error: str = "") -> None:
        """Write the line: ``outcome`` is ``ok``, ``broken_off``, or the code of the error, whose text is ``error``."""
        if self._reads:
            return
        log.log(
            logging.INFO if outcome == OUTCOME_OK else logging.WARNING,
            "Audit",
            extra=fields(
                deployment=self._deployment,
                call=self._call,
                actor=self.caller.actor if self.caller else "",
                outcome=outcome,
                error=error,
                peer=self._peer,
            ),
        )
