"""What becomes of a request's body when the request is refused.

Clients of the upload protocol send the whole body before they look at the answer. If the answer and the end of the
connection come earlier, they see a broken connection, and try again with an empty file. So a refusal first reads on
and discards what arrives, within limits; then it answers, closes its own half of the connection, and reads on for a
little, so that the answer is not lost in a reset. TLS has no half to close, but what is not read would be answered with
a reset there too: a proxy that is still sending would make a 502 of our answer.

A client that sent ``Expect: 100-continue`` waits for a word before it sends the body; it is refused at once. So is one
whose body is given up because it comes too slowly.
"""

import asyncio
import math
import time

from aiohttp import web
from aiohttp.http import HttpVersion11

from dagferry_core.limits import MIB

DISCARD_BYTES = 64 * MIB
DISCARD_SECONDS = 10
"""How much is read on before a refusal is answered."""
LINGER_SECONDS = 2
MAX_LINGER_SECONDS = 10
"""After the answer is read on until the client closes, or sends nothing for so long, or sends for so long."""


class Body:
    """The body of one request, for those who refuse it."""

    __slots__ = ("_at_once", "_request", "_waits")

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        expected = request.headers.get("Expect", "").lower()
        self._at_once = False
        self._waits = expected == "100-continue" and request.version >= HttpVersion11

    def invite(self) -> None:
        """Tell a client that waits for it to send the body."""
        if self._waits and self._request.transport is not None:
            self._request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._waits = False

    def give_up(self) -> None:
        """Answer a refusal at once: what is still to come takes too long."""
        self._at_once = True

    async def refuse(self, response: web.StreamResponse) -> web.StreamResponse:
        """Answer with ``response``, which says that the request is refused."""
        is_sent = not self._waits and not self._at_once
        if is_sent and await self._discard(DISCARD_SECONDS, DISCARD_SECONDS, DISCARD_BYTES):
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
        """Read and forget up to about ``most`` bytes for up to ``seconds``; tell whether that was all.

        It ends too when nothing comes for ``silence`` seconds.
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
