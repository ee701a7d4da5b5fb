"""What the headers of a request report about the sidecar that sends it."""

import re
from collections.abc import Mapping
from urllib.parse import unquote

from dagferry_core.protocol import COMPONENT, DEREGISTER, ERROR, INSTANCE, LIVE, MAX_ERROR_CHARACTERS
from dagferry_server.fleet.sidecars import Report

MAX_NAME_CHARACTERS = 253
"""A longer instance or component is truncated; the name of a pod may be as long."""
MAX_VERSION_CHARACTERS = 63

_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa0-\ud7ff\ue000-\uffff]")
"""Also lone surrogates: bytes of a header that are not UTF-8 become such."""


def report_of(headers: Mapping[str, str]) -> Report | None:
    """Return what a request reports about its sender, truncated; ``None`` if it does not name an instance."""
    instance = headers.get(INSTANCE)
    if not instance:
        return None
    return Report(
        instance=_clean(instance, MAX_NAME_CHARACTERS),
        component=_clean(headers.get(COMPONENT, ""), MAX_NAME_CHARACTERS),
        live=_clean(headers.get(LIVE, ""), MAX_VERSION_CHARACTERS),
        error=_clean(unquote(headers.get(ERROR, "")), MAX_ERROR_CHARACTERS),
        deregister=headers.get(DEREGISTER) == "1",
    )


def _clean(text: str, most: int) -> str:
    # It is shown on terminals, where control characters do harm.
    return _UNPRINTABLE.sub("?", text[:most])
