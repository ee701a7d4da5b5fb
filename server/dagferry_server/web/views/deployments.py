"""The first page: the deployments that the visitor may see."""

from typing import NamedTuple

from aiohttp import web

from dagferry_server.fleet.status import PodState
from dagferry_server.http.handlers.deployments import visible
from dagferry_server.http.models import FrozenAnswer, frozen_answer
from dagferry_server.http.request_context import RequestContext
from dagferry_server.web.site import PAGE_HEADERS, UI, Site
from dagferry_server.web.texts import ShownDeploy, shown_deploy


class Row(NamedTuple):
    """One deployment; ``current`` is the newest deploy, ``None`` if there is none, or if it is not known."""

    name: str
    state: str
    reason: str
    current: ShownDeploy | None
    live: int
    pods: int
    frozen: FrozenAnswer | None
    disabled: str | None
    may_read: bool


async def home(site: Site, context: RequestContext) -> web.StreamResponse:  # noqa: ARG001 - as all views
    """Lead from the server's address to the first page; relative, as the server may be below a path."""
    return web.Response(status=302, headers={**PAGE_HEADERS, "Location": UI.removeprefix("/")})


async def deployments(site: Site, context: RequestContext) -> web.StreamResponse:
    """Show them."""
    now = context.service.clock()
    rows = []
    for deployment, scopes in visible(context):
        status = deployment.fleet.status()
        current = None if deployment.fault else deployment.current
        rows.append(
            Row(
                deployment.name,
                status.state.value,
                status.reason,
                shown_deploy(current, warnings=None, is_current=True) if current else None,
                status.counts[PodState.LIVE],
                len(status.pods),
                frozen_answer(deployment.freeze_at(now)),
                deployment.settings.disabled,
                "read" in scopes,
            )
        )
    return site.page(context.request, "deployments.html", rows=rows, json_url="json/deployments")


async def home_from_below(site: Site, context: RequestContext) -> web.StreamResponse:  # noqa: ARG001 - as all views
    """Lead from the address without its slash to the first page."""
    return web.Response(status=302, headers={**PAGE_HEADERS, "Location": "ui/"})
