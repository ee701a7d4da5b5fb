"""``POST /{deployment}/dags/promote``: deploys what another deployment of this server has, without an upload."""

from contextlib import ExitStack

from aiohttp import web
from pydantic import ConfigDict, Field

from dagferry_server.auth.access import authorize
from dagferry_server.http.deploy_answer import answer_deploy
from dagferry_server.http.deploy_request import deploy_request
from dagferry_server.http.json_body import JsonBody, read_json
from dagferry_server.http.request_context import RequestContext


class PromoteBody(JsonBody):
    """What a promote is asked for with."""

    model_config = ConfigDict(populate_by_name=False)

    origin: str = Field(alias="from", description="The deployment whose content is deployed here.")
    version: str | None = Field(default=None, description="One of its versions; its current one if absent.")
    description: str = Field(default="", description="The description of the deploy.")


async def promote(context: RequestContext) -> web.StreamResponse:
    """Read the body, decide whether the caller may read the other deployment, and make the deploy."""
    request = await deploy_request(context)
    service = context.service
    with ExitStack() as keep:
        with context.state.copy_slots.hold(context.deployment.name, context.caller):
            body = await read_json(context, PromoteBody)
            context.note(source=body.origin if body.version is None else f"{body.origin}@{body.version}")
            authorize("read", body.origin, context.caller)
            origin = await service.deployments.find_or_look(body.origin)
            request = request._replace(description=body.description)
            begun = await service.deployer.promote(context.deployment, origin, body.version, request, keep=keep)
        result = await service.deployer.finish(begun)  # without a place, as it may wait for a checker
    context.note(source=result.request.source)
    return answer_deploy(context, result)
