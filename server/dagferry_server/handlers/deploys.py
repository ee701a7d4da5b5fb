"""``GET /{deployment}/dags/deploys``: the deploy log, newest first, in pages."""

from aiohttp import web

from dagferry_core.names import MAX_SEQUENCE
from dagferry_server.answers import DeploysAnswer, deploy_answer, json_response
from dagferry_server.calls import Call

PAGE_DEPLOYS = 50
MAX_PAGE_DEPLOYS = 200


async def deploys(call: Call) -> web.StreamResponse:
    """Send one page."""
    limit = call.whole("limit", PAGE_DEPLOYS, 1, MAX_PAGE_DEPLOYS)
    before = call.whole("before", MAX_SEQUENCE + 1, 1, MAX_SEQUENCE + 1)
    page = await call.deployment.page(before, limit)
    more = len(page) == limit and page[-1].sequence > 1
    answer = DeploysAnswer(deploys=[deploy_answer(deploy) for deploy in page], next=page[-1].sequence if more else None)
    return json_response(answer)
