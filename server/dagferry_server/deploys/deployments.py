"""The deployments of this server and their states.

A deployment whose log cannot be read at the moment is included; its log is read again until it is known.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TypeAlias

from dagferry_core.names import DEFAULT_DEPLOYMENT
from dagferry_runtime.logs import fields, log_failure
from dagferry_server.auth.access import no_deployment
from dagferry_server.background import Background, log_if_failed
from dagferry_server.deploys.deployment import Deployment, Fault, Log, read_log
from dagferry_server.deploys.deployments_file import DeploymentSettings
from dagferry_server.errors import StoreError
from dagferry_server.fleet.fleet import Change
from dagferry_server.fleet.status import State
from dagferry_server.metrics import Metrics
from dagferry_server.store.base import Store
from dagferry_server.store.data_folder import DataFolder

RETRY_FIRST_SECONDS = 0.1
RETRY_MAX_SECONDS = 2.0
"""The pause before a log that cannot be read is read again; it doubles, up to the maximum."""

OnState: TypeAlias = Callable[[Deployment, State, State, str], None]
"""Takes a deployment, the state of its fleet before and now, and the reason."""

log = logging.getLogger(__name__)


class Deployments(Mapping[str, Deployment]):
    """The deployments by name. Changed on the event loop only, all at once.

    ``show_names`` says whether an error may list the deployments.
    """

    def __init__(
        self, store: Store, folder: DataFolder, metrics: Metrics, background: Background, *, show_names: bool
    ) -> None:
        self._store = store
        self._folder = folder
        self._metrics = metrics
        self._background = background
        self._show_names = show_names
        # Never changed, only replaced.
        self._by_name: dict[str, Deployment] = {}
        self._removed: dict[str, Deployment] = {}
        self._retries: dict[str, asyncio.Task[None]] = {}
        self.on_state: list[OnState] = []
        """Called on the event loop when the state of a deployment's fleet has become another one; must not block."""

    def __getitem__(self, name: str) -> Deployment:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    @property
    def implied(self) -> str:
        """The deployment of a path that names none: the only one there is, else the one called ``default``."""
        return next(iter(self._by_name)) if len(self._by_name) == 1 else DEFAULT_DEPLOYMENT

    def find(self, name: str) -> Deployment:
        """Return a deployment by its name; ``DeploymentNotFound`` if it is not one of this server's."""
        try:
            return self._by_name[name]
        except KeyError:
            raise no_deployment(name, self._by_name if self._show_names else ()) from None

    async def configure(self, wanted: Mapping[str, DeploymentSettings], *, log_settings: bool) -> None:
        """Replace the deployments by those in ``wanted``, with its settings; all at once.

        The data of a removed deployment stays, and is used again if the deployment comes back. ``log_settings`` logs
        the changed settings.
        """
        before, after = self._by_name, {}
        for name, settings in wanted.items():
            known = before.get(name) or self._removed.get(name)
            after[name] = known or await self._open(name, settings)
        for name, settings in wanted.items():
            changed = name not in before or after[name].settings != settings
            after[name].configure(settings)
            if changed and log_settings:
                log.info("Deployment settings", extra=fields(deployment=name, **settings.model_dump(mode="json")))
        self._by_name = after
        for name in before.keys() - after.keys():
            self._removed[name] = before[name]
            # Waiting followers send another request, and learn that it is gone.
            before[name].waiters.notify_all()
            before[name].fleet.waiters.notify_all()
            self._metrics.forget(name)
            log.warning("Deployment removed; its data is kept", extra=fields(deployment=name))
        for name in after.keys() - before.keys():
            if self._removed.pop(name, None):
                after[name].fleet.open()  # its followers got 404 for a while
            self._metrics.start(name)

    async def _open(self, name: str, settings: DeploymentSettings) -> Deployment:
        deployment = Deployment(name, self._store, settings, await asyncio.to_thread(self._read, name))
        deployment.fleet.listen(partial(self._fleet_changed, deployment))
        if deployment.loaded:
            _log_loaded(deployment)
        self.retry(deployment)
        return deployment

    def _fleet_changed(self, deployment: Deployment, change: Change) -> None:
        """Count a deploy that has converged, and tell ``on_state`` if the state is another one."""
        if self._by_name.get(deployment.name) is not deployment:
            return
        if change.converged_after is not None:
            self._metrics.converge_seconds.labels(deployment.name).observe(change.converged_after)
        if change.before.state is not change.after.state:
            log.info(
                "Fleet changed",
                extra=fields(
                    deployment=deployment.name,
                    version=deployment.current.version if deployment.current else "",
                    before=change.before.state.value,
                    state=change.after.state.value,
                    reason=change.after.reason,
                ),
            )
            for listener in self.on_state:
                listener(deployment, change.before.state, change.after.state, change.after.reason)

    def _read(self, name: str) -> Log | Fault:
        """Create a deployment's folders and read its log, in a thread; return the error if that fails."""
        try:
            self._folder.prepare(name)
            is_new = self._store.prepare(name)
            return read_log(self._store, name, is_new=is_new)
        except StoreError as error:
            return error

    def retry(self, deployment: Deployment) -> None:
        """Read what could not be read of a deployment's log again, until all of it is known or the server ends."""
        if not deployment.unsettled or deployment.name in self._retries or self._background.stopping:
            return
        if deployment.away:
            log_failure("The deploy log cannot be read; it is tried again", deployment.away, deployment=deployment.name)
        task = asyncio.create_task(self._retry(deployment))
        self._retries[deployment.name] = task
        task.add_done_callback(lambda _: self._retries.pop(deployment.name))
        task.add_done_callback(log_if_failed)

    async def _retry(self, deployment: Deployment) -> None:
        pause = RETRY_FIRST_SECONDS
        while deployment.unsettled:
            await asyncio.sleep(pause)
            pause = min(2 * pause, RETRY_MAX_SECONDS)
            async with deployment.lock:
                if deployment.loaded:
                    with contextlib.suppress(StoreError):
                        await deployment.refresh()
                elif isinstance(found := await asyncio.to_thread(self._read, deployment.name), Log):
                    deployment.load(found)
                    _log_loaded(deployment)
        log.info("The deploy log is known again", extra=fields(deployment=deployment.name, sequence=deployment.highest))

    def stop(self) -> None:
        """Answer all waiting requests, and stop reading logs again."""
        for deployment in self._by_name.values():
            deployment.waiters.close()
            deployment.fleet.waiters.close()
        for task in self._retries.values():
            task.cancel()

    async def close(self) -> None:
        """Stop, wait for the work that this cancels, and log the reports of sidecars that were not logged yet."""
        self.stop()
        if self._retries:
            await asyncio.wait(self._retries.values())
        for deployment in (*self._by_name.values(), *self._removed.values()):
            deployment.fleet.close()


def _log_loaded(deployment: Deployment) -> None:
    log.info(
        "Deployment loaded",
        extra=fields(
            deployment=deployment.name,
            version=deployment.current.version if deployment.current else "",
            sequence=deployment.highest,
            log_id=deployment.log_id,
        ),
    )
