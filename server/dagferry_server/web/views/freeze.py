"""Freezes a deployment from its page, and lifts the freeze."""

from aiohttp import web

from dagferry_server.deploys.freeze import MAX_REASON_CHARACTERS, Freeze
from dagferry_server.errors import RequestError
from dagferry_server.http.handlers.freeze import change_freeze
from dagferry_server.http.request_context import RequestContext
from dagferry_server.web.site import Site, see_other
from dagferry_server.web.visitors import read_form


async def freeze(site: Site, context: RequestContext) -> web.StreamResponse:  # noqa: ARG001 - as all views
    """Freeze for the reason in the form, until it is lifted; lift it if the form has none."""
    fields = await read_form(context)
    reason = fields.pop("reason", None)
    lift = fields.pop("lift", None)
    if fields or (reason is None) == (lift is None):
        raise RequestError("The form has other fields than that of the page.")
    if reason is not None:
        reason = reason.strip()
        if not reason or len(reason) > MAX_REASON_CHARACTERS or not reason.isprintable():
            raise RequestError(
                f"The reason of a freeze is one line of 1 to {MAX_REASON_CHARACTERS} characters.", "Write why."
            )
        context.note(reason=reason)
    now = int(context.service.clock())
    await change_freeze(context, None if reason is None else Freeze(reason, None, context.caller.actor, now))
    return see_other(context.request, f"deployments/{context.deployment.name}")
