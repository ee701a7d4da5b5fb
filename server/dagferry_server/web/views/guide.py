"""How to deploy to this server, and which limits are in effect."""

import re
from typing import Any

from aiohttp import web

from dagferry_core.limits import MAX_PATHS_BYTES, MAX_RATIO
from dagferry_server.auth.browser import names_loopback
from dagferry_server.http.models import json_response
from dagferry_server.http.request_context import RequestContext
from dagferry_server.web.models import RefusalAnswer, RefusalsAnswer, limits_answer
from dagferry_server.web.site import Site

_HOST = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")


def server_url(request: web.Request, public_url: str | None) -> str:
    """Return the URL of this server as the visitor reaches it, as far as that is known; empty if it is not.

    Browsers say where a request comes from (``Sec-Fetch-Site``) over https and to their own machine only, so that a
    proxy with TLS is noticed. A path of a proxy is not seen here; the script puts it in.
    """
    if public_url:
        return public_url
    if not _HOST.fullmatch(request.host):
        return ""
    encrypted = request.secure or ("Sec-Fetch-Site" in request.headers and not names_loopback(request.host))
    return f"{'https' if encrypted else 'http'}://{request.host}"


async def guide(site: Site, context: RequestContext) -> web.StreamResponse:
    """Show the commands and the limits."""
    here, settings = context.deployment, context.service.settings
    values: dict[str, Any] = {
        "deployment": here.name,
        "server": server_url(context.request, settings.public_url) or "https://YOUR-SERVER",
        "is_exact": settings.public_url is not None,
        "limits": limits_answer(here, context.service.upload_limit(here)),
        "max_paths_bytes": MAX_PATHS_BYTES,
        "max_ratio": MAX_RATIO,
        "scopes": context.caller.scopes(here.name),
        "folders": context.caller.prefixes(here.name) or (),
        "needs_token": context.service.authenticator.auth_required,
        "json_url": f"deployments/{here.name}/json/limits",
    }
    return site.page(context.request, "guide.html", **values)


async def limits_json(context: RequestContext) -> web.StreamResponse:
    """Send the limits."""
    return json_response(limits_answer(context.deployment, context.service.upload_limit(context.deployment)))


async def refusals(site: Site, context: RequestContext) -> web.StreamResponse:
    """Show the deploys that were refused lately."""
    here, kept = context.deployment, context.state.refusals
    return site.page(
        context.request,
        "refusals.html",
        deployment=here.name,
        refusals=kept.of(here.name),
        refusals_since=kept.since,
        json_url=f"deployments/{here.name}/json/refusals",
    )


async def refusals_json(context: RequestContext) -> web.StreamResponse:
    """Send them."""
    kept = context.state.refusals
    found = [RefusalAnswer(**refusal._asdict()) for refusal in kept.of(context.deployment.name)]
    return json_response(RefusalsAnswer(since=kept.since, refusals=found))
