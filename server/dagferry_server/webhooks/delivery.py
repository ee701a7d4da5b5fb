"""Delivers messages to webhooks in the background: bounded, with retries, and never in the way of a deploy.

Each webhook has a queue and gets its messages in order, one at a time, at least once as long as the server runs. One
that fails is tried again after growing pauses until it is too old. What does not fit a queue, or is too old, is
dropped: counted and logged. Queues are in memory; at its end, the server tries each message that is left once more.

Names are resolved and files are read in threads of their own: the shared ones do the work of deploys.
"""

import asyncio
import logging
import random
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterable
from functools import partial

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from dagferry_core import __version__
from dagferry_core.errors import SetupError
from dagferry_core.protocol import JSON_TYPE
from dagferry_follow.remote.connection import tls_context
from dagferry_runtime.logs import fields
from dagferry_runtime.regular import read_regular
from dagferry_server.config.blocking import Blocking
from dagferry_server.metrics import Metrics
from dagferry_server.webhooks.messages import Message
from dagferry_server.webhooks.settings import Webhook, shown_url
from dagferry_server.webhooks.signing import secret_bytes, signature_headers

MAX_QUEUED = 100
"""Messages that wait for one webhook."""
MAX_QUEUED_IN_TOTAL = 5000
MAX_SENDING = 20
"""How many requests are sent at the same time."""
ATTEMPT_SECONDS = 10.0
"""For one request, from connecting to its status."""
FILES_SECONDS = 5.0
RESOLVE_SECONDS = 5.0
RETRY_FIRST_SECONDS = 1.0
RETRY_MAX_SECONDS = 60.0
"""The pause before another attempt; it doubles, up to the maximum, and is up to a half shorter by chance."""
GIVE_UP_SECONDS = 900.0
"""No message is tried again that is older than this."""
CLOSE_SECONDS = 5.0
"""How long the end of the server waits for the last attempts."""
MAX_SECRET_BYTES = 4096

DELIVERED, FAILED, DROPPED = "delivered", "failed", "dropped"
"""What becomes of an attempt or a message, in the metrics."""

_Key = tuple[str, Webhook]

log = logging.getLogger(__name__)


class _Waiting:
    """A message in a queue, and when it came there on the event loop's clock."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.since = asyncio.get_running_loop().time()


class Webhooks:
    """The queues of all webhooks. Used on the event loop."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._queues: dict[_Key, deque[_Waiting]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending = asyncio.Semaphore(MAX_SENDING)
        self._closing = asyncio.Event()

    def send(self, webhooks: Iterable[Webhook], message: Message) -> None:
        """Deliver ``message`` in the background to those of a deployment's ``webhooks`` that want its event."""
        for webhook in webhooks:
            if message.event in webhook.events:
                self._enqueue((message.deployment, webhook), message)

    def _enqueue(self, key: _Key, message: Message) -> None:
        queue = self._queues.get(key, deque())
        is_full = len(queue) >= MAX_QUEUED or sum(map(len, self._queues.values())) >= MAX_QUEUED_IN_TOTAL
        if is_full or self._closing.is_set():
            self._drop(key, message, "the server is stopping" if not is_full else "too many messages are waiting")
            return
        queue.append(_Waiting(message))
        if key not in self._queues:
            self._queues[key] = queue
            task = asyncio.create_task(self._deliver_all(key, queue))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Try what is left once more, for up to ``CLOSE_SECONDS``; drop the rest."""
        self._closing.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _deliver_all(self, key: _Key, queue: deque[_Waiting]) -> None:
        blocking = Blocking("webhook")
        try:
            while queue:
                await self._deliver(key, queue[0], blocking)
                queue.popleft()
        except Exception:
            log.exception("Internal error while sending a webhook", extra=_of(key))
        finally:
            del self._queues[key]
            for waiting in queue:
                self._drop(key, waiting.message, "the server is stopping")

    async def _deliver(self, key: _Key, waiting: _Waiting, blocking: Blocking) -> None:
        pause, attempt = RETRY_FIRST_SECONDS, 1
        while error := await self._attempt(key, waiting.message, blocking):
            self._count(key, FAILED)
            too_old = asyncio.get_running_loop().time() + pause - waiting.since > GIVE_UP_SECONDS
            if too_old or self._closing.is_set():
                self._drop(key, waiting.message, error, attempts=attempt)
                return
            if attempt == 1:
                log.warning("Webhook failed; it is tried again", extra=_of(key, waiting.message, error=error))
            await self._sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - not for secrets
            pause, attempt = min(2 * pause, RETRY_MAX_SECONDS), attempt + 1
        self._count(key, DELIVERED)
        log.info("Webhook delivered", extra=_of(key, waiting.message, attempts=attempt))

    async def _sleep(self, seconds: float) -> None:
        """Wait; at the server's end no longer."""
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except (TimeoutError, asyncio.TimeoutError):
            return

    async def _attempt(self, key: _Key, message: Message, blocking: Blocking) -> str | None:
        """Send a message once; return why that failed, without anything secret, ``None`` if it was accepted."""
        _, webhook = key
        try:
            async with self._sending:
                context, secret = await blocking.call(partial(_credentials, webhook), FILES_SECONDS)
                return await _post(webhook, message, secret, context, _Resolver(blocking))
        except SetupError as error:
            return error.message
        except aiohttp.ClientConnectorCertificateError as error:
            return f"its certificate is not trusted: {error.certificate_error}"
        except aiohttp.ClientConnectorError as error:
            return f"no connection: {error.os_error}"
        except (TimeoutError, asyncio.TimeoutError):
            return f"no answer within {ATTEMPT_SECONDS:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return type(error).__name__  # its text may have the URL

    def _drop(self, key: _Key, message: Message, why: str, **more: object) -> None:
        self._count(key, DROPPED)
        log.error("Webhook dropped", extra=_of(key, message, error=why, **more))

    def _count(self, key: _Key, outcome: str) -> None:
        self._metrics.webhooks.labels(key[0], outcome).inc()


class _Resolver(AbstractResolver):
    """Resolves names in a thread of its own."""

    def __init__(self, blocking: Blocking) -> None:
        self._blocking = blocking

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        look = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
        found = await self._blocking.call(look, RESOLVE_SECONDS)
        return [
            ResolveResult(
                hostname=host, host=str(at[0]), port=port, family=kind, proto=proto, flags=socket.AI_NUMERICHOST
            )
            for kind, _, proto, _, at in found
        ]

    async def close(self) -> None:
        pass


def _credentials(webhook: Webhook) -> tuple[ssl.SSLContext, bytes | None]:
    """Return what a request needs from files, which are read each time: both are renewed while the server runs."""
    path = webhook.secret_file
    return tls_context(None), secret_bytes(read_regular(path, MAX_SECRET_BYTES), path) if path else None


async def _post(
    webhook: Webhook, message: Message, secret: bytes | None, context: ssl.SSLContext, resolver: AbstractResolver
) -> str | None:
    body = message.body(webhook.format)
    headers = {"Content-Type": JSON_TYPE, "User-Agent": f"dagferry/{__version__}"}
    if secret:
        headers |= signature_headers(secret, message.id, int(time.time()), body)
    connector = aiohttp.TCPConnector(ssl=context, resolver=resolver, force_close=True)
    timeout = aiohttp.ClientTimeout(total=ATTEMPT_SECONDS)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=True) as session,
        # A redirect could lead anywhere. The body of the answer is of no interest, whatever its size.
        session.post(webhook.url, data=body, headers=headers, allow_redirects=False) as response,
    ):
        accepted = 200 <= response.status < 300  # noqa: PLR2004 - any 2xx
        return None if accepted else f"the receiver answered with status {response.status}"


def _of(key: _Key, message: Message | None = None, **more: object) -> dict[str, dict[str, object]]:
    about = {"id": message.id, "event": message.event} if message else {}
    return fields(deployment=key[0], webhook=shown_url(key[1].url), **about, **more)
