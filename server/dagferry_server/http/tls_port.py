"""The port that speaks TLS: whoever speaks plain http to it is told so, in words.

asyncio would end such a connection without a word, and the client would say that the server closed it. So the first
byte of a connection is looked at, and left where it is, before anybody reads it: a TLS handshake begins with the byte
22, a request with a letter. asyncio accepts the connection, and asyncio does the handshake: between the two, the
connection changes over from one descriptor of its socket to another one.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, cast

HANDSHAKE_SECONDS = 60
"""A connection of which nothing comes for as long is closed; so is one whose handshake takes longer."""
LINGER_SECONDS = 2
"""How long is read on after a plain answer, until the client closes its half: else it could be lost in a reset."""
_HANDSHAKE = b"\x16"
_TEXT = b"This port speaks HTTPS. Call it with https:// instead of http://.\n"
_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\n"
    b"Cache-Control: no-store\r\n"
    b"Connection: close\r\n\r\n%b"
) % (len(_TEXT), _TEXT)

Factory = Callable[[], asyncio.Protocol]


class TlsPort:
    """Tells TLS from plain http on one listener, by whose ``accept`` the protocol of a new connection is made.

    ``factory`` makes the protocol inside of TLS; ``plain`` is told the address of whoever spoke plain http.
    """

    def __init__(self, factory: Factory, context: ssl.SSLContext, plain: Callable[[str], None]) -> None:
        self._factory = factory
        self._context = context
        self._plain = plain
        self._silent: dict[socket.socket, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self) -> asyncio.Protocol:
        """Return the protocol of a connection of which nothing is known yet."""
        return _First(self)

    def close(self) -> None:
        """Close what did not come to anything yet."""
        for connection in tuple(self._silent):
            self._go_on(connection, "", b"")
        for task in tuple(self._tasks):
            task.cancel()

    def take(self, connection: socket.socket, peer: str) -> None:
        """Go on with a connection as soon as its first byte is there."""
        loop = asyncio.get_running_loop()
        connection.settimeout(0)
        self._silent[connection] = loop.call_later(HANDSHAKE_SECONDS, self._go_on, connection, peer, b"")
        loop.add_reader(connection.fileno(), self._look, connection, peer)

    def _heard(self, connection: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(connection.fileno())
        self._silent.pop(connection).cancel()

    def _look(self, connection: socket.socket, peer: str) -> None:
        try:
            first = connection.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            first = b""
        self._go_on(connection, peer, first)

    def _go_on(self, connection: socket.socket, peer: str, first: bytes) -> None:
        self._heard(connection)
        if first == _HANDSHAKE:
            self._spawn(self._handshake(connection))
        elif first.isalpha():
            self._plain(peer)
            self._spawn(_refuse(connection))
        else:
            connection.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handshake(self, connection: socket.socket) -> None:
        # An error of TLS is an OSError: the client went away or does not like the certificate, and says so itself.
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            await asyncio.get_running_loop().connect_accepted_socket(
                self._factory, connection, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )


class _First(asyncio.Protocol):
    """A connection that was just accepted: it goes on in a second descriptor of its socket."""

    def __init__(self, port: TlsPort) -> None:
        self._port = port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let go of the first descriptor before anything was read."""
        peer = transport.get_extra_info("peername")
        try:
            self._port.take(transport.get_extra_info("socket").dup(), peer[0] if peer else "")
        except OSError:  # no more descriptors
            pass
        finally:
            cast("asyncio.Transport", transport).abort()


async def _refuse(connection: socket.socket) -> None:
    """Answer in plain http, close our half, and read on for a little."""
    loop = asyncio.get_running_loop()

    async def talk() -> None:
        await loop.sock_sendall(connection, _ANSWER)
        connection.shutdown(socket.SHUT_WR)
        while await loop.sock_recv(connection, 64 * 1024):
            pass

    with connection, contextlib.suppress(OSError, asyncio.TimeoutError):
        await asyncio.wait_for(talk(), LINGER_SECONDS)
