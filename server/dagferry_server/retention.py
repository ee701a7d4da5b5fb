"""Deletes the bundles that no kept deploy names. The log itself stays.

A deployment's bundles are deleted under its lock, by rules that are looked at again under it: a commit that names an
old content anew comes before or after, never in between. Who has a bundle open reads it to its end.
"""

import asyncio
import logging

from dagferry_core.command import fields
from dagferry_core.deploylog import StoredDeploy, kept_bundles
from dagferry_core.errors import StoreFailed, StoreFull
from dagferry_server.deployments import Deployment
from dagferry_server.failures import log_failure
from dagferry_server.service import Service

log = logging.getLogger(__name__)


async def apply_retention(service: Service) -> None:
    """Delete what is not kept, in every deployment; a failure is logged, and the next run tries again."""
    for deployment in service.deployments.values():
        async with deployment.lock:
            await _apply(service, deployment)


async def _apply(service: Service, deployment: Deployment) -> None:
    if deployment.away:
        return  # an entry that cannot be read now may name any of the bundles
    try:
        await _delete_surplus(service, deployment)
    except (StoreFailed, StoreFull) as error:
        log_failure("Retention failed", error, deployment=deployment.name)


async def _delete_surplus(service: Service, deployment: Deployment) -> None:
    names = list(service.deployments)
    bundles = await asyncio.to_thread(lambda: {name: service.store.bundles(name) for name in names})
    stored = [
        StoredDeploy(name, deploy, bundles[name].get(deploy.digest, 0))
        for name in names
        for deploy in service.deployments[name].recent.values()
    ]
    kept = kept_bundles(stored, service.retention, service.clock())
    mine = bundles[deployment.name]
    surplus = {digest for digest in mine if (deployment.name, digest) not in kept}
    if deployment.unreadable:
        # A bundle that no entry names may be the one of an entry that somebody is about to restore.
        surplus &= {deploy.digest for deploy in deployment.recent.values()}
    for digest in surplus:
        await asyncio.to_thread(service.store.delete_bundle, deployment.name, digest)
    left = [size for digest, size in mine.items() if digest not in surplus]
    service.metrics.stored_bytes.labels(deployment.name).set(sum(left))
    service.metrics.stored_bundles.labels(deployment.name).set(len(left))
    if surplus:
        log.info(
            "Bundles deleted",
            extra=fields(deployment=deployment.name, deleted=len(surplus), stored=len(left), stored_bytes=sum(left)),
        )
