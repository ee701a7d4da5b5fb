"""What follows a request that deployed: it is counted, the audit log gets its result, and it is answered."""

from aiohttp import web

from dagferry_server.deploys.deployer import DeployResult
from dagferry_server.http.models import json_response, upload_answer
from dagferry_server.http.request_context import RequestContext
from dagferry_server.metrics import OUTCOME_DRY_RUN, OUTCOME_OK, OUTCOME_UNCHANGED


def answer_deploy(context: RequestContext, result: DeployResult) -> web.Response:
    """Return the response."""
    note_deploy(context, result)
    return json_response(upload_answer(result))


def note_deploy(context: RequestContext, result: DeployResult) -> None:
    """Count the request, and note its result. One that fails is counted where its error becomes a response."""
    outcome = OUTCOME_UNCHANGED if result.unchanged else OUTCOME_OK
    if result.request.dry_run:
        outcome = OUTCOME_DRY_RUN
    context.service.metrics.count_deploy(context.deployment.name, result.request.kind, outcome)
    context.note(version=result.deploy.version if result.deploy else None, unchanged=result.unchanged or None)
    if check := result.request.import_check:
        context.note(import_check=check.note or check.policy)
