"""What the server is made of, and how it opens and closes. HTTP is not known here: see ``app`` and ``listeners``."""

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from dagferry_core.errors import StoreFailed, StoreFull
from dagferry_core.limits import UploadLimit, upload_limit
from dagferry_runtime.logs import fields
from dagferry_server.auth.access import no_deployment
from dagferry_server.auth.authenticate import Authenticator
from dagferry_server.auth.watched import WatchedFile
from dagferry_server.coalescing import Coalescer
from dagferry_server.deploys.deployment import Deployment, Fault, Log, read_log
from dagferry_server.deploys.deployments_file import (
    DeploymentSettings,
    WatchedDeployments,
    common_settings,
    watched_deployments,
)
from dagferry_server.deploys.patches import Patches
from dagferry_server.failures import log_failure
from dagferry_server.http.places import bundles, downloads, uploads
from dagferry_server.http.refused_reads import Refusals
from dagferry_server.http.sending import PACKERS, Sender
from dagferry_server.metrics import Metrics
from dagferry_server.settings import Settings
from dagferry_server.store.base import Store
from dagferry_server.store.data_folder import DataFolder

LOOK_FIRST_SECONDS = 0.1
LOOK_MOST_SECONDS = 2.0
"""The pause before a log that cannot be read is looked at again; it doubles, up to the most."""
MAX_CHECKING = 2
"""How many uploads are checked and stored at the same time; the others wait on disk."""

DEFAULT_DEPLOYMENT = "default"

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
        identifier: Authenticator,
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
        """Never changed, only replaced."""
        self.deployments_file: WatchedDeployments | None = None
        self._removed: dict[str, Deployment] = {}
        self.patches = Patches(store)
        self.sender, self.packer = Sender("send"), Sender("pack", PACKERS)
        self.upload_places, self.bundle_places, self.download_places = uploads(), bundles(), downloads()
        self.refusals = Refusals()
        self.metrics = Metrics(settings.upload_limit)
        self.max_store_bytes = settings.store_bytes(capacity_bytes)
        self.retention_runs = Coalescer()
        self.checking = asyncio.Semaphore(MAX_CHECKING)
        self.busy = Busy()
        self.stopping = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._looking: dict[str, asyncio.Task[None]] = {}

    @classmethod
    async def open(
        cls,
        settings: Settings,
        folder: DataFolder,
        store: Store,
        identifier: Authenticator,
        clock: Callable[[], float] = time.time,
    ) -> "Service":
        """Read every deployment's log from ``store``; one that cannot be read now is tried again, beside the others.

        ``folder`` stays the caller's to close.
        """
        capacity = await asyncio.to_thread(store.capacity_bytes)
        service = cls(settings, folder, store, identifier, capacity_bytes=capacity, clock=clock)
        common = common_settings(settings)
        if settings.deployments_file:
            file = await asyncio.to_thread(watched_deployments, settings.deployments_file, common)
            service.deployments_file = file
            await service.configure(file.value)
        else:
            await service.configure(dict.fromkeys(settings.deployments or (), common))
        return service

    async def configure(self, wanted: Mapping[str, DeploymentSettings]) -> None:
        """Have exactly the deployments that ``wanted`` names, with its settings; all at once.

        The data of one that is not named any more stays as it is, and is there again when it is named again.
        """
        before = self.deployments
        after = {name: before.get(name) or self._removed.get(name) or await self._open(name) for name in wanted}
        for name, settings in wanted.items():
            changed = name not in before or after[name].settings != settings
            after[name].settings = settings
            if changed and self.deployments_file:
                log.info("Settings of a deployment", extra=fields(deployment=name, **settings.model_dump(mode="json")))
        self.deployments = after
        for name in before.keys() - after.keys():
            self._removed[name] = before[name]
            # Whoever waits asks again, and learns that it is gone.
            before[name].waiters.tell()
            self.metrics.forget(name)
            log.warning("A deployment was removed; its data stays", extra=fields(deployment=name))
        for name in after.keys() - before.keys():
            self._removed.pop(name, None)
            self.metrics.start(name)

    async def _open(self, name: str) -> Deployment:
        deployment = Deployment(name, self.store, await asyncio.to_thread(self._load, name))
        if deployment.loaded:
            _log_loaded(deployment)
        if deployment.unsettled:
            self.look_again(deployment)
        return deployment

    def _load(self, name: str) -> Log | Fault:
        """Make a deployment's folders and read its log, in a thread; return why that fails, if it does."""
        try:
            self.folder.prepare(name)
            self.store.prepare(name)
            return read_log(self.store, name)
        except (StoreFailed, StoreFull) as error:
            return error

    def look_again(self, deployment: Deployment) -> None:
        """Go on looking at a deployment's log until all of it is known that can be, or the server stops."""
        if deployment.name in self._looking or self.stopping:
            return
        if deployment.away:
            log_failure("The deploy log cannot be read; it is tried again", deployment.away, deployment=deployment.name)
        task = asyncio.create_task(self._look(deployment))
        self._looking[deployment.name] = task
        task.add_done_callback(lambda _: self._looking.pop(deployment.name))
        task.add_done_callback(self._done)

    async def _look(self, deployment: Deployment) -> None:
        pause = LOOK_FIRST_SECONDS
        while deployment.unsettled:
            await asyncio.sleep(pause)
            pause = min(2 * pause, LOOK_MOST_SECONDS)
            async with deployment.lock:
                if deployment.loaded:
                    with contextlib.suppress(StoreFailed):
                        await deployment.refresh()
                elif isinstance(found := await asyncio.to_thread(self._load, deployment.name), Log):
                    deployment.load(found)
                    _log_loaded(deployment)
        log.info("The deploy log is known again", extra=fields(deployment=deployment.name, sequence=deployment.highest))

    @property
    def credential_faults(self) -> int:
        """How many files and issuers cannot be read now, so that what they said last is in force."""
        files = (self.certificate, self.deployments_file)
        of_files = sum(bool(file and file.fault) for file in files)
        return len(self.identifier.faults) + of_files

    @property
    def implied_deployment(self) -> str:
        """The deployment of a path that names none: the only one there is, else the one called ``default``."""
        return next(iter(self.deployments)) if len(self.deployments) == 1 else DEFAULT_DEPLOYMENT

    def deployment(self, name: str) -> Deployment:
        """Return a deployment by its name; ``DeploymentNotFound`` if it is not one of this server's."""
        try:
            return self.deployments[name]
        except KeyError:
            raise no_deployment(name, () if self.identifier.closed else self.deployments) from None

    def upload_limit(self, deployment: Deployment) -> UploadLimit:
        """Return the most bytes of a compressed upload to a deployment, and why."""
        return upload_limit(deployment.settings.tiers, third_party_ingress=self.settings.third_party_ingress)

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
        for task in self._looking.values():
            task.cancel()
            self._tasks.add(task)

    async def settled(self) -> None:
        """Wait for all work that is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Wait for all work that is under way, and end the threads."""
        await self.settled()
        self.refusals.flush()
        for deployment in self.deployments.values():
            deployment.sidecars.flush()
        for threads in (self.patches, self.sender, self.packer):
            threads.close()


def _log_loaded(deployment: Deployment) -> None:
    log.info(
        "Deployment",
        extra=fields(
            deployment=deployment.name,
            version=deployment.current.version if deployment.current else "",
            sequence=deployment.highest,
            log_id=deployment.log_id,
        ),
    )
