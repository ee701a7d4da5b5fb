"""``GET /{deployment}/dags/status``: whether every pod has the newest deploy live, or a long poll for a change."""

import asyncio

from aiohttp import web

from dagferry_server.http.long_poll import may_wait
from dagferry_server.http.models import json_response
from dagferry_server.http.negotiation import has_seen, not_modified
from dagferry_server.http.request_context import RequestContext
from dagferry_server.http.status_answers import WrittenStatus


async def status(context: RequestContext) -> web.StreamResponse:
    """Send the status, unless the caller has seen it: then wait for another one, or answer 304."""
    written, is_new = await awaited_status(context)
    return json_response(written.body, headers={"ETag": f'"{written.tag}"'}) if is_new else not_modified(written.tag)


async def awaited_status(context: RequestContext) -> tuple[WrittenStatus, bool]:
    """Return the status as soon as it is not the one that the caller has seen, and whether it is another one.

    Waits as long as the caller prefers. Who waits is notified of changes together: no more often than the fleet is
    judged.
    """
    fleet, seen = context.deployment.fleet, context.request.headers.get("If-None-Match", "")
    written = _written(context)
    if seen and (seconds := may_wait(context)) > 0:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        with context.waiting():
            while (fleet.unsettled or has_seen(seen, written.tag)) and (left := end - loop.time()) > 0:
                if not await fleet.waiters.wait(left):
                    break
                context.service.deployments.find(context.deployment.name)  # it may have been removed
                written = _written(context)
    return written, not has_seen(seen, written.tag)


def _written(context: RequestContext) -> WrittenStatus:
    return context.state.status_answers.of(context.deployment, context.service.clock)
