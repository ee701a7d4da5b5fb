"""``POST`` to the path of ``--astro-cli``: what the ``astro`` CLI asks a control plane for, before it uploads.

Only the root field of a query counts; what it selects does not, because the CLI decodes a response without looking at
what is missing. A response has the status 200, and ``errors`` only if the request failed: the CLI shows the message of
the first one. Even an empty list of them makes it crash.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web
from multidict import CIMultiDict
from pydantic import ConfigDict

from dagferry_core.errors import DagferryError
from dagferry_core.names import is_deployment
from dagferry_core.protocol import UPLOAD_PATH
from dagferry_server.auth.access import MAX_NAME_CHARACTERS, no_deployment
from dagferry_server.auth.browser import names_loopback
from dagferry_server.errors import CredentialsRefused, RequestError, Unauthenticated
from dagferry_server.http.admission import identify
from dagferry_server.http.handlers.deployments import visible
from dagferry_server.http.json_body import JsonBody, read_json
from dagferry_server.http.models import FIXED_HEADERS, json_response
from dagferry_server.http.request_context import RequestContext
from dagferry_server.http.root_field import root_field

PLATFORM_VERSION = "1.0.1"
"""The version of a control plane that the CLI gets to know: it decides which queries it sends."""
MAX_QUERY_CHARACTERS = 16_384
"""The size of a query: the CLI's have a few hundred. Anybody may send one, and everybody waits while it is read."""
WHAT_TO_PASTE = (
    "Paste a Dagferry token into the terminal where astro login waits; the server's operator makes one with: "
    "dagferry-server token new\n"
)
_WORKSPACE = {"id": "dagferry", "label": "Dagferry"}
_LOG_IN = "Type astro login houston, and paste a token that the server's operator made with dagferry-server token new."
_NO_IMAGES = "Dagferry deploys DAGs and no images, so nothing was deployed: type astro deploy --dags."
_NO_CHANGES = (
    "Dagferry takes DAG-only deploys for every deployment, so there is nothing to update here: type astro deploy "
    "--dags; the server's operator creates and removes deployments, or dagferry deployments."
)
_INSTEAD = {
    **dict.fromkeys(("deploymentConfig", "runtimeReleases", "updateDeploymentImage"), _NO_IMAGES),
    **dict.fromkeys(("createDeployment", "updateDeployment", "upsertDeployment", "deleteDeployment"), _NO_CHANGES),
}
"""What to type instead of a command of the CLI, by the field that it asks for before it does anything."""

Variables = Mapping[str, Any]


class AstroBody(JsonBody):
    """A GraphQL request. Other keys are ignored, as GraphQL has it."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    query: str
    variables: dict[str, Any] | None = None
    operationName: str | None = None  # noqa: N815 - GraphQL's name


async def token_page(context: RequestContext) -> web.StreamResponse:  # noqa: ARG001 - every handler takes it
    """Say what to paste; the CLI shows this page's URL when it asks for a token."""
    return web.Response(text=WHAT_TO_PASTE, headers=FIXED_HEADERS)


async def astro(context: RequestContext) -> web.StreamResponse:
    """Answer one GraphQL request."""
    body = await read_json(context, AstroBody)
    try:
        answer: dict[str, object] = {"data": await _data(context, body)}
    except DagferryError as error:
        context.refused(error)
        answer = {"errors": [{"message": f"{error.message} {error.hint}".strip()}]}
    return json_response(json.dumps(answer).encode())


async def _data(context: RequestContext, body: AstroBody) -> dict[str, object]:
    if len(body.query) > MAX_QUERY_CHARACTERS:
        raise RequestError(f"The query is not a GraphQL document of at most {MAX_QUERY_CHARACTERS:,} characters.")
    key, name = root_field(body.query, body.operationName)
    answer = _OPEN.get(name) or _ANSWERS.get(name)
    if answer is None:
        shown = name[:MAX_NAME_CHARACTERS]
        unknown = (
            f"Dagferry does not have {shown!r}, which this command needs: type astro deploy --dags to deploy, or "
            "dagferry --help for what else there is."
        )
        raise RequestError(_INSTEAD.get(name, unknown), "")
    if name not in _OPEN:
        context = await _identified(context)
    return {key: await answer(context, body.variables or {})}


async def _identified(context: RequestContext) -> RequestContext:
    try:
        caller = await identify(context.request)
    except CredentialsRefused as error:
        raise CredentialsRefused(error.message, _LOG_IN) from None
    if caller is None:
        raise Unauthenticated("The request has no token.", _LOG_IN)
    return context._replace(identified=caller)


async def _app_config(_: RequestContext, __: Variables) -> object:
    return {"version": PLATFORM_VERSION, "featureFlags": {"dagOnlyDeployment": True}}


async def _auth_config(_: RequestContext, __: Variables) -> object:
    provider = {"name": "dagferry", "displayName": "Dagferry", "url": ""}
    return {"localEnabled": False, "providers": [provider]}


async def _create_token(context: RequestContext, variables: Variables) -> object:
    token = str(variables.get("password") or "")
    try:
        await context.service.authenticator.authenticate(CIMultiDict(Authorization=token))
    except CredentialsRefused as error:
        raise CredentialsRefused(error.message, _LOG_IN) from None
    return {"token": {"value": token}}


async def _workspaces(_: RequestContext, variables: Variables) -> object:
    return [] if variables.get("pageNumber") else [_WORKSPACE]


async def _workspace(_: RequestContext, variables: Variables) -> object:
    return _WORKSPACE if variables.get("workspaceUuid") == _WORKSPACE["id"] else None


async def _deployments(context: RequestContext, _: Variables) -> object:
    found = []
    for deployment, _scopes in visible(context):
        current = None if deployment.fault else deployment.current
        names = dict.fromkeys(("id", "label", "releaseName"), deployment.name)
        version = current.version if current else ""
        found.append({**names, "workspace": {"id": _WORKSPACE["id"]}, "deployInfo": {"current": version}})
    return found


async def _deployment(context: RequestContext, variables: Variables) -> object:
    name = str(variables.get("id") or "")
    if not is_deployment(name) or not context.caller.scopes(name):
        raise no_deployment(name)
    await context.service.deployments.find_or_look(name)
    url = _own_url(context) + UPLOAD_PATH.format(deployment=name)
    return {
        "id": name,
        "releaseName": name,
        "dagDeployment": {"type": "dag_deploy"},
        "urls": [{"type": "dagserver", "url": url}],
    }


def _own_url(context: RequestContext) -> str:
    """Return the URL at which the caller reaches the server; the CLI sends its token there."""
    if url := context.service.settings.public_url:
        return url
    # A name in the request may lead to anybody; only one that leads to the caller's own machine is repeated.
    host = context.request.headers.get("Host", "")
    if not names_loopback(host):
        raise RequestError(
            f"The server was reached as {host[:MAX_NAME_CHARACTERS]!r}, and where to upload to is not configured.",
            "The server's operator has to set --public-url.",
        )
    return f"{context.request.scheme}://{host}"


_Answer = Callable[[RequestContext, Variables], Awaitable[object]]
_OPEN: Mapping[str, _Answer] = {"appConfig": _app_config, "authConfig": _auth_config, "createToken": _create_token}
"""What needs no token, by root field."""
_ANSWERS: Mapping[str, _Answer] = {
    "workspaces": _workspaces,
    "paginatedWorkspaces": _workspaces,
    "workspace": _workspace,
    "workspaceDeployments": _deployments,
    "paginatedDeployments": _deployments,
    "deployment": _deployment,
}
"""What needs a token, by root field."""
