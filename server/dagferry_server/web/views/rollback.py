"""Rolls a deployment back, after the visitor has seen what that changes."""

from aiohttp import web

from dagferry_core.protocol import OVERRIDE_FREEZE
from dagferry_server.auth.access import authorize_write
from dagferry_server.errors import RequestError
from dagferry_server.http.change_parameters import parse_under
from dagferry_server.http.deploy_answer import note_deploy
from dagferry_server.http.deploy_request import deploy_request
from dagferry_server.http.request_context import RequestContext
from dagferry_server.web.diffs import Wanted
from dagferry_server.web.facts import find_deploy, may_undo
from dagferry_server.web.site import Site, see_other
from dagferry_server.web.texts import shown_deploy
from dagferry_server.web.views.deploys import MAX_FIRST, compared
from dagferry_server.web.visitors import read_form

MAX_DESCRIPTION_CHARACTERS = 1000
YES = "1"


async def confirm(site: Site, context: RequestContext) -> web.StreamResponse:
    """Show what a rollback would change, and its form."""
    here, query = context.deployment, context.request.query
    new = here.current_deploy()
    old = await find_deploy(here, query.get("to", ""))
    under = parse_under(query["under"]) if query.get("under") else ""
    undo = may_undo(context)
    if undo.folders and not under:
        under = undo.folders[0]
    authorize_write(here.name, under, context.caller)
    wanted = Wanted(context.integer("first", 0, 0, MAX_FIRST), under)
    return await site.slow_page(
        context.request,
        "rollback.html",
        deployment=here.name,
        current=shown_deploy(new, warnings=None, is_current=True),
        target=shown_deploy(old, warnings=None, is_current=False),
        under=under,
        undo=undo,
        most=MAX_DESCRIPTION_CHARACTERS,
        json_url=f"deployments/{here.name}/json/diff?from={new.version}&to={old.version}",
        # From what is live now to what would be.
        **await compared(site, context, new, old, wanted),
    )


async def rollback(site: Site, context: RequestContext) -> web.StreamResponse:  # noqa: ARG001 - as all views
    """Make the deploy, unless somebody else has deployed since the visitor looked."""
    deployment, caller = context.deployment, context.caller
    fields = await read_form(context)
    unknown = fields.keys() - {"version", "expected", "under", "description", OVERRIDE_FREEZE}
    if unknown or not fields.get("version") or not fields.get("expected"):
        raise RequestError("The form has other fields than that of the page.")
    under = parse_under(fields["under"]) if fields.get("under") else ""
    context.note(source=fields["version"], under=under)
    request = await deploy_request(context, under=None, override_freeze=fields.get(OVERRIDE_FREEZE) == YES)
    authorize_write(deployment.name, under, caller)
    with context.state.copy_slots.hold(deployment.name, caller):
        request = request._replace(
            description=fields.get("description", ""), under=under, if_match=frozenset({fields["expected"]})
        )
        result = await context.service.deployer.rollback(deployment, fields["version"], request)
    note_deploy(context, result)
    return see_other(context.request, f"deployments/{deployment.name}")
