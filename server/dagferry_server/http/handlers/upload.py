"""``POST /{deployment}/dags/upload``: receives a file and makes it the current deploy."""

import logging
import time

from aiohttp import web

from dagferry_core.archive.errors import PathRefused
from dagferry_core.archive.paths import check_path
from dagferry_core.limits import UploadLimit
from dagferry_core.protocol import ROOT
from dagferry_runtime.logs import fields
from dagferry_server.auth.access import authorize_write
from dagferry_server.deploys.deployer import DeployResult
from dagferry_server.deploys.receive import Received
from dagferry_server.errors import RequestError, ShuttingDown, UploadTooSlow
from dagferry_server.http.models import json_response, upload_answer
from dagferry_server.http.request_context import RequestContext
from dagferry_server.http.upload_body import UploadBody, check_length
from dagferry_server.metrics import OUTCOME_OK, OUTCOME_UNCHANGED

log = logging.getLogger(__name__)


async def upload(context: RequestContext) -> web.StreamResponse:
    """Receive, check and deploy. An upload that fails is counted where its error becomes a response."""
    result = await _upload(context)
    outcome = OUTCOME_UNCHANGED if result.unchanged else OUTCOME_OK
    context.service.metrics.uploads.labels(context.deployment.name, outcome).inc()
    return json_response(upload_answer(result))


async def _upload(context: RequestContext) -> DeployResult:
    service, deployment = context.service, context.deployment
    if service.stopping:
        raise ShuttingDown("The server is stopping.")
    authorize_write(deployment.name, "", context.caller)
    deployment.refuse_if_disabled()
    if not deployment.loaded:
        deployment.check_newest()
    root = _root(context)
    limit = service.upload_limit(deployment)
    check_length(context.request, limit)
    with context.state.upload_slots.hold(deployment.name, context.caller):
        return await _receive_and_deploy(context, limit, root)


def _root(context: RequestContext) -> str | None:
    """Return the folder of the archive that is to be deployed, if the client names one."""
    root = context.request.query.get(ROOT)
    if root is None:
        return None
    if not root:  # an unset variable in a script must not choose what is deployed
        raise RequestError("root is empty. root=PATH deploys the folder PATH of the archive, root=. the whole archive.")
    try:
        return check_path(root.encode()) or "."
    except (PathRefused, UnicodeEncodeError) as error:
        raise RequestError(f"root={root[:40]!r} cannot be a folder of an archive.") from error


async def _receive_and_deploy(context: RequestContext, limit: UploadLimit, root: str | None) -> DeployResult:
    deployer, deployment = context.service.deployer, context.deployment
    async with deployer.incoming(deployment) as file:
        context.body.send_continue()
        started = time.monotonic()
        body = UploadBody(context.request)
        count = context.service.metrics.received_bytes.labels(deployment.name).inc
        try:
            received = await body.receive(file, limit, count)
        except UploadTooSlow:
            context.body.abort()
            raise
        _note(context, received, time.monotonic() - started)
        result = await deployer.deploy(
            deployment, received, description=body.description, actor=context.caller.actor, root=root
        )
    log.info(
        "Upload answered",
        extra=fields(
            deployment=deployment.name,
            sha256=received.sha256,
            version=result.deploy.version,
            digest=result.deploy.digest,
            unchanged=result.unchanged,
            warnings=len(result.warnings),
            excluded=result.excluded_files,
        ),
    )
    return result


def _note(context: RequestContext, received: Received, seconds: float) -> None:
    name = context.deployment.name
    context.service.metrics.receive_seconds.labels(name).observe(seconds)
    log.info(
        "Upload received",
        extra=fields(
            deployment=name,
            actor=context.caller.actor,
            bytes=received.size,
            sha256=received.sha256,
            seconds=round(seconds, 3),
        ),
    )
