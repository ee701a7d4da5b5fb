"""``POST /{deployment}/dags/upload``: a file comes in and becomes the current deploy."""

import asyncio
import logging
import time

from aiohttp import web

from dagferry_core.archive.paths import check_path
from dagferry_core.errors import PathRefused, RequestError, ShuttingDown, StoreFailed, StoreFull, UploadTooSlow
from dagferry_core.limits import UploadLimit
from dagferry_runtime.logs import fields
from dagferry_server.deploys.check import deploy_upload
from dagferry_server.deploys.receive import Received, check_length, receive
from dagferry_server.deploys.retention import apply_retention
from dagferry_server.http.models import UploadAnswer, json_response
from dagferry_server.http.request_context import RequestContext
from dagferry_server.metrics import OUTCOME_OK, OUTCOME_UNCHANGED

log = logging.getLogger(__name__)


async def upload(call: RequestContext) -> web.StreamResponse:
    """Receive, check and deploy. An upload that fails is counted where its error becomes an answer."""
    answer = await _upload(call)
    outcome = OUTCOME_UNCHANGED if answer.unchanged else OUTCOME_OK
    call.service.metrics.uploads.labels(call.deployment.name, outcome).inc()
    return json_response(answer)


async def _upload(call: RequestContext) -> UploadAnswer:
    service, deployment = call.service, call.deployment
    if service.stopping:
        raise ShuttingDown("The server is stopping.")
    deployment.refuse_if_disabled()
    if not deployment.loaded:
        deployment.check_newest()
    root = _root(call)
    limit = service.upload_limit(deployment)
    check_length(call.request, limit)
    with service.upload_places.taken(deployment.name, call.caller):
        return await _receive_and_deploy(call, limit, root)


def _root(call: RequestContext) -> str | None:
    """Return the folder of the archive that is to be deployed, if the client names one."""
    root = call.request.query.get("root")
    if root is None:
        return None
    if not root:  # an unset variable in a script must not choose what is deployed
        raise RequestError("root is empty. root=PATH deploys what lies under PATH in the archive, root=. all of it.")
    try:
        return check_path(root.encode()) or "."
    except (PathRefused, UnicodeEncodeError) as error:
        raise RequestError(f"root={root[:40]!r} cannot be a folder of an archive.") from error


async def _receive_and_deploy(call: RequestContext, limit: UploadLimit, root: str | None) -> UploadAnswer:
    service, deployment = call.service, call.deployment
    file = await asyncio.to_thread(service.folder.scratch_file, deployment.name)
    try:
        call.body.invite()
        started = time.monotonic()
        count = service.metrics.received_bytes.labels(deployment.name).inc
        received = await receive(call.request, file, limit, count)
        _note(call, received, time.monotonic() - started)
        answer = await deploy_upload(
            service,
            deployment,
            received,
            actor=call.caller.actor,
            root=root,
        )
    except UploadTooSlow:
        call.body.give_up()
        raise
    except (StoreFailed, StoreFull):
        # A bundle may have been stored that no deploy names; on a full volume its space is needed.
        service.spawn(apply_retention(service))
        raise
    finally:
        await asyncio.to_thread(service.folder.discard, file)
    if not answer.unchanged:
        service.spawn(apply_retention(service))
    log.info(
        "Upload answered",
        extra=fields(
            deployment=deployment.name,
            sha256=received.sha256,
            version=answer.version,
            digest=answer.digest,
            unchanged=answer.unchanged,
            warnings=len(answer.warnings),
            excluded=answer.excluded,
        ),
    )
    return answer


def _note(call: RequestContext, received: Received, seconds: float) -> None:
    name = call.deployment.name
    call.service.metrics.receive_seconds.labels(name).observe(seconds)
    log.info(
        "Upload received",
        extra=fields(
            deployment=name,
            actor=call.caller.actor,
            bytes=received.size,
            sha256=received.sha256,
            seconds=round(seconds, 3),
        ),
    )
