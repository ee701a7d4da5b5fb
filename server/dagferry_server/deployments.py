"""What the server knows of one deployment: its deploy log, who waits for a change, and which sidecars there are.

The store has the truth. Memory holds the newest ``MEMORY_DEPLOYS`` entries; older ones are read when asked for. Memory
changes on the event loop only, in one step, and only after the store has.
"""

import asyncio
from typing import NamedTuple

from dagferry_core.deploylog import Deploy, decode
from dagferry_core.errors import BundleGone, DeploymentDisabled, NothingDeployed, StoreFailed, VersionNotFound
from dagferry_core.names import version_sequence
from dagferry_server.answers import current_answer
from dagferry_server.deploymentsfile import DeploymentSettings
from dagferry_server.failures import log_failure
from dagferry_server.sidecars import Sidecars
from dagferry_server.store.base import Store
from dagferry_server.waiters import Waiters

MEMORY_DEPLOYS = 10_000
"""About 8 MB; also the most deploys whose bundles retention keeps."""
NOTHING_TAG = "none"
"""What stands in the ETag where a version would, before the first deploy."""


class Log(NamedTuple):
    """A deploy log as it was read: its id, the highest sequence of all, and the newest entries that can be read.

    ``unreadable`` are the sequences among the newest whose entries are damaged.
    """

    log_id: str
    highest: int
    recent: dict[int, Deploy]
    unreadable: set[int]


def read_log(store: Store, deployment: str) -> Log:
    """Read the log of ``deployment`` from the store, in a thread. A damaged entry is logged, and no reason to stop."""
    sequences = store.sequences(deployment)
    newest = sequences[-MEMORY_DEPLOYS:]
    read = {sequence: _read_entry(store, deployment, sequence) for sequence in newest}
    return Log(
        log_id=store.log_id(deployment),
        highest=sequences[-1] if sequences else 0,
        recent={sequence: deploy for sequence, deploy in read.items() if deploy},
        unreadable={sequence for sequence, deploy in read.items() if deploy is None},
    )


def _read_entry(store: Store, deployment: str, sequence: int) -> Deploy | None:
    try:
        return decode(store.read_entry(deployment, sequence), sequence)
    except StoreFailed as error:
        log_failure("An entry of the deploy log cannot be read", error, deployment=deployment, sequence=sequence)
        return None


class Deployment:
    """One deployment. ``lock`` is held by whoever commits a deploy or deletes bundles."""

    settings: DeploymentSettings

    def __init__(self, name: str, store: Store, loaded: Log) -> None:
        self.name = name
        self.lock = asyncio.Lock()
        self.waiters = Waiters()
        self.sidecars = Sidecars(name)
        self.uploads = 0  # that are under way
        self._store = store
        self._take(loaded)

    def _take(self, loaded: Log) -> None:
        self.log_id, self.highest, self.recent, self.unreadable = loaded
        self._show(self.recent[max(self.recent)] if self.recent else None)

    def _show(self, deploy: Deploy | None) -> None:
        self.current = deploy
        self.tag = deploy.version if deploy else NOTHING_TAG
        # Written once for all who wait for it.
        self.answer = current_answer(self.log_id, deploy).model_dump_json().encode()
        self.waiters.tell()

    def add(self, deploy: Deploy) -> None:
        """Make ``deploy``, which the store has, the current one, and tell everybody who waits."""
        self.recent[deploy.sequence] = deploy
        self.highest = deploy.sequence
        if len(self.recent) > MEMORY_DEPLOYS:
            del self.recent[next(iter(self.recent))]
        self._show(deploy)

    async def reload(self) -> None:
        """Read the log again, after a write whose outcome is not known."""
        self._take(await asyncio.to_thread(read_log, self._store, self.name))

    def refuse_if_disabled(self) -> None:
        """Raise ``DeploymentDisabled`` if nothing may be deployed at the moment."""
        if reason := self.settings.disabled:
            raise DeploymentDisabled(f"{self.name} is disabled: {reason}")

    def current_deploy(self) -> Deploy:
        """Return the current deploy; ``NothingDeployed`` if there is none."""
        if self.current is None:
            raise NothingDeployed(f"Nothing was deployed to {self.name} yet.")
        return self.current

    async def deploy(self, version: str) -> Deploy:
        """Return the deploy of a version; ``VersionNotFound`` if there is none, ``RequestError`` if it is none."""
        sequence = version_sequence(version)
        deploy = await self._read(sequence) if sequence <= self.highest else None
        if deploy is None or deploy.version != version:
            raise VersionNotFound(f"{self.name} has no version {version}.")
        return deploy

    async def page(self, before: int, limit: int) -> list[Deploy]:
        """Return up to ``limit`` deploys below the sequence ``before``, newest first, without unreadable ones."""
        deploys = []
        for sequence in range(min(before, self.highest + 1) - 1, 0, -1):
            if deploy := await self._read(sequence):
                deploys.append(deploy)
                if len(deploys) == limit:
                    break
        return deploys

    async def _read(self, sequence: int) -> Deploy | None:
        if deploy := self.recent.get(sequence):
            return deploy
        if sequence in self.unreadable or next(iter(self.recent), 0) < sequence:
            return None
        return await asyncio.to_thread(_read_entry, self._store, self.name, sequence)

    def gone(self, deploy: Deploy) -> BundleGone:
        """Return the error for a deploy whose bundle retention has removed."""
        return BundleGone(f"The bundle of version {deploy.version} of {self.name} was removed by retention.")
