"""Keeps other people's web pages out, where no secret that only a person knows stands between them and the server.

A page that somebody has open can make their browser send requests to their own laptop, or through a proxy that knows
them by a cookie. Browsers say where a request comes from; nothing else sends these headers. A page that had its own
name point at 127.0.0.1 is of the same origin as the server, and is known by that name alone (DNS rebinding).
"""

import re
from collections.abc import Mapping

from dagferry_core.documentation import DOCUMENTATION
from dagferry_core.loopback import is_loopback
from dagferry_server.errors import OriginRefused

_OWN_SITES = {"same-origin", "none"}
"""Of Sec-Fetch-Site (W3C Fetch Metadata); ``none`` is an address somebody typed. ``same-site`` is another port."""

_HOST = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]]+))(?::[0-9]+)?")


def refuse_web_pages(headers: Mapping[str, str], *, loopback_only: bool) -> None:
    """Raise ``OriginRefused`` if a web page of another origin made the request.

    With ``loopback_only``, what the request calls this server must be a name that only this machine has.
    """
    host = headers.get("Host", "")
    site = headers.get("Sec-Fetch-Site", "none")
    origin = headers.get("Origin")
    if site not in _OWN_SITES:
        raise OriginRefused(f"A web page of another site made this request (Sec-Fetch-Site: {site[:40]!r}).")
    if origin is not None and origin not in {f"http://{host}", f"https://{host}"}:
        raise OriginRefused(f"A web page of another origin made this request: {origin[:200]!r}.")
    # Every browser sends Host; health checks in HTTP/1.0 do not.
    if loopback_only and host and not _names_loopback(host):
        raise OriginRefused(
            f"This server has no credentials and answers to this machine only; the request asks for {host[:200]!r}.",
            "Call it 127.0.0.1 or localhost. Behind a proxy or under another name it needs credentials, such as "
            f"--tokens-file: see {DOCUMENTATION}/how-to/set-up-credentials.md.",
        )


def _names_loopback(host: str) -> bool:
    match = _HOST.fullmatch(host)
    return match is not None and is_loopback((match[1] or match[2]).lower())
