"""``POST /{deployment}/dags/upload``: receives a file and makes it the current deploy."""

import logging
import time
from contextlib import ExitStack

from aiohttp import web

from dagferry_core.archive.errors import PathRefused
from dagferry_core.archive.paths import check_path
from dagferry_core.limits import UploadLimit
from dagferry_core.protocol import GIT, ROOT
from dagferry_runtime.logs import fields
from dagferry_server.deploys.deployer import Begun
from dagferry_server.deploys.receive import Received
from dagferry_server.deploys.request import Change, DeployRequest
from dagferry_server.errors import RequestError, UploadTooSlow
from dagferry_server.http.change_parameters import change_of, refuse_excluded, under_of, with_removed
from dagferry_server.http.deploy_answer import answer_deploy
from dagferry_server.http.deploy_request import deploy_request, read_git
from dagferry_server.http.request_context import RequestContext
from dagferry_server.http.upload_body import UploadBody, check_length

log = logging.getLogger(__name__)


async def upload(context: RequestContext) -> web.StreamResponse:
    """Receive, check and deploy."""
    service, deployment = context.service, context.deployment
    under = under_of(context.request.query)
    request = await deploy_request(context, under)
    refuse_excluded(under, deployment.settings.archive_rules.exclude)
    root = _root(context)
    change = change_of(context.request.query)
    read_git(context.request.query.get(GIT))  # before the file, if it is known by then
    limit = service.upload_limit(deployment)
    check_length(context.request, limit)
    with ExitStack() as keep:
        with context.state.upload_slots.hold(deployment.name, context.caller):
            begun, received = await _receive_and_begin(context, limit, request, root, change, keep=keep)
        result = await service.deployer.finish(begun)  # without a place, as it may wait for a checker
    log.info(
        "Upload answered",
        extra=fields(
            deployment=deployment.name,
            sha256=received,
            version=result.deploy.version if result.deploy else None,
            digest=result.digest,
            dry_run=result.request.dry_run,
            unchanged=result.unchanged,
            warnings=len(result.warnings),
            excluded=result.excluded_files,
        ),
    )
    return answer_deploy(context, result)


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


async def _receive_and_begin(
    context: RequestContext,
    limit: UploadLimit,
    request: DeployRequest,
    root: str | None,
    change: Change | None,
    *,
    keep: ExitStack,
) -> tuple[Begun, str]:
    """Return the deploy, as far as it gets with what was received, and the sha256 of the file."""
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
        request = request._replace(description=body.description, git=read_git(body.git))
        change = with_removed(change, body.removed)
        begun = await deployer.begin(deployment, received, request, keep=keep, root=root, change=change)
    return begun, received.sha256


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
