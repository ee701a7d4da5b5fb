"""``GET /{deployment}/dags/download``: a bundle as a tar.gz, for people and curl."""

from aiohttp import web

from dagferry_core.deploylog import Deploy
from dagferry_core.protocol import ARCHIVE_TYPE, DIGEST, VERSION
from dagferry_server.deploys.packing import packed
from dagferry_server.errors import BundleGone
from dagferry_server.http.request_context import RequestContext


async def download(context: RequestContext) -> web.StreamResponse:
    """Send the bundle of the version that is asked for, or else the current one; it is packed while it is sent."""
    version = context.request.query.get(VERSION)
    deploy = context.deployment.current_deploy() if version is None else await context.deployment.deploy(version)
    with context.state.download_slots.hold(context.deployment.name, context.caller):
        return await _send(context, deploy)


async def _send(context: RequestContext, deploy: Deploy) -> web.StreamResponse:
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
