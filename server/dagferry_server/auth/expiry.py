"""Warns before a token ends: nobody else would tell those who deploy with it."""

import asyncio
import logging
from collections.abc import Callable
from typing import NoReturn

from dagferry_runtime.logs import fields
from dagferry_server.auth.tokens import Tokens, ending, shown_time
from dagferry_server.auth.watched import WatchedFile

WARN_SECONDS = (7 * 86400.0, 86400.0)
"""How long before its end a token is named in the log, once each."""
LOOK_AT_EXPIRY_EVERY_SECONDS = 60.0

log = logging.getLogger(__name__)


async def warn_of_expiry(tokens: WatchedFile[Tokens], now: Callable[[], float]) -> NoReturn:
    """Log a warning for each name whose last token ends soon, until cancelled. ``now`` is since the epoch."""
    told: dict[tuple[str, float], int] = {}
    while True:
        warnings = {}
        for name, expires in ending(tokens.value.tokens, now()).items():
            due = sum(expires - now() <= seconds for seconds in WARN_SECONDS)
            if due > told.get((name, expires), 0):
                log.warning("A token ends soon", extra=fields(token=name, expires=shown_time(expires)))
            warnings[name, expires] = due
        told = warnings
        await asyncio.sleep(LOOK_AT_EXPIRY_EVERY_SECONDS)
