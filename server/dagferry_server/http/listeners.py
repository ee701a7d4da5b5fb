"""Listens, and shuts down in order: uploads are finished, long polls are answered, the rest is aborted."""

import asyncio
import logging
import os
import signal
import ssl
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import cast

from aiohttp import http_exceptions, web

from dagferry_core.errors import SetupError
from dagferry_core.loopback import is_loopback
from dagferry_runtime.logs import fields
from dagferry_server.config.watched import running, watch
from dagferry_server.errors import RequestError
from dagferry_server.http.app import make_app
from dagferry_server.http.app_state import AppState
from dagferry_server.http.astro_routes import astro_routes
from dagferry_server.http.half_closed import AnsweringConnection
from dagferry_server.http.models import error_response
from dagferry_server.http.peer_routes import PEER_ROUTES
from dagferry_server.http.routes import ROUTES
from dagferry_server.http.routing import Route
from dagferry_server.http.tls import listening_context
from dagferry_server.http.tls_port import TlsPort
from dagferry_server.service import Service
from dagferry_server.settings import Settings, shown_address

SHUTDOWN_SECONDS = 25
"""How long requests in progress may take to finish at shutdown. By default, Kubernetes kills a container after 30 s."""
KEEPALIVE_SECONDS = 75
"""An idle connection is closed after this time, also one that never sent a request."""
MAX_LINE_BYTES = 8 * 1024
MAX_FIELD_BYTES = 8 * 1024
MAX_HEADERS = 64
"""Limits of a request line, of one header, and of the number of headers. A GitHub token has about 2 KiB, and proxies
between a browser and the server add some thirty headers. Until the headers are complete, they are all in memory."""
BACKLOG = 1024
"""Connections waiting to be accepted: all sidecars of a large deployment may connect at once."""
READ_BUFFER_BYTES = 64 * 1024
"""A connection buffers at most about twice this before reading pauses."""

_NO_HTTP: Sequence[tuple[type[Exception], str]] = (
    (http_exceptions.LineTooLong, f"its request line or a header is longer than {MAX_LINE_BYTES} bytes"),
    (http_exceptions.InvalidHeader, "a header is malformed"),
    (http_exceptions.InvalidURLError, "its path is malformed"),
    (http_exceptions.BadStatusLine, "its request line is malformed"),
    (
        http_exceptions.BadHttpMessage,
        f"it has more than {MAX_HEADERS} headers, malformed or contradictory headers, or a malformed chunk",
    ),
)

log = logging.getLogger(__name__)


class _Connection(AnsweringConnection):
    __slots__ = ("_count_malformed",)

    def __init__(self, server: web.Server, count_malformed: Callable[[], None]) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,
            keepalive_timeout=KEEPALIVE_SECONDS,
            # Body.reject does that, with a limit on bytes too.
            lingering_time=0,
            # An upload is counted as it arrives; a Content-Encoding is not undone.
            auto_decompress=False,
            read_bufsize=READ_BUFFER_BYTES,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            max_headers=MAX_HEADERS,
        )
        self._count_malformed = count_malformed

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is not valid HTTP; all other errors were answered in ``app``."""
        if isinstance(exc, ConnectionError):
            # Part of a response was sent, or the client is gone: all that is left is to close the connection.
            raise exc
        self._count_malformed()
        if status != RequestError.status:
            return super().handle_error(request, status, exc, message)
        # aiohttp's message is not used: it quotes the request, which may contain a token.
        why = next((why for kind, why in _NO_HTTP if isinstance(exc, kind)), "it cannot be parsed")
        response = error_response(RequestError(f"The request is not valid HTTP: {why}."))
        response.force_close()
        return response


class Listeners:
    """The listeners of a service. ``pages`` are the routes of the web page."""

    def __init__(self, service: Service, state: AppState, pages: Sequence[Route] = ()) -> None:
        self._service = service
        self._state = state
        self._pages = pages
        self._listening: list[asyncio.Server] = []
        self._runners: list[web.AppRunner] = []
        self._kept = AsyncExitStack()

    async def open(self) -> list[tuple[str, int]]:
        """Start listening, and return the addresses: the public one, and the admin one if it is separate."""
        settings = self._service.settings
        context = None
        await self._kept.enter_async_context(self._service.kept_fresh())
        if certificate := self._state.certificate:
            context = listening_context(certificate)
            await self._kept.enter_async_context(running(watch([certificate])))
        # The admin endpoints reveal no secrets, but on a server that requires credentials they are not public: without
        # an admin listener they are not served.
        with_admin = settings.admin_listen is None and not settings.auth_required
        public = [route for route in ROUTES if route.public or with_admin]
        public += [*astro_routes(settings.astro_cli), *self._pages]
        if self._service.peers:
            public += PEER_ROUTES
        addresses = [await self._listen("--listen", settings.listen, public, context)]
        if settings.admin_listen:
            admin = [route for route in ROUTES if route.admin]
            addresses.append(await self._listen("--admin-listen", settings.admin_listen, admin, None))
        if self._service.peers:
            await self._service.peers.open()
        log.info(
            "Listening",
            extra=fields(
                listen=shown_address(addresses[0]),
                admin_listen=shown_address(addresses[-1]),
                tls=context is not None,
                credentials=settings.auth_required,
            ),
        )
        return addresses

    async def _listen(
        self, flag: str, address: tuple[str, int], routes: Iterable[Route], context: ssl.SSLContext | None
    ) -> tuple[str, int]:
        loopback_only = not self._service.settings.auth_required and is_loopback(address[0])
        app = make_app(self._service, self._state, routes, loopback_only=loopback_only)
        # A long poll ends when its client disconnects.
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        self._runners.append(runner)
        server = cast("web.Server", runner.server)  # set by setup()

        def accept() -> asyncio.Protocol:
            return _Connection(server, self._count_malformed)

        if context:
            tls = TlsPort(accept, context, self._refuse_plain)
            self._kept.callback(tls.close)
            accept = tls.accept
        try:
            listening = await asyncio.get_running_loop().create_server(accept, *address, backlog=BACKLOG)
        except OSError as error:
            raise SetupError(
                f"Cannot listen on {shown_address(address)}: {_reason(error)}.",
                f"Choose another address or port with {flag}.",
            ) from error
        self._listening.append(listening)
        host, port = listening.sockets[0].getsockname()[:2]
        return host, port

    def _count_malformed(self) -> None:
        """Count a request that is not valid HTTP."""
        self._service.metrics.requests.labels("", "4xx").inc()

    def _refuse_plain(self, peer: str) -> None:
        """Count and log a plain HTTP request to the HTTPS port; ``TlsPort`` answers it."""
        self._count_malformed()
        text = "Plain HTTP was sent to the HTTPS port."
        self._state.rejected_reads.log(peer, RequestError.code, "", error=text, peer=peer)

    async def close(self) -> None:
        """Stop listening, wait up to ``SHUTDOWN_SECONDS`` for requests in progress, and close every connection."""
        for listening in self._listening:
            listening.close()
        self._service.stop()
        if not await self._state.busy.ended(SHUTDOWN_SECONDS):
            log.warning("Requests aborted", extra=fields(seconds=SHUTDOWN_SECONDS))
        for runner in self._runners:
            await runner.cleanup()
        await self._kept.aclose()


def _reason(error: OSError) -> str:
    # The text of asyncio repeats the address. Errors of name resolution have negative numbers.
    text = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
    return text[:1].lower() + text[1:]


async def serve(settings: Settings, service: Service, state: AppState, pages: Sequence[Route] = ()) -> None:
    """Serve until SIGTERM or SIGINT. ``pages`` are the routes of the web page."""
    settings.log(service.max_store_bytes)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    listeners = Listeners(service, state, pages)
    try:
        await listeners.open()
        await stop.wait()
        log.info("Stopping")
    finally:
        await listeners.close()
        await service.close()
        state.close()
