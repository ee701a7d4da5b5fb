"""Listens, and ends in order: what is being received is finished, who waits is answered, the rest is cut off."""

import asyncio
import logging
import signal
import ssl
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack

from aiohttp import http_exceptions, web

from dagferry_core.errors import SetupError
from dagferry_core.loopback import is_loopback
from dagferry_runtime.logs import fields
from dagferry_server.errors import RequestError
from dagferry_server.http.app import App
from dagferry_server.http.half_closed import AnsweringConnection
from dagferry_server.http.models import error_response
from dagferry_server.http.routes import ROUTES
from dagferry_server.http.routing import Route
from dagferry_server.http.tls import listening_context
from dagferry_server.http.tls_port import TlsPort
from dagferry_server.service import Service
from dagferry_server.settings import Settings, shown_address

SHUTDOWN_SECONDS = 25
"""How long requests that are under way may take to end. Kubernetes kills after 30 s, if not told otherwise."""
KEEPALIVE_SECONDS = 75
"""A connection on which nothing is asked for so long is closed, also one that never asked for anything."""
MAX_LINE_BYTES = 8 * 1024
MAX_FIELD_BYTES = 8 * 1024
MAX_HEADERS = 64
"""Of a request: its first line, one header, and how many of them. A token of GitHub's has about 2 KiB, and what stands
between a browser and the server adds some thirty headers. Until its headers end, a request keeps them all in memory."""
BACKLOG = 1024
"""Connections that wait to be accepted: every sidecar of a large deployment may come at once."""
READ_BUFFER_BYTES = 64 * 1024
"""What a connection may have received ahead of being read is about twice this."""

_NO_HTTP: Sequence[tuple[type[Exception], str]] = (
    (http_exceptions.LineTooLong, f"its first line or a header is longer than {MAX_LINE_BYTES} bytes"),
    (http_exceptions.InvalidHeader, "a header is malformed"),
    (http_exceptions.InvalidURLError, "its path is malformed"),
    (http_exceptions.BadStatusLine, "its first line is malformed"),
    (
        http_exceptions.BadHttpMessage,
        f"it has more than {MAX_HEADERS} headers, or some that are malformed or contradict each other, or a bad chunk",
    ),
)

log = logging.getLogger(__name__)


class _Connection(AnsweringConnection):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no request at all; everything else that can go wrong was answered in ``App``."""
        if isinstance(exc, ConnectionError):
            # Part of an answer was sent, or nobody is there any more: all that is left is to close.
            raise exc
        if isinstance(self._manager, _Server):
            self._manager.count_malformed()
        if status != RequestError.status:
            return super().handle_error(request, status, exc, message)
        # Nothing of aiohttp's message: it shows what was sent, which may be a token.
        why = next((why for kind, why in _NO_HTTP if isinstance(exc, kind)), "it cannot be read")
        response = error_response(RequestError(f"This is not HTTP as it must be: {why}."))
        response.force_close()
        return response


class _Server(web.Server):
    """The connections of one listener."""

    def __init__(self, app: App) -> None:
        # Who hangs up while waiting for a change waits no longer.
        super().__init__(app.handle, handler_cancellation=True)
        self.count_malformed = app.count_malformed

    def __call__(self) -> web.RequestHandler:
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,
            keepalive_timeout=KEEPALIVE_SECONDS,
            # Body.refuse does it, with limits on bytes too.
            lingering_time=0,
            # An upload is counted as it arrives; what is compressed around it is not ours to undo.
            auto_decompress=False,
            read_bufsize=READ_BUFFER_BYTES,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            max_headers=MAX_HEADERS,
        )


class Listeners:
    """The open listeners of a service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._listening: list[asyncio.Server] = []
        self._runners: list[web.ServerRunner] = []
        self._kept = AsyncExitStack()

    async def open(self) -> list[tuple[str, int]]:
        """Listen where the settings say, and return the addresses: the public one, and the admin one if it is apart."""
        settings = self._service.settings
        certificate = self._service.certificate
        context = listening_context(certificate) if certificate else None
        await self._kept.enter_async_context(self._service.kept_fresh())
        # What the admin listener has tells nobody's secrets, but where callers have to prove who they are, it is no
        # stranger's business: without that listener it is not served.
        with_admin = settings.admin_listen is None and not settings.closed
        public = [route for route in ROUTES if route.public or with_admin]
        addresses = [await self._listen("--listen", settings.listen, public, context)]
        if settings.admin_listen:
            admin = [route for route in ROUTES if route.admin]
            addresses.append(await self._listen("--admin-listen", settings.admin_listen, admin, None))
        log.info(
            "Listening",
            extra=fields(
                listen=shown_address(addresses[0]),
                admin_listen=shown_address(addresses[-1]),
                tls=context is not None,
                credentials=settings.closed,
            ),
        )
        return addresses

    async def _listen(
        self, flag: str, address: tuple[str, int], routes: Iterable[Route], context: ssl.SSLContext | None
    ) -> tuple[str, int]:
        loopback_only = not self._service.settings.closed and is_loopback(address[0])
        app = App(self._service, routes, loopback_only=loopback_only)
        connections = _Server(app)
        runner = web.ServerRunner(connections, shutdown_timeout=1)
        await runner.setup()
        self._runners.append(runner)
        accept: Callable[[], asyncio.Protocol] = connections
        if context:
            tls = TlsPort(connections, context, app.refuse_plain)
            self._kept.callback(tls.close)
            accept = tls.accept
        try:
            listening = await asyncio.get_running_loop().create_server(accept, *address, backlog=BACKLOG)
        except OSError as error:
            raise SetupError(f"{flag} {shown_address(address)}: {error.strerror or error}.") from error
        self._listening.append(listening)
        host, port = listening.sockets[0].getsockname()[:2]
        return host, port

    async def close(self) -> None:
        """Stop listening, let what is under way end for up to ``SHUTDOWN_SECONDS``, and close every connection."""
        for listening in self._listening:
            listening.close()
        self._service.stop()
        if not await self._service.busy.ended(SHUTDOWN_SECONDS):
            log.warning("Requests are cut off", extra=fields(seconds=SHUTDOWN_SECONDS))
        for runner in self._runners:
            await runner.cleanup()
        await self._kept.aclose()


async def serve(settings: Settings, service: Service) -> None:
    """Serve until SIGTERM or SIGINT."""
    settings.log(service.max_store_bytes)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    listeners = Listeners(service)
    try:
        await listeners.open()
        await stop.wait()
        log.info("Stopping")
    finally:
        await listeners.close()
        await service.close()
