"""``GET /{deployment}/dags/download``: the current bundle as a tar.gz, for people and curl."""

import tarfile
import zlib
from collections.abc import Generator

from aiohttp import web

from dagferry_core.bundle.manifest import Entry
from dagferry_core.bundle.reader import BLOCK_BYTES, FOLDER
from dagferry_core.deploylog import Deploy
from dagferry_core.limits import PIECE_BYTES
from dagferry_core.protocol import ARCHIVE_TYPE, DIGEST
from dagferry_server.deploys.bundles import contents_of
from dagferry_server.errors import BundleGone
from dagferry_server.http.request_context import RequestContext
from dagferry_server.store.base import Store

_GZIP = 31
"""The ``wbits`` of zlib that make the gzip format."""


async def download(context: RequestContext) -> web.StreamResponse:
    """Send the current bundle, packed while it is sent."""
    with context.service.download_slots.hold(context.deployment.name, context.caller):
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
        return await context.service.packer.send_stream(
            context.request, packed(context.service.store, name, deploy), headers
        )
    except BundleGone as error:
        raise context.deployment.gone(deploy) from error


def packed(store: Store, deployment: str, deploy: Deploy) -> Generator[bytes, None, None]:
    """Yield the bundle of ``deploy`` as a tar.gz with all files under ``dags/``, in pieces."""
    gzip = zlib.compressobj(wbits=_GZIP)
    pending = bytearray()
    for entry, content in contents_of(store, deployment, deploy.digest):
        pending += gzip.compress(_header(entry, deploy.time))
        for piece in content:
            pending += gzip.compress(piece)
            if len(pending) >= PIECE_BYTES:
                yield bytes(pending)
                pending.clear()
        pending += gzip.compress(bytes(-entry.size % BLOCK_BYTES))
    yield bytes(pending) + gzip.compress(bytes(2 * BLOCK_BYTES)) + gzip.flush()


def _header(entry: Entry, mtime: int) -> bytes:
    member = tarfile.TarInfo(FOLDER + entry.path)
    member.size, member.mode, member.mtime = entry.size, entry.mode, mtime
    return member.tobuf(tarfile.PAX_FORMAT)
