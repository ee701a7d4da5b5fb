"""``GET /{deployment}/dags/current``: the current deploy, or a long poll for the next one."""

import re

from aiohttp import web

from dagferry_core.protocol import MAX_WAIT_SECONDS
from dagferry_server.http.models import json_response
from dagferry_server.http.negotiation import has_seen, not_modified
from dagferry_server.http.reports import report_of
from dagferry_server.http.request_context import RequestContext

_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?([0-9]{1,6})"?\s*(?=[,;]|$)', re.IGNORECASE)


async def current(context: RequestContext) -> web.StreamResponse:
    """Send the current deploy, unless the caller has seen it: then wait for a change, or answer 304."""
    deployment, headers = context.deployment, context.request.headers
    report = report_of(headers)
    if report:
        deployment.sidecars.record(report, context.service.clock())
    # Before and after the wait: while there may be a newer deploy, neither an older one nor 304 is correct.
    deployment.check_newest()
    tag = deployment.tag
    if not has_seen(headers.get("If-None-Match", ""), tag):
        return json_response(context.state.current_answers.of(deployment), headers={"ETag": f'"{tag}"'})
    seconds = min(wait_seconds(headers.get("Prefer", "")), _seconds_left(context))
    if seconds > 0 and not (report and report.deregister):
        with context.waiting():
            await deployment.waiters.wait(seconds)
        deployment.check_newest()
    if deployment.tag != tag:
        return json_response(context.state.current_answers.of(deployment), headers={"ETag": f'"{deployment.tag}"'})
    return not_modified(tag)


def _seconds_left(context: RequestContext) -> float:
    """Return how long the caller's credentials remain valid; nobody learns of a deploy after that."""
    expires = context.caller.expires
    return MAX_WAIT_SECONDS if expires is None else expires - context.service.clock()


def wait_seconds(prefer: str) -> int:
    """Return the seconds of ``Prefer: wait=N`` (RFC 7240 §4.3), at most ``MAX_WAIT_SECONDS``; 0 if there is none."""
    match = _WAIT.search(prefer)
    return min(int(match[1]), MAX_WAIT_SECONDS) if match else 0
