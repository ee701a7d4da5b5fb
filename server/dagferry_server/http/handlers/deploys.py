"""``GET /{deployment}/dags/deploys``: the deploy log, newest first, in pages; and one deploy with its details."""

import asyncio

from aiohttp import web

from dagferry_core.deploy_details import DeployDetails, decode_details
from dagferry_core.deploylog import Deploy
from dagferry_core.names import MAX_SEQUENCE
from dagferry_core.protocol import BEFORE, LIMIT
from dagferry_runtime.logs import log_failure
from dagferry_server.errors import StoreDamaged
from dagferry_server.http.models import DeploysAnswer, deploy_answer, json_response, one_deploy_answer
from dagferry_server.http.request_context import RequestContext
from dagferry_server.store.base import Store, decoding

PAGE_DEPLOYS = 50
MAX_PAGE_DEPLOYS = 200


async def deploys(context: RequestContext) -> web.StreamResponse:
    """Send one page of the log."""
    limit = context.integer(LIMIT, PAGE_DEPLOYS, 1, MAX_PAGE_DEPLOYS)
    before = context.integer(BEFORE, MAX_SEQUENCE + 1, 1, MAX_SEQUENCE + 1)
    page = await context.deployment.page(before, limit)
    more = len(page) == limit and page[-1].sequence > 1
    answer = DeploysAnswer(deploys=[deploy_answer(deploy) for deploy in page], next=page[-1].sequence if more else None)
    return json_response(answer)


async def deploy(context: RequestContext) -> web.StreamResponse:
    """Send one deploy, with its details if there are any."""
    found = await context.deployment.deploy(context.request.match_info["version"])
    details = await asyncio.to_thread(_details, context.service.store, context.deployment.name, found)
    return json_response(one_deploy_answer(found, details))


def _details(store: Store, deployment: str, deploy: Deploy) -> DeployDetails | None:
    if not deploy.details:
        return None
    try:
        with decoding(f"What is stored beside entry {deploy.sequence}"):
            return decode_details(store.read_details(deployment, deploy.sequence, deploy.nonce))
    except StoreDamaged as error:
        if store.has_bundle(deployment, deploy.digest):  # otherwise retention deleted both
            log_failure(
                "The details of a deploy cannot be read", error, deployment=deployment, sequence=deploy.sequence
            )
        return None
