"""``POST /-/peers/fleet`` and ``/-/peers/poke``: what the servers on one store send each other."""

from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel

from dagferry_core.errors import FormatError
from dagferry_core.protocol import JSON_TYPE
from dagferry_server.errors import PeerRefused, RequestError
from dagferry_server.http.json_body import read_body
from dagferry_server.http.models import FIXED_HEADERS
from dagferry_server.http.request_context import RequestContext
from dagferry_server.peers.peers import Peers
from dagferry_server.peers.signing import answer_headers
from dagferry_server.peers.wire import FleetRequest, Poke, PokeAnswer, decode

_Message = TypeVar("_Message", FleetRequest, Poke)


async def fleet(context: RequestContext) -> web.StreamResponse:
    """Send what another server does not know of the pods of this one, as soon as there is something."""
    nonce, request = await _read(context, FleetRequest)
    with context.waiting():
        news = await _peers(context).answer(request)
    return _signed(context, nonce, news)


async def poke(context: RequestContext) -> web.StreamResponse:
    """Look into the store, because another server says that something has changed."""
    try:
        nonce, request = await _read(context, Poke)
    except PeerRefused:
        context.service.metrics.pokes.labels("rejected").inc()
        raise
    _peers(context).poked(request)
    return _signed(context, nonce, PokeAnswer())


def _peers(context: RequestContext) -> Peers:
    if context.service.peers is None:
        raise LookupError("this route exists with --peers only")
    return context.service.peers


async def _read(context: RequestContext, model: type[_Message]) -> tuple[str, _Message]:
    """Return the nonce and the content of a request that another server has signed."""
    body = await read_body(context)
    nonce = context.service.peer_verifier.check(context.request.path, body, context.request.headers)
    try:
        return nonce, decode(model, body)
    except FormatError as error:
        raise RequestError(f"The body is invalid: {error}.") from None


def _signed(context: RequestContext, nonce: str, answer: BaseModel) -> web.Response:
    secrets = context.service.peer_secrets
    if secrets is None:
        raise LookupError("this route exists with --peers only")
    body = answer.model_dump_json().encode()
    headers = {**FIXED_HEADERS, "Content-Type": JSON_TYPE, **answer_headers(secrets.value[0], nonce, body)}
    return web.Response(body=body, headers=headers)
