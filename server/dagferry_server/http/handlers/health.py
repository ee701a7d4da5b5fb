"""``GET /healthz``, ``/readyz`` and ``/metrics``: for whoever looks after the server."""

import asyncio

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from dagferry_server.errors import ShuttingDown
from dagferry_server.http.models import FIXED_HEADERS, StatusAnswer, json_response
from dagferry_server.http.request_context import RequestContext

_OK = StatusAnswer(status="ok")


async def healthz(call: RequestContext) -> web.StreamResponse:  # noqa: ARG001 - every handler takes the call
    """Say that the process answers."""
    return json_response(_OK)


async def readyz(call: RequestContext) -> web.StreamResponse:
    """Say that the store takes writes, and that the newest deploy of every deployment is known.

    A newest entry that is damaged is no reason to be away: the deploy that heals it has to come in.
    """
    if call.service.stopping:
        raise ShuttingDown("The server is stopping.")
    for deployment in call.service.deployments.values():
        if deployment.away:
            deployment.check_newest()
    await asyncio.to_thread(call.service.store.check_writable)
    return json_response(_OK)


async def metrics(call: RequestContext) -> web.StreamResponse:
    """Send the metrics in Prometheus' text format."""
    service = call.service
    deployments = list(service.deployments.values())
    service.metrics.token_expiry.set(service.identifier.token_expiry)
    text = await asyncio.to_thread(service.metrics.render, deployments, service.reloads)
    return web.Response(body=text, headers={**FIXED_HEADERS, "Content-Type": CONTENT_TYPE_LATEST})
