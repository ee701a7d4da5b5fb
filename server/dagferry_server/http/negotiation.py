"""What a request says that the client has or can read: ``If-None-Match`` and ``Accept-Encoding``."""

import re
from collections.abc import Mapping
from types import MappingProxyType

from aiohttp import web

from dagferry_core.names import version_sequence
from dagferry_server.http.models import FIXED_HEADERS

_TAG = re.compile(r'(?:W/)?"([^"]*)"')
_NOT_WANTED = re.compile(r"q=0(\.0{0,3})?")
"""The weight of a coding that the client refuses (RFC 9110 §12.4.2)."""


def has_seen(if_none_match: str, tag: str) -> bool:
    """Return whether ``If-None-Match`` (RFC 9110 §13.1.2: a list of tags, weak or not, or ``*``) covers ``tag``."""
    return if_none_match.strip() == "*" or tag in _TAG.findall(if_none_match)


def not_modified(tag: str, headers: Mapping[str, str] = MappingProxyType({})) -> web.Response:
    """Return the response for a client that has what ``tag`` names, with more ``headers``."""
    return web.Response(status=304, headers={**FIXED_HEADERS, "ETag": f'"{tag}"', **headers})


def newest_seen(if_none_match: str) -> int:
    """Return the highest sequence of the versions that ``If-None-Match`` names; 0 if it names none."""
    return max((found for tag in _TAG.findall(if_none_match) if (found := _sequence(tag))), default=0)


def _sequence(tag: str) -> int:
    try:
        return version_sequence(tag)
    except ValueError:  # what another endpoint sends, or NOTHING_TAG
        return 0


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether ``Accept-Encoding`` (RFC 9110 §12.5.3) names gzip or ``*``, and does not refuse it."""
    wanted: dict[str, bool] = {}
    for item in accept_encoding.lower().split(","):
        coding, *parameters = (part.strip() for part in item.split(";"))
        wanted[coding] = not any(map(_NOT_WANTED.fullmatch, parameters))
    return wanted.get("gzip", wanted.get("x-gzip", wanted.get("*", False)))
