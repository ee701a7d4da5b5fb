"""The page of a deployment: what is live, which pods have it, what Airflow has read, what was deployed or refused.

Its parts that change are fetched again by the script whenever the status changes. They are the same for all who look at
them and may do the same, so they are made once for all of these.
"""

import json
from functools import partial
from typing import Any

from aiohttp import web
from markupsafe import Markup

from dagferry_core.names import version_sequence
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.errors import StoreError
from dagferry_server.fleet.status import PodState
from dagferry_server.http.handlers.status import awaited_status
from dagferry_server.http.models import frozen_answer
from dagferry_server.http.negotiation import not_modified
from dagferry_server.http.request_context import RequestContext
from dagferry_server.http.status_answers import WrittenStatus
from dagferry_server.web.facts import PAGE_PODS, Undo, may_undo, pod_state, pods_of, shown_deploys
from dagferry_server.web.site import PAGE_HEADERS, Site

FEW_DEPLOYS = 10
"""How many deploys the page shows; the history has the others."""
FEW_REFUSALS = 3
MAX_POD = 1_000_000
SAME_SECONDS = 5
"""For how long a part is shown again as it is, if nothing but the time changed."""


async def deployment(site: Site, context: RequestContext) -> web.StreamResponse:
    """Show the deployment."""
    here = context.deployment
    written = context.state.status_answers.of(here, context.service.clock)
    refusals = context.state.refusals
    return site.page(
        context.request,
        "deployment.html",
        deployment=here.name,
        tag=written.tag,
        state=written.status.state.value,
        parts=await _parts(site, context, written),
        refusals=refusals.of(here.name)[:FEW_REFUSALS],
        refusals_since=refusals.since,
        frozen=written.freeze is not None,
        may_freeze="admin" in context.caller.scopes(here.name),
        query=context.request.rel_url.raw_query_string,
        json_url=f"deployments/{here.name}/json/status",
    )


async def live(site: Site, context: RequestContext) -> web.StreamResponse:
    """Send the parts of the page that change, when the status is another one than the script has."""
    written, is_new = await awaited_status(context)
    if not is_new:
        return not_modified(written.tag)
    parts = await _parts(site, context, written)
    return web.Response(text="".join(parts.values()), headers={**PAGE_HEADERS, "ETag": f'"{written.tag}"'})


async def _parts(site: Site, context: RequestContext, written: WrittenStatus) -> dict[str, Markup]:
    # Links are relative: what the script fetches is as deep as the page that it is for.
    request, here = context.request, context.deployment
    first, state = context.integer("pod", 0, 0, MAX_POD), pod_state(context)
    now, undo = context.service.clock(), may_undo(context)
    moment = int(now / SAME_SECONDS)
    fleet_key = here.name, here.log_id, written.tag, first, state, moment
    fleet = partial(_fleet, here, written, first, state, now)
    broken = tuple(here.fleet.reporters.breaks.items())[-FEW_DEPLOYS:]
    deploys_key = here.name, here.log_id, here.tag, here.fault is None, broken, undo, moment
    deploys = partial(_deploys, site, here, undo)
    return {
        "state": await site.part(request, "part-state.html", fleet_key, fleet),
        "current": await site.part(request, "part-current.html", deploys_key, deploys),
        "parsed": await site.part(request, "part-parsed.html", fleet_key, fleet),
        "fleet": await site.part(request, "part-fleet.html", fleet_key, fleet),
        "checks": await site.part(request, "part-checks.html", fleet_key, partial(_checks, here, written)),
        "history": await site.part(request, "part-history.html", deploys_key, deploys),
    }


async def _fleet(here: Deployment, written: WrittenStatus, first: int, state: str, now: float) -> dict[str, Any]:
    status = written.status
    return {
        "deployment": here.name,
        "status": status,
        "state": status.state.value,
        "live": status.counts[PodState.LIVE],
        "frozen": frozen_answer(written.freeze),
        "disabled": written.settings.disabled,
        "counts": {kind.value: number for kind, number in status.counts.items()},
        "pods": pods_of(status, here.settings.expected, first, state),
        "page_pods": PAGE_PODS,
        "servers": json.loads(written.body)["servers"],
        "leased": len(written.leases.versions),
        "parsed": status.parsed,
        "sequence": here.current.sequence if here.current else 0,
        "seen": lambda pod: now - pod.silent,
        "number": _number,
    }


async def _checks(here: Deployment, written: WrittenStatus) -> dict[str, Any]:
    return {"deployment": here.name, "import_check": json.loads(written.body)["import_check"]}


def _number(version: str) -> str:
    try:
        return f"#{version_sequence(version)}"
    except ValueError:
        return version[:20] or "nothing"


async def _deploys(site: Site, here: Deployment, undo: Undo) -> dict[str, Any]:
    problem = here.fault.message if here.fault else ""
    try:
        page = await here.page(here.highest + 1, FEW_DEPLOYS + 1)
    except StoreError as error:
        page, problem = [], error.message
    deploys = await shown_deploys(site, here, page)
    current = next((deploy for deploy in deploys if deploy.is_current), None)
    older = [deploy for deploy in deploys if current and deploy.sequence < current.sequence]
    return {
        "deployment": here.name,
        "current": current,
        "previous": older[0] if older else None,
        "deploys": deploys[:FEW_DEPLOYS],
        "more": len(deploys) > FEW_DEPLOYS,
        "problem": problem,
        "undo": undo,
    }
