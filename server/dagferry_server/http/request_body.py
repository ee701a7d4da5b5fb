"""What happens to the body of a rejected request.

Clients of the upload protocol send the whole body before they read the response. If the response and the end of the
connection come earlier, they see a broken connection, and try again with an empty file. So a rejection first reads and
discards what arrives, within limits; then it responds, closes its own half of the connection, and reads on for a few
seconds, so that the response is not lost in a TCP reset. TLS connections cannot be half-closed, but unread data would
cause a reset there too: a proxy that is still sending would turn our response into a 502.

A client that sent ``Expect: 100-continue`` waits before it sends the body; it is rejected at once, unless it has lost
patience (a proxy may after a second) and sends all the same. A client whose upload is aborted because it is too slow is
rejected at once too.
"""

import asyncio
import math
import time

from aiohttp import web
from aiohttp.http import HttpVersion11

from dagferry_core.limits import MIB

DISCARD_BYTES = 64 * MIB
DISCARD_SECONDS = 10
"""How much of the body is discarded before a rejection is sent."""
LINGER_SECONDS = 2
MAX_LINGER_SECONDS = 10
"""After the response, reading goes on until the client closes, is silent for the first, or sends for the second."""


class Body:
    """The body of one request: whether the client is asked to send it, and how the request is rejected."""

    __slots__ = ("_at_once", "_request", "_waits")

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        expected = request.headers.get("Expect", "").lower()
        self._at_once = False
        self._waits = expected == "100-continue" and request.version >= HttpVersion11

    @classmethod
    def of(cls, request: web.BaseRequest) -> "Body":
        """Return the body of ``request``, always the same object."""
        body = request.get(_BODY)
        if body is None:
            body = request[_BODY] = cls(request)
        return body

    def send_continue(self) -> None:
        """Send ``100 Continue`` if the client waits for it before sending the body."""
        if self._waits and self._request.transport is not None:
            self._request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._waits = False

    def abort(self) -> None:
        """Send a rejection without waiting for the rest of the body, because that would take too long."""
        self._at_once = True

    async def reject(self, response: web.StreamResponse) -> web.StreamResponse:
        """Send ``response``, which rejects the request, after discarding the rest of the body within limits."""
        waits = self._waits and not self._request.content.total_bytes
        is_coming = not waits and not self._at_once
        if is_coming and await self._discard(DISCARD_SECONDS, DISCARD_SECONDS, DISCARD_BYTES):
            return response
        response.force_close()
        await response.prepare(self._request)
        await response.write_eof()
        transport = self._request.transport
        if transport is not None:
            if transport.can_write_eof():
                transport.write_eof()
            await self._discard(MAX_LINGER_SECONDS, LINGER_SECONDS)
        return response

    async def _discard(self, seconds: float, silence: float, most: float = math.inf) -> bool:
        """Discard up to about ``most`` bytes for up to ``seconds``; return whether the body is complete.

        It also stops when nothing arrives for ``silence`` seconds.
        """
        content = self._request.content
        end = time.monotonic() + seconds
        seen = 0
        while not content.at_eof():
            left = end - time.monotonic()
            if left <= 0 or seen > most:
                return False
            try:
                seen += len(await asyncio.wait_for(content.readany(), min(left, silence)))
            except (TimeoutError, asyncio.TimeoutError, ConnectionError, web.RequestPayloadError):
                return False
        return True


_BODY = web.RequestKey("_BODY", Body)
