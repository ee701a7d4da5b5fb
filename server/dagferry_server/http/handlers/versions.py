"""``GET /{deployment}/dags/versions/{version}``: a bundle, or the patch that leads to it from another version."""

import logging
import time

from aiohttp import hdrs, web

from dagferry_core.deploylog import Deploy
from dagferry_core.errors import DagferryError
from dagferry_core.protocol import BUNDLE_TYPE, DIGEST, FROM, PATCH_TYPE
from dagferry_runtime.logs import fields
from dagferry_server.deploys.patches import Key
from dagferry_server.errors import BundleGone
from dagferry_server.fleet.sidecars import report_of
from dagferry_server.http.request_context import RequestContext

log = logging.getLogger(__name__)


async def version(call: RequestContext) -> web.StreamResponse:
    """Send the patch from the version that the caller has, if there is one and it is of use; else the whole bundle."""
    deploy = await call.deployment.deploy(call.parts["version"])
    with call.service.bundle_places.taken(call.deployment.name, call.caller):
        return await _send(call, deploy)


async def _send(call: RequestContext, deploy: Deploy) -> web.StreamResponse:
    patch = await _patch(call, deploy)
    started = time.monotonic()
    if patch is None:
        response = await _send_whole(call, deploy)
    else:
        headers = {"Content-Type": PATCH_TYPE, DIGEST: deploy.digest}
        response = await call.service.sender.send_bytes(call.request, patch, headers)
    if call.request.method == hdrs.METH_HEAD:
        return response
    size = response.content_length or 0
    metrics = call.service.metrics
    (metrics.bundle_sent_bytes if patch is None else metrics.patch_sent_bytes).labels(call.deployment.name).inc(size)
    report = report_of(call.request.headers)
    log.info(
        "Bundle sent" if patch is None else "Patch sent",
        extra=fields(
            deployment=call.deployment.name,
            version=deploy.version,
            instance=report.instance if report else None,
            bytes=size,
            seconds=round(time.monotonic() - started, 3),
        ),
    )
    return response


async def _patch(call: RequestContext, deploy: Deploy) -> bytes | None:
    have = call.request.query.get(FROM)
    if have is None:
        return None
    try:
        old = await call.deployment.deploy(have)
    except DagferryError:
        return None
    return await call.service.patches.get(Key(call.deployment.name, old.digest, deploy.digest))


async def _send_whole(call: RequestContext, deploy: Deploy) -> web.StreamResponse:
    store, name = call.service.store, call.deployment.name
    headers = {"Content-Type": BUNDLE_TYPE, DIGEST: deploy.digest}
    try:
        return await call.service.sender.send_bundle(
            call.request, lambda: store.open_bundle(name, deploy.digest), headers
        )
    except BundleGone as error:
        raise call.deployment.gone(deploy) from error
