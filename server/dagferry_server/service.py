"""What the server is made of, and how it opens and closes. HTTP is not known here: see ``app`` and ``listeners``."""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Coroutine
from typing import Any

from dagferry_core.command import fields
from dagferry_server.auth.access import no_deployment
from dagferry_server.auth.identify import Identifier
from dagferry_server.auth.watched import WatchedFile
from dagferry_server.datafolder import DataFolder
from dagferry_server.deployments import Deployment, read_log
from dagferry_server.metrics import Metrics
from dagferry_server.patches import Patches
from dagferry_server.places import bundles, downloads, uploads
from dagferry_server.refusals import Refusals
from dagferry_server.sending import PACKERS, Sender
from dagferry_server.settings import Settings
from dagferry_server.store.base import Store

MAX_CHECKING = 2
"""How many uploads are checked and stored at the same time; the others wait on disk."""

log = logging.getLogger(__name__)


class Busy:
    """Counts the requests that are under way."""

    def __init__(self) -> None:
        self._count = 0
        self._ended = asyncio.Event()
        self._ended.set()

    def __enter__(self) -> None:
        self._count += 1
        self._ended.clear()

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if not self._count:
            self._ended.set()

    async def ended(self, seconds: float) -> bool:
        """Wait for up to ``seconds`` until there is none, and tell whether that is so."""
        try:
            await asyncio.wait_for(self._ended.wait(), seconds)
        except (TimeoutError, asyncio.TimeoutError):
            return False
        return True


class Service:
    """The server without its listeners. Made on the event loop, with ``open``."""

    def __init__(
        self,
        settings: Settings,
        folder: DataFolder,
        store: Store,
        identifier: Identifier,
        *,
        capacity_bytes: int,
        clock: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.store = store
        self.identifier = identifier
        self.certificate: WatchedFile[ssl.SSLContext] | None = None
        self.clock = clock
        self.deployments: dict[str, Deployment] = {}
        self.patches = Patches(store)
        self.sender, self.packer = Sender("send"), Sender("pack", PACKERS)
        self.upload_places, self.bundle_places, self.download_places = uploads(), bundles(), downloads()
        self.refusals = Refusals()
        self.metrics = Metrics(settings.upload_limit)
        self.retention = settings.retention(capacity_bytes)
        self.checking = asyncio.Semaphore(MAX_CHECKING)
        self.busy = Busy()
        self.stopping = False
        self._tasks: set[asyncio.Task[Any]] = set()

    @classmethod
    async def open(
        cls,
        settings: Settings,
        folder: DataFolder,
        store: Store,
        identifier: Identifier,
        clock: Callable[[], float] = time.time,
    ) -> "Service":
        """Read every deployment's log from ``store``. ``folder`` stays the caller's to close."""
        capacity = await asyncio.to_thread(store.capacity_bytes)
        service = cls(settings, folder, store, identifier, capacity_bytes=capacity, clock=clock)
        for name in settings.deployments:
            await asyncio.to_thread(folder.prepare, name)
            await asyncio.to_thread(store.prepare, name)
            deployment = Deployment(name, store, await asyncio.to_thread(read_log, store, name))
            service.deployments[name] = deployment
            service.metrics.start(name)
            current = deployment.current
            log.info(
                "Deployment",
                extra=fields(
                    deployment=name,
                    version=current.version if current else "",
                    sequence=deployment.highest,
                    log_id=deployment.log_id,
                ),
            )
        return service

    @property
    def credential_faults(self) -> int:
        """How many files and issuers cannot be read now, so that what they said last is in force."""
        return len(self.identifier.faults) + bool(self.certificate and self.certificate.fault)

    def deployment(self, name: str) -> Deployment:
        """Return a deployment by its name; ``DeploymentNotFound`` if it is not one of this server's."""
        try:
            return self.deployments[name]
        except KeyError:
            raise no_deployment(name) from None

    def spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Start work that goes on even if whoever asked for it goes away; ``close`` waits for it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, ConnectionError):
            log.error("Work in the background failed", exc_info=error)

    def stop(self) -> None:
        """Take no more uploads, and let nobody wait for a change."""
        self.stopping = True
        for deployment in self.deployments.values():
            deployment.waiters.close()

    async def close(self) -> None:
        """Wait for all work that is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        self.refusals.flush()
        for deployment in self.deployments.values():
            deployment.sidecars.flush()
