"""``GET /{deployment}/dags/diff``: which files differ between two versions."""

import asyncio

from aiohttp import web

from dagferry_core.deploylog import Deploy
from dagferry_core.protocol import FROM, TO
from dagferry_server.deploys import browse
from dagferry_server.errors import BundleGone
from dagferry_server.http.models import diff_answer, json_response
from dagferry_server.http.request_context import RequestContext


async def diff(context: RequestContext) -> web.StreamResponse:
    """Send the files that differ between the versions ``from`` and ``to``.

    ``to`` is the current one if absent, ``from`` the deploy that precedes it.
    """
    deployment, query = context.deployment, context.request.query
    new = await deployment.deploy(query[TO]) if TO in query else deployment.current_deploy()
    old = await deployment.deploy(query[FROM]) if FROM in query else await _before(context, new)
    with context.state.read_slots.hold(deployment.name, context.caller):
        try:
            found = await context.state.packer.call(
                browse.differences, context.service.store, deployment.name, old.digest if old else None, new.digest
            )
        except BundleGone as error:
            there = await asyncio.to_thread(context.service.store.has_bundle, deployment.name, new.digest)
            raise deployment.gone(old if old and there else new) from error
    return json_response(diff_answer(old, new, found))


async def _before(context: RequestContext, deploy: Deploy) -> Deploy | None:
    page = await context.deployment.page(deploy.sequence, 1)
    return page[0] if page else None
