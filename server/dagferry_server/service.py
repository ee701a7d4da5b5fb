"""The parts of the server, and how they are opened and closed.

Each part has one task and gets what it needs when it is created; the handlers of requests find the parts here. Nothing
here depends on HTTP: the listeners in ``dagferry_server.http.listeners`` use the service, and have their own state in
``dagferry_server.http.app_state``.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from dagferry_core.limits import UploadLimit, upload_limit
from dagferry_gate.check import Gate
from dagferry_gate.ruff import find_ruff
from dagferry_server.auth.authenticate import Authenticator
from dagferry_server.background import Background
from dagferry_server.config.watched import Reload, WatchedFile, running, watch
from dagferry_server.deploys.announcer import Announcer
from dagferry_server.deploys.deployer import Deployer
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.deploys.deployments import Deployments
from dagferry_server.deploys.deployments_file import (
    Configured,
    WatchedDeployments,
    common_settings,
    watched_deployments,
)
from dagferry_server.deploys.following import Following
from dagferry_server.deploys.gate import DeployGate
from dagferry_server.deploys.import_check import ImportChecks
from dagferry_server.deploys.leases import Leases
from dagferry_server.deploys.patches import Patches
from dagferry_server.deploys.readiness import Readiness
from dagferry_server.deploys.reload import apply_changes
from dagferry_server.deploys.retention import RetentionRunner
from dagferry_server.fleet.merge import Others
from dagferry_server.metrics import Metrics
from dagferry_server.peers.client import Tls
from dagferry_server.peers.peers import Peers
from dagferry_server.peers.signing import Verifier, parse_secrets
from dagferry_server.settings import Settings
from dagferry_server.store.base import Store
from dagferry_server.store.data_folder import DataFolder
from dagferry_server.webhooks.delivery import Webhooks

DEPLOYMENTS = "deployments"
"""The name of the deployments file in ``reloads`` and in the metrics."""
PEER_SECRET = "peer_secret"  # noqa: S105 - a name
"""The name of the file with the peers' secret there."""
UNSURE = Others(
    missing="Other servers may use this store, and know of more pods: give all of them --peers, or the only one "
    "--single-server."
)


class Service:
    """The server without its listeners. Made on the event loop, with ``open``."""

    def __init__(
        self,
        settings: Settings,
        folder: DataFolder,
        store: Store,
        authenticator: Authenticator,
        *,
        gate: Gate,
        capacity_bytes: int | None,
        deployments_file: WatchedDeployments | None,
        peer_secrets: WatchedFile[tuple[bytes, ...]] | None,
        clock: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.store = store
        self.authenticator = authenticator
        self.deployments_file = deployments_file
        self.clock = clock
        self.max_store_bytes = settings.store_bytes(capacity_bytes)

        self.background = Background()
        self.metrics = Metrics(settings.upload_limit)
        self.metrics.store_limit.set(self.max_store_bytes)
        self.deployments = Deployments(
            store, folder, self.metrics, self.background, show_names=not authenticator.auth_required
        )
        self.following = Following(
            store, self.deployments, self.metrics, self.background, poll_seconds=settings.store_poll
        )
        self.readiness = Readiness(store, self.deployments, self.following, self.background)
        self.webhooks = Webhooks(self.metrics)
        announcer = Announcer(self.webhooks, clock)
        self.deployments.on_state.append(announcer.changed)
        self.peer_secrets = peer_secrets
        self.peers: Peers | None = None
        if settings.peers and peer_secrets:
            self.peers = self._peers(settings, peer_secrets, announcer)
        elif store.shared and not settings.single_server:
            self.deployments.on_opened.append(_doubt)
        self.patches = Patches(store)
        self.leases = Leases(store, self.deployments)
        self.retention = RetentionRunner(
            store,
            self.deployments,
            self.metrics,
            self.background,
            deleted=self.deployments.created.to_empty,
            max_store_bytes=self.max_store_bytes,
            clock=clock,
        )
        self.checks = ImportChecks(
            store, self.deployments, self.metrics, self.background, poll_seconds=settings.store_poll, clock=clock
        )
        self.deployer = Deployer(
            store,
            folder,
            deployments=self.deployments,
            patches=self.patches,
            retention=self.retention,
            metrics=self.metrics,
            webhooks=self.webhooks,
            clock=clock,
            gate=DeployGate(gate, self.metrics),
            checks=self.checks,
        )

    def _peers(self, settings: Settings, file: WatchedFile[tuple[bytes, ...]], announcer: Announcer) -> Peers:
        tls = Tls(settings.tls_cert, settings.peer_server_name) if settings.tls_cert else None
        peers = Peers(settings.peers or (), lambda: file.value, tls, self.deployments, self.metrics)
        self.peer_verifier = Verifier(lambda: file.value, self.clock)
        self.deployments.on_opened.append(peers.connect)
        self.deployments.on_change.append(peers.poke)
        announcer.leader, announcer.own_id = peers.leader, peers.id
        peers.on_gone = announcer.sender_gone
        peers.on_poke = self.following.look_soon
        peers.reaches_store = lambda: self.following.reaches_store
        self.readiness.peer_reaches_store = peers.any_reaches_store
        return peers

    @classmethod
    async def open(
        cls,
        settings: Settings,
        folder: DataFolder,
        store: Store,
        authenticator: Authenticator,
        clock: Callable[[], float] = time.time,
    ) -> "Service":
        """Read the files that the settings name, and every deployment's log from ``store``.

        A log that cannot be read now is tried again in the background. Raises ``SetupError`` if a file cannot be used,
        or if there is no ruff for the gate. The caller closes ``folder``.
        """
        file = secrets = None
        if settings.peer_secret_file:
            secrets = await asyncio.to_thread(_peer_secrets, settings.peer_secret_file)
        common = common_settings(settings)
        if settings.deployments_file:
            file = await asyncio.to_thread(watched_deployments, settings.deployments_file, common)
        service = cls(
            settings,
            folder,
            store,
            authenticator,
            gate=await asyncio.to_thread(_open_gate, folder),
            capacity_bytes=await asyncio.to_thread(store.capacity_bytes),
            deployments_file=file,
            peer_secrets=secrets,
            clock=clock,
        )
        configured = file.value if file else Configured(dict.fromkeys(settings.deployments or (), common), common)
        await service.deployments.load_created()
        await service.deployments.configure(configured, log_settings=file is not None)
        return service

    @asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        """Apply changes of the files that the settings name, and retention to a shared store, during the block."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(running(self.retention.run_regularly()))
            await stack.enter_async_context(running(self.leases.run()))
            await stack.enter_async_context(self.authenticator.kept_fresh())
            if file := self.deployments_file:
                changes = apply_changes(file, self.deployments, self.retention, self.background)
                await stack.enter_async_context(running(watch([file]), changes))
            if self.peer_secrets:
                await stack.enter_async_context(running(watch([self.peer_secrets])))
            await stack.enter_async_context(running(self.following.run()))
            await stack.enter_async_context(running(self.checks.run()))
            yield

    @property
    def reloads(self) -> dict[str, Reload]:
        """The results of the last reloads; while one fails, the previous content stays in effect."""
        reloads = self.authenticator.reloads
        if self.deployments_file:
            reloads[DEPLOYMENTS] = self.deployments_file.reload
        if self.peer_secrets:
            reloads[PEER_SECRET] = self.peer_secrets.reload
        return reloads

    @property
    def stopping(self) -> bool:
        """Whether the server is shutting down: it accepts no more uploads."""
        return self.background.stopping

    def upload_limit(self, deployment: Deployment) -> UploadLimit:
        """Return the most bytes of a compressed upload to a deployment, and why."""
        return upload_limit(deployment.settings.tiers, third_party_ingress=self.settings.third_party_ingress)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Start work that continues even if the caller is cancelled; ``close`` waits for it."""
        return self.background.spawn(work)

    def stop(self) -> None:
        """Accept no more uploads, and answer all waiting requests."""
        self.background.stop()
        self.deployments.stop()
        if self.peers:
            self.peers.stop()

    async def settled(self) -> None:
        """Wait for all work in progress."""
        await self.background.settled()

    async def close(self) -> None:
        """Wait for all work in progress, and end the threads."""
        await self.settled()
        if self.peers:
            await self.peers.close()
        await self.webhooks.close()
        await self.following.close()
        await self.checks.close()
        await self.deployments.close()
        self.patches.close()


def _doubt(deployment: Deployment) -> None:
    deployment.fleet.others = lambda: UNSURE


def _peer_secrets(path: str) -> WatchedFile[tuple[bytes, ...]]:
    return WatchedFile(path, parse_secrets, guarded=True)


def _open_gate(folder: DataFolder) -> Gate:
    # A token may have a level of its own, so that every server needs ruff. Only the data folder can be written in an
    # image.
    ruff = find_ruff()
    folder.remove_checks()
    return Gate(ruff, folder.root)
