"""``POST /{deployment}/dags/rollback``: deploys the content of an older version again."""

from aiohttp import web
from pydantic import Field

from dagferry_server.http.deploy_request import deploy_request
from dagferry_server.http.json_body import JsonBody, read_json
from dagferry_server.http.models import answer_deploy
from dagferry_server.http.request_context import RequestContext


class RollbackBody(JsonBody):
    """What a rollback is asked for with."""

    version: str = Field(description="The version whose content is deployed again.")
    description: str = Field(default="", description="The description of the deploy.")


async def rollback(context: RequestContext) -> web.StreamResponse:
    """Read the body, and make the deploy."""
    request = await deploy_request(context)
    with context.state.copy_slots.hold(context.deployment.name, context.caller):
        body = await read_json(context, RollbackBody)
        request = request._replace(description=body.description)
        result = await context.service.deployer.rollback(context.deployment, body.version, request)
    return answer_deploy(result)
