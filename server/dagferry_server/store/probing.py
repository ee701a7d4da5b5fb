"""Probes a store while the server runs: a storage that is away at start may answer later, and be refused only then."""

import asyncio
import contextlib
import logging
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dagferry_core.errors import SetupError
from dagferry_runtime.logs import log_failure
from dagferry_server.errors import StoreError
from dagferry_server.store.base import Store

FIRST_PROBE_SECONDS = 15.0
"""How long the start waits for the storage; a probe takes less than a second, or 10 s on a slow store."""
PROBE_PAUSE_SECONDS = 5.0
"""The pause between two probes of a storage that is away."""

_NONCE = re.compile(r"[0-9a-f]{32}")

log = logging.getLogger(__name__)


@asynccontextmanager
async def probed(store: Store) -> AsyncIterator[None]:
    """Probe the store until the storage answers, from before the block until its end.

    The block starts after the first probe, or after ``FIRST_PROBE_SECONDS``. Raises ``SetupError`` if the storage is
    refused: before the block, or at its end, which a SIGTERM to this process then asks for.
    """
    attempted = asyncio.Event()
    probing = asyncio.create_task(_probe(store, attempted))
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(attempted.wait(), FIRST_PROBE_SECONDS)
    if probing.done():
        probing.result()
    else:
        probing.add_done_callback(_end_if_refused)
    try:
        yield
    finally:
        probing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await probing


async def _probe(store: Store, attempted: asyncio.Event) -> None:
    failed = ""
    while True:
        try:
            await asyncio.to_thread(store.probe)
        except StoreError as error:
            said = _NONCE.sub("", error.message)
            if failed != said:  # the same text each time says nothing new
                log_failure("The store cannot be probed; the server tries again", error)
            failed = said
        else:
            if failed:
                log.info("Recovered: the store answers")
            return
        finally:
            attempted.set()
        await asyncio.sleep(PROBE_PAUSE_SECONDS)


def _end_if_refused(probing: "asyncio.Task[None]") -> None:
    if not probing.cancelled() and isinstance(probing.exception(), SetupError):
        signal.raise_signal(signal.SIGTERM)
