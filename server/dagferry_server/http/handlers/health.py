"""``GET /healthz``, ``/readyz`` and ``/metrics``: for monitoring."""

import asyncio

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from dagferry_server.http.models import FIXED_HEADERS, StatusAnswer, json_response
from dagferry_server.http.request_context import RequestContext

_OK = StatusAnswer(status="ok")


async def healthz(context: RequestContext) -> web.StreamResponse:  # noqa: ARG001 - every handler takes it
    """Report that the process is alive."""
    return json_response(_OK)


async def readyz(context: RequestContext) -> web.StreamResponse:
    """Report that requests should be sent to this server; see ``Readiness``."""
    await context.service.readiness.check()
    return json_response(_OK)


async def metrics(context: RequestContext) -> web.StreamResponse:
    """Send the metrics in Prometheus' text format."""
    service = context.service
    deployments = list(service.deployments.values())
    for deployment in deployments:
        deployment.fleet.status()
    shown = service.metrics
    shown.token_expiry.set(service.authenticator.token_expiry)
    shown.certificate_expiry.set(context.state.certificate_expiry)
    size_bytes, free_bytes = await asyncio.to_thread(service.folder.volume_bytes)
    shown.volume_bytes.set(size_bytes)
    shown.volume_free_bytes.set(free_bytes)
    reloads = {**service.reloads, **context.state.reloads}
    text = await asyncio.to_thread(shown.render, deployments, reloads, service.clock())
    return web.Response(body=text, headers={**FIXED_HEADERS, "Content-Type": CONTENT_TYPE_LATEST})
