"""The audit log: who did what, and with which outcome.

Every attempt to change something is one line, rejected attempts included, and so is every download of content. Other
reads are not logged unless they are rejected, and those are summarized: see ``rejected_reads``.
"""

import logging

from aiohttp import web

from dagferry_runtime.logs import fields
from dagferry_server.auth.access import MAX_NAME_CHARACTERS
from dagferry_server.http.reports import report_of
from dagferry_server.http.request_context import CALLER, NOTES, STATE, named_deployment
from dagferry_server.http.routing import Route
from dagferry_server.metrics import CLIENT_DISCONNECTED, OUTCOME_OK

MAX_NOTE_CHARACTERS = 200
"""How much of a text that a request has is shown."""
_READS = {"GET", "HEAD", "OPTIONS"}

log = logging.getLogger(__name__)


def audit(request: web.Request, route: Route | None, outcome: str, error: str = "") -> None:
    """Log the outcome of a request for ``route``, which is ``None`` if there is none for its method and path.

    ``outcome`` is ``ok``, ``client_disconnected``, or an error's code; ``error`` is its text.
    """
    reads = request.method in _READS or (route is not None and route.is_read)
    succeeded = outcome == OUTCOME_OK
    refused_read = reads and not succeeded and outcome != CLIENT_DISCONNECTED
    if reads and not refused_read and not (route and route.sends_content):
        return
    caller = request.get(CALLER)
    actor, peer = caller.actor if caller else "", request.remote or ""
    path = route.path if route else request.rel_url.raw_path
    who: dict[str, object] = {
        "deployment": _shown(named_deployment(request) or "") if route else "",
        "request": f"{request.method[:20]} {path[:200]}",
        "actor": actor,
    }
    if refused_read:
        report = report_of(request.headers)
        instance = report.instance if report else ""
        request.app[STATE].rejected_reads.log(actor or peer, outcome, instance, **who, error=error, peer=peer)
    else:
        level = logging.INFO if succeeded else logging.WARNING
        if route and route.kind:
            who["kind"] = route.kind
        notes = request.get(NOTES, {})
        who |= {name: _shown(value, MAX_NOTE_CHARACTERS) for name, value in notes.items()}
        log.log(level, "Audit", extra=fields(**who, outcome=outcome, error=error, peer=peer))


def _shown(value: object, limit: int = MAX_NAME_CHARACTERS) -> object:
    """Return what a request has for a name, so that it is on one line for every reader of the log."""
    if not isinstance(value, str):
        return value
    name = value[:limit]
    return name if name.isprintable() else name.encode("unicode_escape").decode()
