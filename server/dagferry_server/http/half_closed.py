"""Connections whose client closed its half: a request that came whole before is answered all the same.

``nc -N``, some proxies and plain scripts say "that was all" so. A client that waits for a change hangs up in the same
way, so nobody waits on such a connection. TLS has no half of a connection that could be closed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import StreamReader, web


class AnsweringConnection(web.RequestHandler):
    """A connection that lives, after its client closed its half, until all whole requests are answered."""

    __slots__ = ("_answered", "_half_closed", "_last_body", "_waiting")

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._answered = 0
        self._half_closed = False
        self._waiting = False
        self._last_body: StreamReader | None = None

    def data_received(self, data: bytes) -> None:
        """Take what came; the last request's body is to be known when no more comes."""
        super().data_received(data)
        if self._messages:
            self._last_body = self._messages[-1][1]

    def eof_received(self) -> bool:  # type: ignore[override] # asyncio looks at it
        """Return whether the connection stays open, although its client has closed its half."""
        is_whole = self._last_body is not None and self._last_body.is_eof()
        # asyncio cannot keep one with TLS open.
        if self.ssl_context is not None or self._waiting or not is_whole or not self._unanswered:
            return False
        self._half_closed = True
        return True

    @property
    def _unanswered(self) -> int:
        return self._request_count - self._answered

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; the last one ends the connection if no more requests can come."""
        if self._half_closed and self._unanswered == 1:
            resp.force_close()
        self._answered += 1
        return await super().finish_response(request, resp, start_time)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Let the client hang up by closing its half for the time of the block, and not begin if it did already."""
        if self._half_closed:
            raise ConnectionResetError
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False
