"""``GET /{deployment}/dags/versions/{version}/files``: the files of a version; and ``…/files/{path}``: one of them."""

import asyncio
import json
import zlib
from collections.abc import Generator
from contextlib import closing
from urllib.parse import quote, unquote_to_bytes

from aiohttp import hdrs, web

from dagferry_core.archive.errors import PathRefused
from dagferry_core.archive.paths import check_path
from dagferry_core.deploylog import Deploy
from dagferry_core.protocol import DIGEST, FILE_PATH, FILE_TYPE, JSON_TYPE
from dagferry_server.deploys import browse
from dagferry_server.errors import BundleGone, FileNotInBundle, RequestError
from dagferry_server.http.negotiation import accepts_gzip, has_seen, not_modified
from dagferry_server.http.request_context import RequestContext

_GZIP = 31
"""The ``wbits`` of zlib that make the gzip format."""


async def files(context: RequestContext) -> web.StreamResponse:
    """Send the list of files, made while it is sent."""
    deploy = await context.deployment.deploy(context.request.match_info["version"])
    with context.state.read_slots.hold(context.deployment.name, context.caller):
        try:
            return await _send_list(context, deploy)
        except BundleGone as error:
            raise context.deployment.gone(deploy) from error


async def _send_list(context: RequestContext, deploy: Deploy) -> web.StreamResponse:
    store, name, request = context.service.store, context.deployment.name, context.request
    if has_seen(request.headers.get(hdrs.IF_NONE_MATCH, ""), deploy.digest):
        if not await asyncio.to_thread(store.has_bundle, name, deploy.digest):
            raise context.deployment.gone(deploy)
        return not_modified(deploy.digest)
    headers = {
        "Content-Type": JSON_TYPE,
        "ETag": f'"{deploy.digest}"',
        DIGEST: deploy.digest,
        "Vary": "Accept-Encoding",
    }
    pieces = _listed(deploy, browse.listing(store, name, deploy.digest))
    if accepts_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, "")):
        headers["Content-Encoding"] = "gzip"
        pieces = _compressed(pieces)
    return await context.state.packer.send_stream(request, pieces, headers)


def _listed(deploy: Deploy, listing: Generator[bytes, None, None]) -> Generator[bytes, None, None]:
    head = json.dumps({"version": deploy.version, "digest": deploy.digest})[:-1] + ', "files": '
    with closing(listing):
        yield head.encode() + next(listing)
        yield from listing
        yield b"}"


def _compressed(pieces: Generator[bytes, None, None]) -> Generator[bytes, None, None]:
    gzip = zlib.compressobj(wbits=_GZIP)
    with closing(pieces):
        for piece in pieces:
            if compressed := gzip.compress(piece):
                yield compressed
    yield gzip.flush()


async def file(context: RequestContext) -> web.StreamResponse:
    """Send one file as it is."""
    return await send_file(context, requested_path(context.request.rel_url.raw_path), FILE_TYPE)


async def send_file(context: RequestContext, path: str, media_type: str) -> web.StreamResponse:
    """Send the file ``path`` of the version that the request names, for the browser to save."""
    deploy = await context.deployment.deploy(context.request.match_info["version"])
    with context.state.read_slots.hold(context.deployment.name, context.caller):
        try:
            return await _send_file(context, deploy, path, media_type)
        except BundleGone as error:
            raise context.deployment.gone(deploy) from error


async def _send_file(context: RequestContext, deploy: Deploy, path: str, media_type: str) -> web.StreamResponse:
    store, name, packer = context.service.store, context.deployment.name, context.state.packer
    place = await packer.call(browse.find, store, name, deploy.digest, path)
    if place is None:
        raise FileNotInBundle(f"Version {deploy.version} of {name} has no file {path!r}.")
    tag = place.entry.sha256
    if has_seen(context.request.headers.get(hdrs.IF_NONE_MATCH, ""), tag):
        return not_modified(tag)
    headers = {
        "Content-Type": media_type,
        # Whatever it contains, no browser shows it as a page of this server.
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(path.rpartition('/')[2], safe='')}",
        "Content-Security-Policy": "sandbox",
        "ETag": f'"{tag}"',
    }
    pieces = browse.content(store, name, deploy.digest, place)
    return await packer.send_stream(context.request, pieces, headers, place.entry.size)


def requested_path(raw_path: str, template: str = FILE_PATH) -> str:
    """Return the path of the file in the path of a request, which must spell it in the only way a bundle has it.

    ``template`` is the path of the route, which ends with that of the file.

    Raises ``RequestError`` for any other spelling, so that no two URLs name one file.
    """
    raw = raw_path.split("/", template.count("/"))[-1]
    if "%2f" in raw.lower():
        raise RequestError("The path of the file has an encoded slash, %2F.", "Send slashes as they are.")
    encoded = unquote_to_bytes(raw.encode(errors="surrogateescape"))
    try:
        path = check_path(encoded)
    except PathRefused as error:
        raise RequestError(error.message, "Send a path from the version's list of files, percent-encoded.") from error
    if path.encode() != encoded:
        raise RequestError(f"No file has the path {encoded.decode()!r}.", f"Ask for {path!r}." if path else None)
    return path
