"""Rejects requests by web pages of other origins, where a browser needs no secret to use the server.

An open web page can make the browser send requests to the user's own machine, or through a proxy that identifies the
user by a cookie. Browsers report in headers where a request comes from; other clients do not send them. A page whose
own name resolves to 127.0.0.1 has the same origin as the server, and is recognized only by that name (DNS rebinding).
"""

import re
from collections.abc import Mapping

from dagferry_core.documentation import DOCUMENTATION
from dagferry_core.loopback import is_loopback
from dagferry_server.errors import OriginRefused

_OWN_SITES = {"same-origin", "none"}
"""Values of Sec-Fetch-Site (W3C Fetch Metadata); ``none`` is a typed address, ``same-site`` may be another port."""

_HOST = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]]+))(?::[0-9]+)?")


def refuse_web_pages(headers: Mapping[str, str], *, loopback_only: bool) -> None:
    """Raise ``OriginRefused`` if a web page of another origin sent the request.

    With ``loopback_only``, the Host header must be a loopback address or name.
    """
    _refuse_other_sites(headers)
    _refuse_other_names(headers, loopback_only=loopback_only)


def refuse_embedding(headers: Mapping[str, str], *, loopback_only: bool) -> None:
    """Raise ``OriginRefused`` if a page of another origin asks for one of ours, unless a person followed a link to it.

    A link shows our page to the person; the page that has the link learns nothing. Frames are not links.
    """
    if (headers.get("Sec-Fetch-Mode"), headers.get("Sec-Fetch-Dest")) != ("navigate", "document"):
        _refuse_other_sites(headers)
    _refuse_other_names(headers, loopback_only=loopback_only)


def refuse_foreign_form(headers: Mapping[str, str], *, loopback_only: bool) -> None:
    """Raise ``OriginRefused`` unless a page of this origin sent a form, as the browser reports it.

    ``Origin`` counts only where the browser does not send ``Sec-Fetch-Site``, which it does over https and to this
    machine: a proxy may have changed ``Host``, so that the two differ.
    """
    site, origin, host = headers.get("Sec-Fetch-Site"), headers.get("Origin"), headers.get("Host", "")
    if (site != "same-origin") if site else (origin not in {f"http://{host}", f"https://{host}"}):
        raise OriginRefused(
            f"This form was not sent by a page of this server (Sec-Fetch-Site: {(site or '')[:40]!r}, "
            f"Origin: {(origin or '')[:200]!r}).",
            "Open the page again, and send its form. Programs use the endpoints: "
            f"see {DOCUMENTATION}/reference/protocol.md.",
        )
    _refuse_other_names(headers, loopback_only=loopback_only)


def _refuse_other_sites(headers: Mapping[str, str]) -> None:
    host = headers.get("Host", "")
    site = headers.get("Sec-Fetch-Site", "none")
    origin = headers.get("Origin")
    if site not in _OWN_SITES:
        raise OriginRefused(f"A web page on another site sent this request (Sec-Fetch-Site: {site[:40]!r}).")
    if origin is not None and origin not in {f"http://{host}", f"https://{host}"}:
        raise OriginRefused(f"A web page of another origin sent this request: {origin[:200]!r}.")


def _refuse_other_names(headers: Mapping[str, str], *, loopback_only: bool) -> None:
    host = headers.get("Host", "")
    # Every browser sends Host; HTTP/1.0 health checks do not.
    if loopback_only and host and not names_loopback(host):
        raise OriginRefused(
            f"Host header {host[:200]!r} rejected: a server without credentials only accepts requests to itself.",
            "Use 127.0.0.1 or localhost. To use a proxy or another name, configure credentials, such as "
            f"--tokens-file: see {DOCUMENTATION}/how-to/set-up-credentials.md.",
        )


def names_loopback(host: str) -> bool:
    """Return whether a Host header names this machine as it sees itself; such a name leads to nobody else."""
    match = _HOST.fullmatch(host)
    return match is not None and is_loopback((match[1] or match[2]).lower())
