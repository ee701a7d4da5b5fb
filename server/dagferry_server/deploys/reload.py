"""Applies changes of the deployments file while the server runs, completely or not at all."""

import asyncio
from typing import NoReturn

from dagferry_server.background import Background
from dagferry_server.config import watched
from dagferry_server.deploys.deployments import Deployments
from dagferry_server.deploys.deployments_file import WatchedDeployments
from dagferry_server.deploys.retention import RetentionRunner


async def apply_changes(
    file: WatchedDeployments, deployments: Deployments, retention: RetentionRunner, background: Background
) -> NoReturn:
    """Configure ``deployments`` whenever ``file``, which is read elsewhere, has changed, until cancelled."""
    applied = file.value
    while True:
        await asyncio.sleep(watched.LOOK_EVERY_SECONDS)
        wanted = file.value
        if wanted is applied or background.stopping:
            continue
        await deployments.configure(wanted, log_settings=True)
        applied = wanted
        retention.request()
