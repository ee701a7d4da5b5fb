"""Learns what other servers did, where several use one store: their deploys, deployments, freezes and log ids.

The store is asked every ``poll_seconds``, and at once when somebody knows of a change: one cheap request for each
deployment, whether its next entry exists, and one whether anything else has changed. Only then more is read. The
requests have threads of their own, so that a store that hangs takes none from uploads and downloads. The bundle of each
current deploy is brought to the server's own disk before a pod asks for it: the store may be away when one does.

A request that fails changes nothing in memory: what is known is served, and the next request may succeed. What a
request cannot notice is found by an audit, every ``AUDIT_SECONDS``: entries beyond a gap, and a current bundle that
something else than this project has deleted.
"""

import asyncio
import logging
import random
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn, TypeVar

from dagferry_runtime.logs import fields, log_failure
from dagferry_server.background import Background, log_if_failed
from dagferry_server.coalescing import Coalescer
from dagferry_server.daemon_threads import DaemonThreads
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.deploys.deployments import Deployments
from dagferry_server.errors import ServerError, StoreAway, StoreDamaged, StoreError
from dagferry_server.log_limit import Key, LogLimit
from dagferry_server.metrics import Metrics
from dagferry_server.store.base import Store

LOOK_SECONDS = 5.0
"""The timeout of one request to the store."""
ALL_SECONDS = 120.0
"""The timeout of reading which deployments there are: two requests for each, and thousands may have been deleted."""
LOOK_PAUSE_SECONDS = 0.1
"""The pause between two looks at the same deployment, however many ask for one."""
AUDIT_SECONDS = 600.0
WRITABLE_SECONDS = 30.0
"""How often the store is asked whether it can be written."""
UNWRITABLE_SECONDS = 5.0
"""How often while it cannot: within less than it takes three readiness probes to fail after it is back."""
BRING_SECONDS = 600.0
"""The timeout for a bundle to get here; then it is tried again."""
THREADS = 16
"""How many requests to the store are open at the same time."""
MAX_LOGGED = 3
"""How many failures with one code are logged in a minute; the others are counted."""

_Value = TypeVar("_Value")

log = logging.getLogger(__name__)


class _Looks:
    """The looks at one deployment, or at what all deployments share: one at a time, with a pause in between."""

    def __init__(self) -> None:
        self.runs = Coalescer()
        self.callers = 0
        self.began = 0.0
        self.error: StoreError | None = None
        """Why the last one failed; ``None`` if it did not."""


class Following:
    """Follows the changes that other servers make in ``store``. Used on the event loop.

    For a store that only this server uses, it does nothing. ``clock`` is monotonic.
    """

    def __init__(
        self,
        store: Store,
        deployments: Deployments,
        metrics: Metrics,
        background: Background,
        *,
        poll_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._deployments = deployments
        self._metrics = metrics
        self._background = background
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._threads = DaemonThreads(THREADS, "follow")
        self._bringer = DaemonThreads(1, "bring")
        self._bringing: set[str] = set()
        self.brought: dict[str, str] = {}
        """The digest of the newest bundle that was brought, by deployment."""
        self._looks: defaultdict[str | None, _Looks] = defaultdict(_Looks)
        self._tag: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._logged = LogLimit(MAX_LOGGED, _log_suppressed)
        self._away: StoreError | None = None
        self.unwritable: StoreError | None = None
        """Why the store refused the last write; ``None`` if it did not."""
        metrics.store_reachable.set(1)
        if store.shared:
            deployments.look = self.look

    @property
    def reaches_store(self) -> bool:
        """Whether the store answered the last request, and can be written, as far as is known."""
        return self._away is None and self.unwritable is None

    @property
    def away(self) -> StoreError | None:
        """Why the store cannot be used now; ``None`` if it can."""
        return self._away or self.unwritable

    async def run(self) -> None:
        """Look every ``poll_seconds``, until cancelled."""
        if not self._store.shared:
            return
        await asyncio.gather(
            self._every(self._poll_seconds, self._poll),
            self._every(WRITABLE_SECONDS, self._check_writable),
            self._every(UNWRITABLE_SECONDS, self._check_unwritable),
            self._every(AUDIT_SECONDS, self.audit),
        )

    async def _every(self, seconds: float, work: Callable[[], Coroutine[Any, Any, None]]) -> NoReturn:
        # Servers that start at the same time do not ask at the same time.
        pause = seconds * random.random()  # noqa: S311 - not for secrets
        while True:
            await asyncio.sleep(pause)
            pause = seconds
            self._spawn(work())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(log_if_failed)

    async def close(self) -> None:
        """Look no more. A request to the store that hangs holds nothing up."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._logged.flush()
        self._threads.close()
        self._bringer.close()

    # --- looks -------------------------------------------------------------------------------------------------------

    async def look(self, name: str | None) -> None:
        """Look at once for deploys of one deployment, or, with ``None`` or a name that is not known, for all the rest.

        Callers that come during a look share the next one. Raises ``StoreError`` if the store could not be asked.
        """
        if not self._store.shared:
            return
        name = name if name in self._deployments else None
        looks = self._looks[name]
        looks.callers += 1
        try:
            await looks.runs.run(partial(self._look, name, looks))
        finally:
            looks.callers -= 1
        if looks.error:
            raise looks.error

    def look_soon(self, name: str | None) -> None:
        """Look in the background, as ``look`` does; a failure is logged."""
        if self._store.shared:
            self._spawn(self._look_quietly(name))

    async def _poll(self) -> None:
        for name in self._looks.keys() - {None, *self._deployments}:
            del self._looks[name]
        for name in (None, *self._deployments):
            if not self._looks[name].callers:
                self._spawn(self._look_quietly(name))
        for name in self.brought.keys() - self._deployments.keys():
            del self.brought[name]
        for name, deployment in self._deployments.items():
            current = deployment.current
            if current and self.brought.get(name) != current.digest and name not in self._bringing and not self._away:
                self._bringing.add(name)
                self._spawn(self._bring(name, current.digest))

    async def _bring(self, name: str, digest: str) -> None:
        try:
            await self._bringer.run(lambda: self._store.open_bundle(name, digest).close(), BRING_SECONDS)
        except (StoreAway, TimeoutError):
            return  # the next poll tries again
        except ServerError:
            pass  # it is lost or damaged: the audit says so, and each request for it
        finally:
            self._bringing.discard(name)
        self.brought[name] = digest

    def _is_loaded(self, name: str) -> bool:
        deployment = self._deployments.get(name)
        return deployment is not None and deployment.loaded

    async def _look_quietly(self, name: str | None) -> None:
        with suppress(StoreError):  # it is logged
            await self.look(name)

    async def _look(self, name: str | None, looks: _Looks) -> None:
        await asyncio.sleep(max(0.0, looks.began + LOOK_PAUSE_SECONDS - self._clock()))
        looks.began = self._clock()
        if name is not None and not self._is_loaded(name):
            looks.error = None
            return  # it is read until it is known; nothing is asked here, so nothing is learned about the store
        looks.error = await self._failure_of(self._look_at_rest() if name is None else self._look_at(name), name)

    async def _failure_of(self, work: Coroutine[Any, Any, None], name: str | None) -> StoreError | None:
        """Do the work and return why it failed, after it was logged; ``None`` if it did not."""
        try:
            await work
        except StoreError as error:
            self._note(error, name)
            return error
        self._note(None, name)
        return None

    def _note(self, error: StoreError | None, name: str | None) -> None:
        before = self._away
        self._away = error if isinstance(error, StoreAway) else None
        self._metrics.store_reachable.set(int(self.reaches_store))
        if error:
            self._metrics.store_failures.inc()
            if self._logged.allows((error.code, "")):
                log_failure("Looking for changes by other servers failed", error, deployment=name)
        else:
            self._metrics.store_answer_time.set_to_current_time()
            if before and self._logged.allows(("answers", "")):
                log.info("The store answers again")

    async def _look_at(self, name: str) -> None:
        deployment = self._deployments[name]
        log_id, after = deployment.log_id, deployment.highest
        newer = await self._call(lambda: self._store.newer(name, after))
        if newer:
            # Without the lock: a commit in progress here, which may take long, will lose the race for the sequence.
            deployment.note_newer(log_id, after, newer)
            log.info("New deploys found", extra=fields(deployment=name, sequence=deployment.highest))
            self._deployments.retry(deployment)  # if one is damaged
        if deployment.state_tag != self._tag:
            await self._look_at_records(deployment)

    async def _look_at_records(self, deployment: Deployment) -> None:
        before = deployment.state_tag, deployment.freeze
        found = await self._call(lambda: deployment.read_records(before[0]))
        if found is None or (deployment.state_tag, deployment.freeze) != before:
            return  # a request of this server was faster
        if not deployment.note_records(found):
            async with deployment.lock:
                await deployment.refresh_records()

    async def _look_at_rest(self) -> None:
        tag = await self._call(self._store.state_tag)
        if tag != self._tag:
            await self._look_at_all(tag)

    async def _look_at_all(self, tag: str) -> None:
        """Read which deployments there are; what else has changed of each, the next look at it reads."""
        await self._deployments.follow(await self._call(self._deployments.created.stored, ALL_SECONDS))
        self._tag = tag
        for name in self._deployments:
            self._spawn(self._look_quietly(name))

    async def _call(self, work: Callable[[], _Value], seconds: float | None = None) -> _Value:
        seconds = seconds or LOOK_SECONDS
        try:
            return await self._threads.run(work, seconds)
        except TimeoutError as error:
            raise StoreAway(f"The store did not answer within {seconds:g} s.") from error

    async def check_writable(self) -> None:
        """Raise ``StoreError`` unless the store can be written now."""
        try:
            await self._call(self._store.check_writable)
        except StoreError as error:
            if self.unwritable is None:
                log_failure("The store cannot be written", error)
            self.unwritable = error
            raise
        else:
            self.unwritable = None
        finally:
            self._metrics.store_reachable.set(int(self.reaches_store))

    async def _check_writable(self) -> None:
        with suppress(StoreError):  # it is logged
            await self.check_writable()

    async def _check_unwritable(self) -> None:
        # A server that noticed the fault would otherwise be unready for long after one that did not is through with it.
        if self.unwritable:
            await self._check_writable()

    # --- the audit ---------------------------------------------------------------------------------------------------

    async def audit(self) -> None:
        """Look for what a look cannot notice; failures are logged."""
        await self._failure_of(self._audit_rest(), None)
        for name in list(self._deployments):
            if self._background.stopping:
                break
            if self._is_loaded(name):
                await self._failure_of(self._audit(name), name)

    async def _audit_rest(self) -> None:
        # A server that was killed after it wrote a record may not have changed the tag.
        await self._look_at_all(await self._call(self._store.state_tag))

    async def _audit(self, name: str) -> None:
        deployment = self._deployments[name]
        deployment.state_tag = None  # see above
        await self._look_at_records(deployment)
        sequences = await self._call(lambda: self._store.sequences(name))
        if beyond := [sequence for sequence in sequences if sequence > deployment.highest]:
            async with deployment.lock:
                await deployment.refresh(beyond)
        current = deployment.current
        if current is None or deployment.fault:
            return
        is_stored = await self._call(lambda: self._store.has_bundle(name, current.digest))
        if current is not deployment.current:
            return
        if not is_stored and not deployment.lost_bundle:
            key = f"{name}/bundles/{current.digest.removeprefix('sha256:')}"
            missing = StoreDamaged(
                f"The store has lost the bundle of version {current.version} of {name}, {current.digest}: something "
                "else than Dagferry has deleted it, such as a lifecycle rule of the bucket."
            )
            log_failure("A bundle is missing; deploy the same content again", missing, deployment=name, key=key)
        deployment.note_lost_bundle(
            ""
            if is_stored
            else f"The store has lost the bundle of {current.version}: pods that do not have it cannot get it."
        )


def _log_suppressed(suppressed: dict[Key, int]) -> None:
    for (code, _), count in suppressed.items():
        log.error("More looks for changes by other servers failed", extra=fields(code=code, count=count))
