"""``GET /{deployment}/dags/deploys``: the deploy log, newest first, in pages; and one deploy with its details."""

from aiohttp import web

from dagferry_core.names import MAX_SEQUENCE
from dagferry_core.protocol import BEFORE, LIMIT
from dagferry_server.http.models import DeploysAnswer, deploy_answer, json_response, one_deploy_answer
from dagferry_server.http.request_context import RequestContext

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
    return json_response(one_deploy_answer(found, await context.deployment.details(found)))
