"""A receiver of webhooks that is as strict as a real one: it accepts only what is complete, recent and signed."""

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import web

SECRET = b"a secret of thirty-two characters"
MAX_AGE_SECONDS = 300


class Received(NamedTuple):
    """One request: its headers, its body, and what was wrong with it; empty if nothing was."""

    headers: dict[str, str]
    body: bytes
    wrong: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Receiver:
    """Answers as ``answer`` says, by default with 204; keeps every request in ``received``."""

    def __init__(self, secret: bytes | None = SECRET) -> None:
        self.secret = secret
        self.received: list[Received] = []
        self.answer: Callable[[Received], web.StreamResponse] = lambda _: web.Response(status=204)
        self.hangs = False
        self.url = ""

    @property
    def accepted(self) -> list[Received]:
        return [request for request in self.received if not request.wrong]

    @asynccontextmanager
    async def served(self, context: ssl.SSLContext | None = None) -> AsyncIterator["Receiver"]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._receive)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        port = runner.addresses[0][1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{port}/hooks/T0/canarypath?key=canarykey"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        received = Received({name.lower(): value for name, value in request.headers.items()}, body, "")
        received = received._replace(wrong=self._wrong(request, received))
        self.received.append(received)
        if self.hangs:
            await asyncio.sleep(3600)
        return web.Response(status=400) if received.wrong else self.answer(received)

    def _wrong(self, request: web.Request, received: Received) -> str:
        headers, body = received.headers, received.body
        if request.method != "POST" or request.content_type != "application/json":
            return f"{request.method} {request.content_type}"
        if self.secret is None:
            return "signed" if any(name.startswith("webhook-") for name in headers) else ""
        if abs(time.time() - int(headers["webhook-timestamp"])) > MAX_AGE_SECONDS:
            return "old"
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        expected = base64.b64encode(hmac.new(self.secret, signed, hashlib.sha256).digest()).decode()
        if headers["webhook-signature"] != f"v1,{expected}":
            return "signature"
        return "" if received.json["id"] == headers["webhook-id"] else "another id"
