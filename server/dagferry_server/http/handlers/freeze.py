"""``POST`` and ``DELETE /{deployment}/dags/freeze``: stop deploys for a while, and allow them again."""

import logging

from aiohttp import web
from pydantic import Field

from dagferry_runtime.logs import fields
from dagferry_server.deploys.freeze import MAX_FREEZE_SECONDS, MAX_REASON_CHARACTERS, Freeze
from dagferry_server.errors import RequestError
from dagferry_server.http.json_body import JsonBody, read_json
from dagferry_server.http.models import FreezeAnswer, frozen_answer, json_response
from dagferry_server.http.request_context import RequestContext

log = logging.getLogger(__name__)


class FreezeBody(JsonBody):
    """What a freeze is asked for with."""

    reason: str = Field(
        description="Why, for those whose deploys are rejected.",
        min_length=1,
        max_length=MAX_REASON_CHARACTERS,
        pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$",
    )
    until: int | None = Field(
        default=None,
        description="When it ends by itself, in seconds since the epoch, within a year; absent: when it is lifted.",
    )


async def freeze(context: RequestContext) -> web.StreamResponse:
    """Freeze the deployment, after the deploy that is in progress. A freeze that it has already is replaced."""
    body = await read_json(context, FreezeBody)
    context.note(reason=body.reason, until=body.until)
    now = context.service.clock()
    if not body.reason.strip():
        raise RequestError("The reason of the freeze is blank.")
    if body.until is not None and not now < body.until <= now + MAX_FREEZE_SECONDS:
        raise RequestError(
            f"until={body.until} is not between now ({int(now)}) and {MAX_FREEZE_SECONDS // 86400} days from now.",
            "Give it in seconds since the epoch, or leave it out to freeze until further notice.",
        )
    return await change_freeze(context, Freeze(body.reason, body.until, context.caller.actor, int(now)))


async def unfreeze(context: RequestContext) -> web.StreamResponse:
    """Allow deploys again; a deployment that is not frozen stays so."""
    return await change_freeze(context, None)


async def change_freeze(context: RequestContext, freeze: Freeze | None) -> web.StreamResponse:
    """Replace the freeze of the deployment, log it and send it; ``None`` lifts it."""
    deployment = context.deployment
    await deployment.change_freeze(freeze)
    context.service.deployments.changed(deployment.name)
    details = freeze._asdict() if freeze else {"actor": context.caller.actor}
    log.info("Frozen" if freeze else "Freeze lifted", extra=fields(deployment=deployment.name, **details))
    return json_response(FreezeAnswer(deployment=deployment.name, frozen=frozen_answer(freeze)))
