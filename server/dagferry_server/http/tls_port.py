"""The HTTPS port: a client that sends plain HTTP to it gets an error that says so.

asyncio would close such a connection silently, and the client would report that the server closed it. So the first byte
of a connection is peeked at before anything reads it: a TLS handshake starts with the byte 22, a request with a letter.
asyncio accepts the connection and performs the handshake; in between, the connection moves from one descriptor of its
socket to a duplicate.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, cast

HANDSHAKE_SECONDS = 60
"""A connection that sends nothing for this long is closed; so is one whose handshake takes longer."""
LINGER_SECONDS = 2
"""How long reading goes on after a plain response, so that it is not lost in a TCP reset."""
_HANDSHAKE = b"\x16"
_TEXT = b"This port expects HTTPS. Use https:// instead of http://.\n"
_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\n"
    b"Cache-Control: no-store\r\n"
    b"Connection: close\r\n\r\n%b"
) % (len(_TEXT), _TEXT)

Factory = Callable[[], asyncio.Protocol]


class TlsPort:
    """Distinguishes TLS from plain HTTP on one listener, which uses ``accept`` as its protocol factory.

    ``factory`` makes the protocol inside of TLS; ``plain`` is called with the address of a client that sent plain HTTP.
    """

    def __init__(self, factory: Factory, context: ssl.SSLContext, plain: Callable[[str], None]) -> None:
        self._factory = factory
        self._context = context
        self._plain = plain
        self._silent: dict[socket.socket, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self) -> asyncio.Protocol:
        """Return the protocol of a connection that has not sent anything yet."""
        return _First(self)

    def close(self) -> None:
        """Close the connections that have no handshake yet."""
        for connection in tuple(self._silent):
            self._continue(connection, "", b"")
        for task in tuple(self._tasks):
            task.cancel()

    def resume(self, connection: socket.socket, peer: str) -> None:
        """Continue a connection when its first byte has arrived."""
        loop = asyncio.get_running_loop()
        connection.settimeout(0)
        self._silent[connection] = loop.call_later(HANDSHAKE_SECONDS, self._continue, connection, peer, b"")
        loop.add_reader(connection.fileno(), self._peek, connection, peer)

    def _stop_waiting(self, connection: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(connection.fileno())
        self._silent.pop(connection).cancel()

    def _peek(self, connection: socket.socket, peer: str) -> None:
        try:
            first = connection.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            first = b""
        self._continue(connection, peer, first)

    def _continue(self, connection: socket.socket, peer: str, first: bytes) -> None:
        self._stop_waiting(connection)
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
        # A TLS error is an OSError: the client disconnected, or rejects the certificate and reports that itself.
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            await asyncio.get_running_loop().connect_accepted_socket(
                self._factory, connection, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )


class _First(asyncio.Protocol):
    """A connection that was just accepted; it continues on a duplicate descriptor of its socket."""

    def __init__(self, port: TlsPort) -> None:
        self._port = port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close the first descriptor before anything is read from it."""
        peer = transport.get_extra_info("peername")
        try:
            self._port.resume(transport.get_extra_info("socket").dup(), peer[0] if peer else "")
        except OSError:  # out of descriptors
            pass
        finally:
            cast("asyncio.Transport", transport).abort()


async def _refuse(connection: socket.socket) -> None:
    """Answer in plain HTTP, close our half of the connection, and read on for a short time."""
    loop = asyncio.get_running_loop()

    async def talk() -> None:
        await loop.sock_sendall(connection, _ANSWER)
        connection.shutdown(socket.SHUT_WR)
        while await loop.sock_recv(connection, 64 * 1024):
            pass

    with connection, contextlib.suppress(OSError, asyncio.TimeoutError):
        await asyncio.wait_for(talk(), LINGER_SECONDS)
