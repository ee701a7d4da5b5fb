"""``GET /-/whoami``: who the caller is, and what the caller may do."""

from aiohttp import web

from dagferry_server.http.handlers.deployments import visible
from dagferry_server.http.models import PermissionAnswer, WhoamiAnswer, json_response
from dagferry_server.http.request_context import RequestContext


async def whoami(context: RequestContext) -> web.StreamResponse:
    """Send the caller's name and scopes, by deployment."""
    caller = context.caller
    seen = [(deployment.name, scopes) for deployment, scopes in visible(context)]
    rows = [
        PermissionAnswer(name=name, scopes=scopes, prefixes=list(caller.prefixes(name) or ())) for name, scopes in seen
    ]
    expires = None if caller.expires is None else int(caller.expires)
    return json_response(WhoamiAnswer(actor=caller.actor, expires=expires, deployments=rows))
