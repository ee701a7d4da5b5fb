"""Warns before a token expires: its users would not notice otherwise."""

import asyncio
import logging
from collections.abc import Callable
from typing import NoReturn

from dagferry_core.tokens import format_time
from dagferry_runtime.logs import fields
from dagferry_server.auth.tokens import Tokens, ending
from dagferry_server.config.watched import WatchedFile

WARN_SECONDS = (7 * 86400.0, 86400.0)
"""How long before it expires a token is named in the log, once each."""
LOOK_AT_EXPIRY_EVERY_SECONDS = 60.0

log = logging.getLogger(__name__)


async def warn_of_expiry(tokens: WatchedFile[Tokens], now: Callable[[], float]) -> NoReturn:
    """Log a warning for each name whose last token expires soon, until cancelled. ``now``: seconds since the epoch."""
    warned: dict[tuple[str, float], int] = {}
    while True:
        warnings = {}
        for name, expires in ending(tokens.value.tokens, now()).items():
            due = sum(expires - now() <= seconds for seconds in WARN_SECONDS)
            if due > warned.get((name, expires), 0):
                log.warning("Token expires soon", extra=fields(token=name, expires=format_time(expires)))
            warnings[name, expires] = due
        warned = warnings
        await asyncio.sleep(LOOK_AT_EXPIRY_EVERY_SECONDS)
