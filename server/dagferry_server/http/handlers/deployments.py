"""``/-/deployments``: lists the deployments that the caller may see, creates and deletes some."""

from collections.abc import Collection

from aiohttp import web

from dagferry_core.tokens import SCOPES, Scope
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.http.models import (
    CreateAnswer,
    DeleteAnswer,
    DeploymentAnswer,
    DeploymentsAnswer,
    frozen_answer,
    json_response,
)
from dagferry_server.http.request_context import RequestContext


def visible(context: RequestContext) -> list[tuple[Deployment, list[str]]]:
    """Return the deployments that the caller may see, by name, with the caller's scopes.

    Raises ``StoreError`` if not all of them are known.
    """
    deployments = context.service.deployments
    deployments.check_listed()
    held = [(deployments[name], context.caller.scopes(name)) for name in sorted(deployments)]
    return [(deployment, _sorted(scopes)) for deployment, scopes in held if scopes]


def _sorted(scopes: Collection[Scope]) -> list[str]:
    return [scope for scope in SCOPES if scope in scopes]


async def deployments(context: RequestContext) -> web.StreamResponse:
    """Send what the caller may see of each deployment."""
    rows = [_row(context, deployment, scopes) for deployment, scopes in visible(context)]
    return json_response(DeploymentsAnswer(deployments=rows))


async def create(context: RequestContext) -> web.StreamResponse:
    """Create the deployment, unless it is there, and send it."""
    name, service = context.request.match_info["name"], context.service
    created = await service.deployments.create(name, context.caller.actor, service.clock())
    deployment = service.deployments.find(name)
    row = _row(context, deployment, _sorted(context.caller.scopes(name)))
    return json_response(CreateAnswer(created=created, **dict(row)))


async def delete(context: RequestContext) -> web.StreamResponse:
    """Delete the deployment, unless it is gone; retention removes its bundles."""
    name, service = context.request.match_info["name"], context.service
    deleted = await service.deployments.delete(name, context.caller.actor, service.clock())
    service.retention.request()
    context.state.refusals.forget(name)
    return json_response(DeleteAnswer(name=name, deleted=deleted))


def _row(context: RequestContext, deployment: Deployment, scopes: list[str]) -> DeploymentAnswer:
    service = context.service
    current = None if deployment.fault else deployment.current
    return DeploymentAnswer(
        name=deployment.name,
        state=deployment.fleet.status().state.value,
        version=current.version if current else "",
        deployed_at=current.time if current else None,
        disabled=deployment.settings.disabled,
        frozen=frozen_answer(deployment.freeze_at(service.clock())),
        created_by=service.deployments.created_by(deployment.name),
        scopes=scopes,
        upload_limit_bytes=service.upload_limit(deployment).bytes,
    )
