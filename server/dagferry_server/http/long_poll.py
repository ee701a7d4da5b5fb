"""What long polls share: for how long a request may wait."""

import re

from dagferry_core.protocol import MAX_WAIT_SECONDS
from dagferry_server.http.request_context import RequestContext

_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?([0-9]{1,6})"?\s*(?=[,;]|$)', re.IGNORECASE)


def wait_seconds(prefer: str) -> int:
    """Return the seconds of ``Prefer: wait=N`` (RFC 7240 §4.3), at most ``MAX_WAIT_SECONDS``; 0 if there is none."""
    match = _WAIT.search(prefer)
    return min(int(match[1]), MAX_WAIT_SECONDS) if match else 0


def may_wait(context: RequestContext) -> float:
    """Return for how many seconds a request may wait: as it prefers, but not beyond the caller's credentials."""
    seconds = wait_seconds(context.request.headers.get("Prefer", ""))
    expires = context.caller.expires
    # Nobody learns of anything after that.
    return seconds if expires is None else min(seconds, expires - context.service.clock())
