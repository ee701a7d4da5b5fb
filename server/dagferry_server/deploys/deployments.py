"""The deployments of this server and their states: those of the configuration, and those that requests created.

The configuration wins: what it names exists, with its settings, whatever requests created or deleted before. A
deployment whose log cannot be read at the moment is included; its log is read again until it is known.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias, TypeVar

from dagferry_core.errors import DagferryError
from dagferry_core.names import DEFAULT_DEPLOYMENT, is_deployment
from dagferry_runtime.logs import fields, log_failure
from dagferry_server.auth.access import MAX_NAME_CHARACTERS, no_deployment
from dagferry_server.background import Background, log_if_failed
from dagferry_server.daemon_threads import DaemonThreads
from dagferry_server.deploys.created import CreatedDeployments
from dagferry_server.deploys.deployment import Deployment, Fault, Log, read_log
from dagferry_server.deploys.deployments_file import Configured, DeploymentSettings
from dagferry_server.deploys.lifecycle import CONFIGURED, DELETED, Lifecycle
from dagferry_server.errors import (
    DeployContended,
    DeploymentConfigured,
    DeploymentNotFound,
    RequestError,
    StoreAway,
    StoreError,
)
from dagferry_server.fleet.fleet import Change
from dagferry_server.fleet.status import State
from dagferry_server.metrics import Metrics
from dagferry_server.store.base import Store
from dagferry_server.store.data_folder import DataFolder

RETRY_FIRST_SECONDS = 0.1
RETRY_MAX_SECONDS = 2.0
"""The pause before a log that cannot be read is read again; it doubles, up to the maximum."""
FIRST_READ_SECONDS = 10.0
READ_SECONDS = 300.0
"""How long reading from a shared store may take: while the server or a request waits for it, and in the background."""
READERS = 8
"""How many logs of a shared store are read at the same time."""
NAME_HINT = "Use 1 to 63 characters: a-z, 0-9 and inner hyphens."

OnState: TypeAlias = Callable[[Deployment, State, State, str], None]
"""Takes a deployment, the state of its fleet before and now, and the reason."""

OnChange: TypeAlias = Callable[[str, int | None], None]
"""Takes the name of a deployment and the sequence of its new deploy; ``None`` if another record changed."""

Value = TypeVar("Value")
Look: TypeAlias = Callable[[str | None], Awaitable[None]]

log = logging.getLogger(__name__)


async def _look_nowhere(_name: str | None) -> None:
    """Do nothing: there are no other servers."""


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
        self._deleted: dict[str, Deployment] = {}
        self._configured: Mapping[str, DeploymentSettings] = {}
        self._defaults: DeploymentSettings | None = None
        self._retries: dict[str, asyncio.Task[None]] = {}
        self._changing = asyncio.Lock()
        self._unlisted: StoreError | None = None
        self._new_logs: set[str] = set()
        self._threads = DaemonThreads(READERS, "log")
        self.created = CreatedDeployments(store)
        self.look: Look = _look_nowhere
        """Looks for what other servers did: to one deployment, or to all but their deploys."""
        self.on_state: list[OnState] = []
        """Called on the event loop when the state of a deployment's fleet has become another one; must not block."""
        self.on_opened: list[Callable[[Deployment], None]] = []
        """Called with each deployment before its fleet is judged for the first time."""
        self.on_change: list[OnChange] = []
        """Called when this server has changed what is in the store, so that other servers have to look."""

    def __getitem__(self, name: str) -> Deployment:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def changed(self, name: str, sequence: int | None = None) -> None:
        """Note that this server made a deploy, or changed another record of a deployment."""
        for listener in self.on_change:
            listener(name, sequence)

    @property
    def implied(self) -> str:
        """The deployment of a path that names none: the only one configured, else the one called ``default``."""
        return next(iter(self._configured)) if len(self._configured) == 1 else DEFAULT_DEPLOYMENT

    def created_by(self, name: str) -> str | None:
        """Return who created a deployment by a request; ``None`` if the configuration names it."""
        created = self.created.living.get(name)
        return created.actor if created and name not in self._configured else None

    def find(self, name: str) -> Deployment:
        """Return a deployment by its name; ``DeploymentNotFound`` if it is not one of this server's.

        ``StoreError`` if that is not known now.
        """
        try:
            return self._by_name[name]
        except KeyError:
            self.check_listed()
            raise no_deployment(name, self._by_name if self._show_names else ()) from None

    async def find_or_look(self, name: str) -> Deployment:
        """Return a deployment by its name, also one that another server has just created.

        Raises what ``find`` raises, and ``StoreError`` if what other servers created cannot be read now.
        """
        try:
            return self.find(name)
        except DeploymentNotFound:
            if is_deployment(name):
                await self.look(None)
            return self.find(name)

    def deleted_elsewhere(self, name: str) -> DagferryError:
        """Return the error for a deploy to a deployment that another server has just deleted."""
        if name in self._configured:  # it comes back, without what was deployed before
            return DeployContended(f"Another server has just deleted {name}, which this one has in its configuration.")
        return no_deployment(name)

    def check_listed(self) -> None:
        """Raise ``StoreError`` unless it is known which deployments requests created."""
        if error := self._unlisted:
            raise type(error)(f"Which deployments were created is not known. {error.message}", error.hint)

    async def load_created(self) -> None:
        """Find the deployments that requests created; if the store cannot be read, in the background."""
        await self._list(FIRST_READ_SECONDS)
        if self._unlisted:
            log_failure("The created deployments cannot be listed; it is tried again", self._unlisted)
            self._start_retry("", self._retry_listing())

    async def _run(self, work: Callable[[], Value], seconds: float) -> Value:
        """Return what ``work`` returns, which asks the store; ``StoreAway`` if a shared one does not answer."""
        if not self._store.shared:
            return await asyncio.to_thread(work)
        try:
            return await self._threads.run(work, seconds)
        except TimeoutError as error:
            raise StoreAway(f"The store did not answer within {seconds:g} s.") from error

    async def _list(self, seconds: float) -> None:
        try:
            stored = await self._run(self.created.stored, seconds)
        except StoreError as error:
            self._unlisted = error
            return
        for name, lifecycle in stored.items():
            self.created.note(name, lifecycle)
        self._unlisted = None

    async def follow(self, stored: Mapping[str, Lifecycle]) -> None:
        """Create and delete here what other servers created and deleted: ``stored`` has the last changes.

        Raises ``StoreError``.
        """
        changed = [name for name, lifecycle in stored.items() if not self.created.knows(name, lifecycle)]
        if changed and not self._unlisted:
            async with self._changing:
                await self._follow(changed)

    async def _follow(self, names: Collection[str]) -> None:
        """Read the last changes of these deployments, and apply those that are not known yet."""
        if not self._store.shared:
            return
        found = await asyncio.to_thread(self.created.stored, names)
        news = {name: now for name, now in found.items() if not self.created.knows(name, now)}
        for name, lifecycle in news.items():
            deployment = self._by_name.get(name)
            self.created.note(name, lifecycle)
            if deployment and lifecycle.change == DELETED and name not in self._configured:
                self._take_out(deployment)
            elif deployment and (lifecycle.change == DELETED or lifecycle.floor > deployment.floor):
                await self._begin_anew(deployment)
            change = {"change": lifecycle.change, "actor": lifecycle.actor}
            log.warning("Another server changed a deployment", extra=fields(deployment=name, **change))
        if news:
            await self._apply(log_settings=False)

    async def _begin_anew(self, deployment: Deployment) -> None:
        """Read the log of a deployment that was deleted and exists again: what was deployed before is history."""
        async with deployment.lock:
            deployment.fleet.forget()
            deployment.load_or_fail(await self._read_or_error(deployment.name))
        deployment.fleet.open()
        self._note_restored(deployment)
        self.retry(deployment)

    async def configure(self, wanted: Configured, *, log_settings: bool) -> None:
        """Replace the configured deployments by those in ``wanted``, with its settings; all at once.

        The data of a removed deployment stays, and is used again if the deployment comes back. ``log_settings`` logs
        the changed settings.
        """
        async with self._changing:
            self._configured, self._defaults = wanted
            await self._apply(log_settings=log_settings)

    async def create(self, name: str, actor: str, now: float) -> bool:
        """Create a deployment; return ``False`` if a request created it before. ``now``: seconds since the epoch.

        Raises ``RequestError`` for an invalid name, ``DeploymentConfigured``, ``TooManyDeployments``, ``StoreError``.
        """
        if not is_deployment(name):
            raise RequestError(f"{name[:MAX_NAME_CHARACTERS]!r} cannot be the name of a deployment.", NAME_HINT)
        async with self._changing:
            self._refuse_configured(name)
            await self._follow([name])
            if name in self.created.living:
                return False
            self.created.check_room(name)
            lifecycle, is_new = await asyncio.to_thread(self._create, name, actor, now)
            self.created.note(name, lifecycle)
            await self._apply(log_settings=False)
        if is_new:
            self.changed(name)
            log.info("Deployment created", extra=fields(deployment=name, actor=actor))
        return is_new

    def _create(self, name: str, actor: str, now: float) -> tuple[Lifecycle, bool]:
        self._prepare(name)
        return self.created.create(name, actor, now)

    def _prepare(self, name: str) -> None:
        if self._store.prepare(name):
            self._new_logs.add(name)

    async def delete(self, name: str, actor: str, now: float) -> bool:
        """Delete a deployment that a request created; return ``False`` if it is deleted. ``now``: as in ``create``.

        A commit that is in progress is completed first. Its log stays, so that it never goes back in sequence; its
        bundles are removed by retention. Raises ``DeploymentNotFound``, ``DeploymentConfigured``, ``StoreError``.
        """
        async with self._changing:
            self._refuse_configured(name)
            await self._follow([name])
            if name in self.created.deleted:
                return False
            deployment = self.find(name)
            async with deployment.lock:
                lifecycle = await asyncio.to_thread(self.created.delete, name, actor, now)
                self.created.note(name, lifecycle)
                self._take_out(deployment)
        self.changed(name)
        log.warning("Deployment deleted; its log is kept", extra=fields(deployment=name, actor=actor))
        return True

    def _take_out(self, deployment: Deployment) -> None:
        """Serve a deployment no longer, because it was deleted; in one step."""
        name = deployment.name
        if retry := self._retries.get(name):
            retry.cancel()  # it would restore what was deleted
        self._deleted[name] = deployment
        self._by_name = {other: kept for other, kept in self._by_name.items() if other != name}
        self._metrics.forget(name, counters=True)
        deployment.forget_history()
        # Waiting followers send another request, and learn that it is gone.
        deployment.waiters.notify_all()
        deployment.checking.notify_all()
        deployment.fleet.forget()

    def _refuse_configured(self, name: str) -> None:
        self.check_listed()
        if name in self._configured:
            raise DeploymentConfigured(
                f"{name} is in the server's configuration: it always exists, and no request can create or delete it."
            )

    async def _apply(self, *, log_settings: bool) -> None:
        if self._defaults is None:
            return  # the configuration comes later, and all at once
        wanted = {**dict.fromkeys(self.created.living, self._defaults), **self._configured}
        before = self._by_name
        known = {**self._removed, **before}
        opening = {name: self._open(name, settings) for name, settings in wanted.items() if name not in known}
        if self._store.shared:
            known.update(zip(opening, await asyncio.gather(*opening.values()), strict=True))
        else:
            known.update({name: await opened for name, opened in opening.items()})
        after = {name: known[name] for name in wanted}
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
            before[name].checking.notify_all()
            before[name].fleet.waiters.notify_all()
            self._metrics.forget(name)
            log.warning("Deployment removed; its data is kept", extra=fields(deployment=name))
        for name in after.keys() - before.keys():
            if self._removed.pop(name, None):
                after[name].fleet.open()  # its followers got 404 for a while
            self._metrics.start(name)

    async def _open(self, name: str, settings: DeploymentSettings) -> Deployment:
        found = await self._read_or_error(name)
        if deployment := self._deleted.pop(name, None):
            # The same object, with the same lock: an upload to it may still be coming in.
            async with deployment.lock:
                deployment.load_or_fail(found)
            deployment.fleet.open()
        else:
            deployment = Deployment(name, self._store, settings, found)
            deployment.look = lambda: self.look(name)
            for listener in self.on_opened:
                listener(deployment)
            deployment.fleet.listen(partial(self._fleet_changed, deployment))
        self._note_restored(deployment)
        if deployment.loaded:
            _log_loaded(deployment)
        self.retry(deployment)
        return deployment

    def _note_restored(self, deployment: Deployment) -> None:
        deleted = self.created.deleted.get(deployment.name)
        if deployment.loaded and deleted:
            self.created.note(deployment.name, deleted._replace(change=CONFIGURED))

    async def _read_or_error(self, name: str) -> Log | Fault:
        try:
            return await self._run(lambda: self._read(name), FIRST_READ_SECONDS)
        except StoreError as error:
            return error

    def _fleet_changed(self, deployment: Deployment, change: Change) -> None:
        """Count a deploy that has converged, and tell ``on_state`` if the state is another one."""
        if self._by_name.get(deployment.name) is not deployment:
            return
        if change.converged_after is not None:
            self._metrics.converge_seconds.labels(deployment.name).observe(change.converged_after)
        if change.parsed_after is not None:
            self._metrics.parsed.seconds.labels(deployment.name).observe(change.parsed_after)
            version = change.after.parsed.version if change.after.parsed else ""
            log.info(
                "Read by Airflow",
                extra=fields(deployment=deployment.name, version=version, seconds=change.parsed_after),
            )
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
            self._prepare(name)
            self.created.restore_configured(name)
            found = read_log(self._store, name, is_new=name in self._new_logs)
        except StoreError as error:
            return error
        self._new_logs.discard(name)
        return found

    def retry(self, deployment: Deployment) -> None:
        """Read what could not be read of a deployment's log again, until all of it is known or the server ends."""
        if not deployment.unsettled or deployment.name in self._retries or self._background.stopping:
            return
        if deployment.away:
            log_failure("The deploy log cannot be read; it is tried again", deployment.away, deployment=deployment.name)
        self._start_retry(deployment.name, self._retry(deployment))

    def _start_retry(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = self._retries[name] = asyncio.create_task(work)
        task.add_done_callback(lambda _: self._retries.pop(name))
        task.add_done_callback(log_if_failed)

    async def _retry_listing(self) -> None:
        pause = RETRY_FIRST_SECONDS
        while self._unlisted:
            await asyncio.sleep(pause)
            pause = min(2 * pause, RETRY_MAX_SECONDS)
            async with self._changing:
                await self._list(READ_SECONDS)
                if not self._unlisted:
                    await self._apply(log_settings=False)
        log.info("The created deployments are known again", extra=fields(deployments=len(self.created.living)))

    async def _retry(self, deployment: Deployment) -> None:
        pause = RETRY_FIRST_SECONDS
        while deployment.unsettled:
            await asyncio.sleep(pause)
            pause = min(2 * pause, RETRY_MAX_SECONDS)
            async with deployment.lock:
                if deployment.loaded:
                    with contextlib.suppress(StoreError):
                        await deployment.refresh()
                else:
                    await self._load(deployment)
        log.info("The deploy log is known again", extra=fields(deployment=deployment.name, sequence=deployment.highest))

    async def _load(self, deployment: Deployment) -> None:
        with contextlib.suppress(StoreError):
            found = await self._run(lambda: self._read(deployment.name), READ_SECONDS)
            if isinstance(found, Log):
                deployment.load(found)
                _log_loaded(deployment)

    def stop(self) -> None:
        """Answer all waiting requests, and stop reading logs again."""
        for deployment in self._by_name.values():
            deployment.waiters.close()
            deployment.checking.close()
            deployment.fleet.waiters.close()
        for task in self._retries.values():
            task.cancel()

    async def close(self) -> None:
        """Stop, wait for the work that this cancels, and log the reports of sidecars that were not logged yet."""
        self.stop()
        if self._retries:
            await asyncio.wait(self._retries.values())
        self._threads.close()
        for deployment in (*self._by_name.values(), *self._removed.values(), *self._deleted.values()):
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
