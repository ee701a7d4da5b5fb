"""``POST /{deployment}/dags/rollback``: deploys the content of an older version again."""

from aiohttp import web
from pydantic import Field

from dagferry_server.auth.access import authorize_write
from dagferry_server.http.change_parameters import parse_under
from dagferry_server.http.deploy_answer import answer_deploy
from dagferry_server.http.deploy_request import deploy_request
from dagferry_server.http.json_body import JsonBody, read_json
from dagferry_server.http.request_context import RequestContext


class RollbackBody(JsonBody):
    """What a rollback is asked for with."""

    version: str = Field(description="The version whose content is deployed again.")
    under: str | None = Field(default=None, description="The folder to roll back, such as team-a/; all if absent.")
    description: str = Field(default="", description="The description of the deploy.")


async def rollback(context: RequestContext) -> web.StreamResponse:
    """Read the body, and make the deploy."""
    deployment, caller = context.deployment, context.caller
    request = await deploy_request(context, under=None)
    with context.state.copy_slots.hold(deployment.name, caller):
        body = await read_json(context, RollbackBody)
        context.note(source=body.version, under=body.under)
        under = "" if body.under is None else parse_under(body.under)
        authorize_write(deployment.name, under, caller)
        request = request._replace(description=body.description, under=under)
        result = await context.service.deployer.rollback(deployment, body.version, request)
    return answer_deploy(context, result)
