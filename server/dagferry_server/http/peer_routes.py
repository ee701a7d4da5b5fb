"""The routes for other servers, which exist only with ``--peers``; see ``routes`` for the others."""

from dagferry_server.errors import PeerRefused, RequestError, UploadIncomplete, UploadTooSlow
from dagferry_server.http.handlers.peers import fleet, poke
from dagferry_server.http.routing import Route
from dagferry_server.peers.wire import PEERS_FLEET_PATH, PEERS_POKE_PATH, FleetRequest, News, Poke, PokeAnswer

_ERRORS = (PeerRefused, RequestError, UploadIncomplete, UploadTooSlow)

PEER_ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path=PEERS_FLEET_PATH,
        scope=None,
        handler=fleet,
        summary="What another server does not know yet of this one's pods; signed, only with --peers.",
        answer=News,
        errors=_ERRORS,
        body=FleetRequest,
        only_reads=True,
    ),
    Route(
        method="POST",
        path=PEERS_POKE_PATH,
        scope=None,
        handler=poke,
        summary="Another server has changed the store: look at once; signed, only with --peers.",
        answer=PokeAnswer,
        errors=_ERRORS,
        body=Poke,
        only_reads=True,
    ),
)
