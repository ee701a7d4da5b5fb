"""What this server asks one other server: signed requests on connections that stay open."""

import asyncio
import re
import ssl
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import aiohttp
from pydantic import BaseModel

from dagferry_core import __version__
from dagferry_core.errors import FormatError
from dagferry_core.protocol import JSON_TYPE
from dagferry_follow.remote.connection import tls_context
from dagferry_server.peers.addresses import Place
from dagferry_server.peers.signing import is_signed_answer, new_nonce, request_headers
from dagferry_server.peers.wire import (
    MAX_ANSWER_BYTES,
    PEERS_FLEET_PATH,
    PEERS_POKE_PATH,
    FleetRequest,
    News,
    Poke,
    PokeAnswer,
    decode,
)

CONNECT_SECONDS = 2.0
SILENT_SECONDS = 7.0
"""A server that does not answer for so long is missing; it answers after 5 s if nothing is new."""
POKE_SECONDS = 3.0
"""The whole request, from connecting to the last byte."""
PIECE_BYTES = 64 * 1024
OK, FORBIDDEN = 200, 403
MAX_ERROR_BYTES = 4096
_CODE = re.compile(rb'"code": ?"([a-z_]{1,40})"')

_Answer = TypeVar("_Answer", News, PokeAnswer)


class Unanswered(Exception):
    """Another server did not answer; the message says why. Never the answer to a request."""


class NotAPeer(Unanswered):
    """Something else answers: a server with another secret, or with a certificate that is not trusted."""


class Tls(NamedTuple):
    """How the certificates of other servers are checked: also by the chain in this file, for this name."""

    cert_file: str
    name: str | None

    def context(self) -> ssl.SSLContext:
        """Return a context that trusts the machine's CAs and every certificate in the file. Blocks; ``OSError``."""
        context = tls_context(None)
        context.load_verify_locations(self.cert_file)
        # All servers usually have the same certificate: it is trusted as it is, without the CA that issued it.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context


class Client:
    """Sends requests to the server at ``place``, which belongs to ``name``. ``secrets`` returns those of the file."""

    def __init__(self, place: Place, name: str, secrets: Callable[[], Sequence[bytes]], tls: Tls | None) -> None:
        self.place = place
        self._name = name
        self._secrets = secrets
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._ended = False

    async def news(self, request: FleetRequest) -> News:
        """Return what the server knows; raise ``Unanswered`` if it does not answer within ``SILENT_SECONDS``."""
        return await self._ask(PEERS_FLEET_PATH, request, News, SILENT_SECONDS)

    async def poke(self, poke: Poke) -> None:
        """Tell the server that something has changed; raise ``Unanswered`` if that fails."""
        await self._ask(PEERS_POKE_PATH, poke, PokeAnswer, POKE_SECONDS)

    async def _ask(self, path: str, message: BaseModel, model: type[_Answer], seconds: float) -> _Answer:
        try:
            return await asyncio.wait_for(self._sent(path, message, model), seconds)
        except (TimeoutError, asyncio.TimeoutError):
            raise Unanswered(f"no answer within {seconds:g} s") from None
        except aiohttp.ClientConnectorCertificateError as error:
            raise NotAPeer(f"its certificate is not trusted: {error.certificate_error}") from None
        except aiohttp.ClientConnectorError as error:
            raise Unanswered(f"no connection: {error.os_error.strerror or error.os_error}") from None
        except FormatError as error:
            raise Unanswered(f"its answer is invalid: {error}") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unanswered(f"no answer: {type(error).__name__}") from None

    async def _sent(self, path: str, message: BaseModel, model: type[_Answer]) -> _Answer:
        session = self._session or await self._connected()
        body, nonce, accepted = message.model_dump_json().encode(), new_nonce(), self._secrets()
        headers = request_headers(accepted[0], path, body, time.time(), nonce)
        url = f"{'https' if self._tls else 'http'}://{self.place}{path}"
        async with session.post(
            url, data=body, headers=headers, allow_redirects=False, server_hostname=self._server_name
        ) as response:
            answer = await _read(response)
            if response.status == FORBIDDEN:
                said = f"it answered with status {FORBIDDEN}{_code(answer)}"
                raise NotAPeer(f"{said}: is its --peer-secret-file or its clock another one?")
            if response.status != OK:
                raise Unanswered(f"it answered with status {response.status}{_code(answer)}")
            if not is_signed_answer(accepted, nonce, answer, response.headers):
                raise NotAPeer("its answer is not signed with the secret that all servers share")
            return decode(model, answer)

    async def _connected(self) -> aiohttp.ClientSession:
        if self._ended:
            raise Unanswered("its address is not used any more")
        # Made anew after each failure: then a certificate that was renewed is trusted.
        context = await asyncio.to_thread(self._tls.context) if self._tls else True
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context),
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS),
            headers={"Content-Type": JSON_TYPE, "User-Agent": f"dagferry/{__version__}"},
        )
        return self._session

    @property
    def _server_name(self) -> str | None:
        return (self._tls.name or self._name) if self._tls else None

    async def close(self, *, for_good: bool = False) -> None:
        """Close all connections; the next request makes new ones, unless this is ``for_good``."""
        self._ended = self._ended or for_good
        session, self._session = self._session, None
        if session:
            # A caller that is cancelled must not leave it half closed.
            await asyncio.shield(asyncio.ensure_future(session.close()))


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_chunked(PIECE_BYTES):
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise Unanswered(f"its answer has more than {MAX_ANSWER_BYTES:,} bytes")
    return bytes(body)


def _code(answer: bytes) -> str:
    """Return the code of an error as a server answers it, in brackets; else an empty text. It is only for the log."""
    match = _CODE.search(answer[:MAX_ERROR_BYTES])
    return f" ({match[1].decode()})" if match else ""
