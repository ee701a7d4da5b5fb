"""``GET /{deployment}/dags/download``: the current bundle as a tar.gz, for people and curl."""

from aiohttp import web

from dagferry_core.protocol import ARCHIVE_TYPE, DIGEST
from dagferry_server.deploys.packing import packed
from dagferry_server.errors import BundleGone
from dagferry_server.http.request_context import RequestContext


async def download(context: RequestContext) -> web.StreamResponse:
    """Send the current bundle, packed while it is sent."""
    with context.state.download_slots.hold(context.deployment.name, context.caller):
        return await _send(context)


async def _send(context: RequestContext) -> web.StreamResponse:
    deploy = context.deployment.current_deploy()
    name = context.deployment.name
    headers = {
        "Content-Type": ARCHIVE_TYPE,
        "Content-Disposition": f'attachment; filename="{name}-{deploy.version}.tar.gz"',
        DIGEST: deploy.digest,
    }
    try:
        return await context.state.packer.send_stream(
            context.request, packed(context.service.store, name, deploy), headers
        )
    except BundleGone as error:
        raise context.deployment.gone(deploy) from error
