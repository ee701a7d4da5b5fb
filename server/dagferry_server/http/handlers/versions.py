"""``GET /{deployment}/dags/versions/{version}``: a bundle, or a patch from another version to it.

Candidates are sent in the same way.
"""

import logging
import time
from typing import NamedTuple

from aiohttp import hdrs, web

from dagferry_core.errors import DagferryError
from dagferry_core.protocol import BUNDLE_TYPE, DIGEST, FROM, PATCH_TYPE, RETAINED
from dagferry_runtime.logs import fields
from dagferry_server.deploys.patches import Key
from dagferry_server.errors import BundleGone
from dagferry_server.http.reports import report_of
from dagferry_server.http.request_context import RequestContext

SMALL_PATCH_BYTES = 64 * 1024
"""Up to this size, the patch that the commit made is sent even to a sidecar that needs no contents: it is there."""

log = logging.getLogger(__name__)


class Sent(NamedTuple):
    """A bundle that is sent: what it is called in the log, and its digest."""

    version: str
    digest: str


async def version(context: RequestContext) -> web.StreamResponse:
    """Send a patch from the version that the caller has, if there is one; else the whole bundle."""
    deploy = await context.deployment.deploy(context.request.match_info["version"])
    with context.state.bundle_slots.hold(context.deployment.name, context.caller):
        try:
            return await send_bundle(context, Sent(deploy.version, deploy.digest), context.request.query.get(FROM))
        except BundleGone as error:
            raise context.deployment.gone(deploy) from error


async def send_bundle(context: RequestContext, sent: Sent, have: str | None) -> web.StreamResponse:
    """Send a bundle, or a patch to it from the version ``have``; ``BundleGone`` if it is not stored."""
    patch = await _patch(context, sent.digest, have)
    started = time.monotonic()
    if patch is None:
        response = await _send_whole(context, sent.digest)
    else:
        headers = {"Content-Type": PATCH_TYPE, DIGEST: sent.digest}
        response = await context.state.sender.send_bytes(context.request, patch, headers)
    if context.request.method == hdrs.METH_HEAD:
        return response
    size = response.content_length or 0
    metrics = context.service.metrics
    (metrics.bundle_sent_bytes if patch is None else metrics.patch_sent_bytes).labels(context.deployment.name).inc(size)
    report = report_of(context.request.headers)
    log.info(
        "Bundle sent" if patch is None else "Patch sent",
        extra=fields(
            deployment=context.deployment.name,
            version=sent.version,
            instance=report.instance if report else None,
            bytes=size,
            seconds=round(time.monotonic() - started, 3),
        ),
    )
    return response


async def _patch(context: RequestContext, digest: str, have: str | None) -> bytes | None:
    if have is None:
        return None
    try:
        old = await context.deployment.deploy(have)
    except DagferryError:
        return None
    key = Key(context.deployment.name, old.digest, digest)
    patch = await context.service.patches.get(key)
    if context.request.headers.get(RETAINED) == digest and (patch is None or len(patch) > SMALL_PATCH_BYTES):
        return await context.service.patches.get(key._replace(bare=True)) or patch
    return patch


async def _send_whole(context: RequestContext, digest: str) -> web.StreamResponse:
    store, name = context.service.store, context.deployment.name
    headers = {"Content-Type": BUNDLE_TYPE, DIGEST: digest}
    return await context.state.sender.send_bundle(
        context.request,
        lambda: store.open_bundle(name, digest),
        headers,
        fetched=f"{name}/{digest}" if store.shared else "",
    )
