"""Takes over what the deployments file says while the server runs, as a whole or not at all."""

import asyncio
from typing import NoReturn

from dagferry_server.auth import watched
from dagferry_server.deploys.deployments_file import WatchedDeployments
from dagferry_server.deploys.retention import apply_retention
from dagferry_server.service import Service


async def take_over_changes(service: Service, file: WatchedDeployments) -> NoReturn:
    """Have the service follow ``file``, which is looked at elsewhere, until cancelled."""
    in_force = file.value
    while True:
        await asyncio.sleep(watched.LOOK_EVERY_SECONDS)
        wanted = file.value
        if wanted is in_force or service.stopping:
            continue
        await service.configure(wanted)
        in_force = wanted
        service.spawn(apply_retention(service))
