"""What the headers of a request report about the sidecar that sends it."""

from collections.abc import Mapping
from urllib.parse import unquote

from dagferry_core.protocol import (
    COMPONENT,
    DEREGISTER,
    ERROR,
    IN_USE,
    INSTANCE,
    LIVE,
    LOG,
    MAX_ERROR_CHARACTERS,
    ONCE,
    VOLUME,
)
from dagferry_server.fleet.cleaning import MAX_ID_CHARACTERS, MAX_NAME_CHARACTERS, MAX_VERSION_CHARACTERS, clean
from dagferry_server.fleet.sidecars import Report

MAX_IN_USE = 99_999
"""A number of more digits is shown as this one."""


def report_of(headers: Mapping[str, str], pod: str | None = None) -> Report | None:
    """Return what a request reports about its sender, truncated; ``None`` if it does not name an instance.

    Also ``None`` for a sidecar that runs once: it is gone soon, so nobody may wait for it. ``pod`` is the pod that the
    sender's credentials were issued to, if they name one: then the report is about this pod, whatever it says.
    """
    instance = headers.get(INSTANCE)
    if not instance or headers.get(ONCE) == "1":
        return None
    return Report(
        instance=clean(pod or instance, MAX_NAME_CHARACTERS),
        component=clean(headers.get(COMPONENT, ""), MAX_NAME_CHARACTERS),
        live=clean(headers.get(LIVE, ""), MAX_VERSION_CHARACTERS),
        error=clean(unquote(headers.get(ERROR, "")), MAX_ERROR_CHARACTERS),
        deregister=headers.get(DEREGISTER) == "1",
        volume=clean(headers.get(VOLUME, ""), MAX_ID_CHARACTERS),
        log_id=clean(headers.get(LOG, ""), MAX_ID_CHARACTERS),
        in_use=_number(headers.get(IN_USE, "")),
    )


def _number(text: str) -> int:
    """Return a number as it is, or 0 for any other text."""
    if not (text.isascii() and text.isdigit()):
        return 0
    return int(text) if len(text) <= len(str(MAX_IN_USE)) else MAX_IN_USE
