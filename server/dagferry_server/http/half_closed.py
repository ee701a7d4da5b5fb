"""Connections whose client closed its sending half: complete requests that arrived before are still answered.

``nc -N``, some proxies and simple scripts mark the end of their input this way. A client that stops waiting for a
change looks the same, so a long poll ends when its client closes its half. TLS connections cannot be half-closed.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import StreamReader, web


class AnsweringConnection(web.RequestHandler):
    """A connection that stays open, after its client closed its half, until all complete requests are answered."""

    __slots__ = ("_answered", "_half_closed", "_last_body", "_waiting", "opened")

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.opened = asyncio.get_running_loop().time()
        self._answered = 0
        self._half_closed = False
        self._waiting = False
        self._last_body: StreamReader | None = None

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, and remember the body of the last request, which may be incomplete."""
        super().data_received(data)
        if self._messages:
            self._last_body = self._messages[-1][1]

    def eof_received(self) -> bool:  # type: ignore[override] # asyncio looks at it
        """Return whether the connection stays open although its client has closed its half."""
        is_complete = self._last_body is not None and self._last_body.is_eof()
        # asyncio cannot keep a TLS connection half-open.
        if self.ssl_context is not None or self._waiting or not is_complete or not self._unanswered:
            return False
        self._half_closed = True
        return True

    @property
    def _unanswered(self) -> int:
        return self._request_count - self._answered

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send a response; after the last one, close the connection if no more requests can arrive."""
        if self._half_closed and self._unanswered == 1:
            resp.force_close()
        self._answered += 1
        return await super().finish_response(request, resp, start_time)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Treat a half-close as a disconnect during the block; raise ``ConnectionResetError`` if it happened before."""
        if self._half_closed:
            raise ConnectionResetError
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False
