"""Counts the bytes between a client and a server, headers included, with a relay between them."""

import contextlib
import socket
import threading

PIECE_BYTES = 64 * 1024


class Relay:
    """Forwards connections to ``port`` on this machine until it is closed. ``down`` is what the server sent.

    ``address`` is where it listens; ``connections`` counts those it got.
    """

    def __init__(self, port: int, address: str = "127.0.0.1") -> None:
        self.down = self.up = self.connections = 0
        self._lock = threading.Lock()
        self._to = port
        self._listener = socket.create_server((address, 0))
        self._open: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()
        self.port = self._listener.getsockname()[1]
        self.url = f"http://{address}:{self.port}"

    def close(self) -> None:
        """Close all connections."""
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                server = socket.create_connection(("127.0.0.1", self._to))
                self._open += [client, server]
                for each in (client, server):
                    each.settimeout(None)  # a sidecar waits for long
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._forward, args=(client, server, "up"), daemon=True).start()
                threading.Thread(target=self._forward, args=(server, client, "down"), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, way: str) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE_BYTES):
                with self._lock:
                    setattr(self, way, getattr(self, way) + len(piece))
                target.sendall(piece)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
