"""The history of a deployment, one deploy, and the comparison of two."""

from typing import Any

from aiohttp import web

from dagferry_core.deploylog import Deploy
from dagferry_core.names import MAX_SEQUENCE
from dagferry_server.errors import BundleGone
from dagferry_server.http.handlers.files import requested_path, send_file
from dagferry_server.http.request_context import RequestContext
from dagferry_server.web.diffs import PAGE_FILES, Wanted, diffs
from dagferry_server.web.facts import before, find_deploy, may_undo, shown_deploys
from dagferry_server.web.site import UI, Site
from dagferry_server.web.texts import shown_deploy

PAGE_DEPLOYS = 25
MAX_FIRST = 1_000_000
FEW_VERSIONS = 50
"""How many versions the form to compare suggests."""
FILE_PATH = UI + "deployments/{deployment}/versions/{version}/files/{path}"
TEXT_TYPE = "text/plain; charset=utf-8"


async def history(site: Site, context: RequestContext) -> web.StreamResponse:
    """Show a page of the deploy log, newest first."""
    here = context.deployment
    top = context.integer("before", MAX_SEQUENCE + 1, 1, MAX_SEQUENCE + 1)
    page = await here.page(top, PAGE_DEPLOYS + 1)
    deploys = await shown_deploys(site, here, page[:PAGE_DEPLOYS])
    older = deploys[-1].sequence if len(page) > PAGE_DEPLOYS else None
    return site.page(
        context.request,
        "history.html",
        deployment=here.name,
        deploys=deploys,
        older=older,
        newest=top > here.highest,
        undo=may_undo(context),
        json_url=f"deployments/{here.name}/json/deploys?limit={PAGE_DEPLOYS}"
        + (f"&before={top}" * (top <= MAX_SEQUENCE)),
    )


async def deploy(site: Site, context: RequestContext) -> web.StreamResponse:
    """Show one deploy, and what it changed."""
    here = context.deployment
    found = await here.deploy(context.request.match_info["version"])
    old = await before(here, found)
    details = await here.details(found)
    shown = shown_deploy(
        found,
        warnings=len(details.warnings) if details else 0,
        is_current=found is here.current,
        new_import_errors=here.fleet.reporters.breaks.get(found.version, 0),
    )
    later = await here.page(found.sequence + 2, 1)
    return await site.slow_page(
        context.request,
        "deploy.html",
        deployment=here.name,
        deploy=shown,
        digest=found.digest,
        details=details,
        old=old,
        next=later[0] if later and later[0].sequence > found.sequence else None,
        undo=may_undo(context),
        json_url=f"deployments/{here.name}/json/deploys/{found.version}",
        **await _compared(site, context, old, found),
    )


async def compare(site: Site, context: RequestContext) -> web.StreamResponse:
    """Show what differs between two versions; by default of the newest deploy and the preceding one."""
    here, query = context.deployment, context.request.query
    new = await find_deploy(here, query["to"]) if query.get("to") else here.current_deploy()
    old = await find_deploy(here, query["from"]) if query.get("from") else await before(here, new)
    recent = await here.page(here.highest + 1, FEW_VERSIONS)
    return await site.slow_page(
        context.request,
        "compare.html",
        deployment=here.name,
        old=old,
        new=new,
        recent=recent,
        json_url=f"deployments/{here.name}/json/diff?to={new.version}" + (f"&from={old.version}" if old else ""),
        **await _compared(site, context, old, new),
    )


async def _compared(site: Site, context: RequestContext, old: Deploy | None, new: Deploy) -> dict[str, Any]:
    first = context.integer("first", 0, 0, MAX_FIRST)
    return await compared(site, context, old, new, Wanted(first, path=context.request.query.get("path") or None))


async def compared(
    site: Site, context: RequestContext, old: Deploy | None, new: Deploy, wanted: Wanted
) -> dict[str, Any]:
    """Return what the templates of a comparison need; ``gone`` says whose bundle is not there any more."""
    here = context.deployment
    values: dict[str, Any] = {"wanted": wanted, "page_files": PAGE_FILES, "gone": "", "compared": None}
    values |= {"old_version": old.version if old else "", "new_version": new.version}
    with context.state.read_slots.hold(here.name, context.caller):
        try:
            values["compared"] = await site.threads.call(
                diffs, context.service.store, here.name, old.digest if old else None, new.digest, wanted
            )
        except BundleGone:
            values["gone"] = (
                "The content of one of these versions was removed by retention, so they cannot be compared."
            )
    return values


async def raw_file(site: Site, context: RequestContext) -> web.StreamResponse:  # noqa: ARG001 - as all views
    """Send a file as it is, for the browser to save: never shown as a page, whatever is in it."""
    return await send_file(context, requested_path(context.request.rel_url.raw_path, FILE_PATH), TEXT_TYPE)
