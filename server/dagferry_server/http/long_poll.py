"""What long polls share: which answer the caller has seen, and for how long it may wait for another one."""

import re

from dagferry_core.protocol import MAX_WAIT_SECONDS
from dagferry_server.http.request_context import RequestContext

_TAG = re.compile(r'(?:W/)?"([^"]*)"')
_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?([0-9]{1,6})"?\s*(?=[,;]|$)', re.IGNORECASE)


def has_seen(if_none_match: str, tag: str) -> bool:
    """Return whether ``If-None-Match`` (RFC 9110 §13.1.2: a list of tags, weak or not, or ``*``) covers ``tag``."""
    return if_none_match.strip() == "*" or tag in _TAG.findall(if_none_match)


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
