"""Turns received content into a deploy: checks and commits it, and returns the result.

Checks run in threads, a few uploads at a time; see ``dagferry_server.deploys.commit`` for what follows.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import BinaryIO, NamedTuple

from dagferry_core.archive.check import ArchiveRules, CheckedArchive, check_archive
from dagferry_core.archive.secret_files import secret_warnings
from dagferry_core.deploylog import NONCE_BYTES, Deploy
from dagferry_server.deploys.commit import Committer, New, Upload
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.deploys.deployments import Deployments
from dagferry_server.deploys.patches import Patches
from dagferry_server.deploys.receive import Received
from dagferry_server.deploys.retention import RetentionRunner
from dagferry_server.deploys.warnings import dropped_warnings, log_warnings, too_long_warnings
from dagferry_server.errors import StoreError
from dagferry_server.memory import Turn, TurnTaken
from dagferry_server.metrics import Metrics
from dagferry_server.store.base import Store, storage_errors
from dagferry_server.store.data_folder import DataFolder

MAX_CHECKING = 2
"""How many uploads are checked and stored at the same time; the others wait on disk."""
KIND_UPLOAD = "upload"


class DeployResult(NamedTuple):
    """The result of a request to deploy.

    ``deploy`` is the current deploy now. If ``unchanged``, it was current before, with the same content.
    ``excluded_files`` counts the files that the exclude patterns matched; ``excluded`` are the first of their paths.
    """

    deploy: Deploy
    unchanged: bool
    warnings: list[str]
    excluded_files: int
    excluded: list[str]


class Deployer:
    """Makes deploys. Its parts are shared with the rest of the server; ``clock`` gives seconds since the epoch."""

    def __init__(
        self,
        store: Store,
        folder: DataFolder,
        *,
        deployments: Deployments,
        patches: Patches,
        retention: RetentionRunner,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._folder = folder
        self._deployments = deployments
        self._retention = retention
        self._metrics = metrics
        self._clock = clock
        self._committer = Committer(store, deployments, patches)
        self._checking = asyncio.Semaphore(MAX_CHECKING)

    @asynccontextmanager
    async def incoming(self, deployment: Deployment) -> AsyncIterator[BinaryIO]:
        """Return an empty file for an upload; it is discarded after the block, which receives and deploys it.

        Raises ``StoreError`` if the file cannot be created.
        """
        try:
            file = await asyncio.to_thread(self._folder.scratch_file, deployment.name)
            try:
                yield file
            finally:
                await asyncio.to_thread(self._folder.discard, file)
        except StoreError:
            # A bundle may have been stored for which there is no deploy; on a full volume its space is needed.
            self._retention.request()
            raise

    async def deploy(
        self, deployment: Deployment, received: Received, *, description: str, actor: str, root: str | None
    ) -> DeployResult:
        """Deploy the folder ``root`` of a received archive; ``None``: as the archive suggests.

        Raises what ``check_archive`` raises, ``DeploymentNotFound`` and ``DeploymentDisabled`` if the deployment was
        removed or disabled during the upload, ``ServerBusy``, ``DeployContended``, ``StoreError``.
        """
        with Turn() as turn:
            try:
                return await self._deploy(deployment, received, turn, description=description, actor=actor, root=root)
            except TurnTaken:
                # Only now is it known that it needs a turn. While it waits for one, it holds nothing else, so small #
                # bundles are not delayed.
                await turn.wait()
                return await self._deploy(deployment, received, turn, description=description, actor=actor, root=root)

    async def _deploy(
        self, deployment: Deployment, received: Received, turn: Turn, *, description: str, actor: str, root: str | None
    ) -> DeployResult:
        name = deployment.name
        async with self._checking:
            spool = await asyncio.to_thread(self._folder.scratch_file, name)
            try:
                with self._metrics.check_seconds.labels(name).time():
                    rules = deployment.settings.archive_rules
                    checked = await asyncio.to_thread(_check, received.file, spool, rules, root, turn)
                warnings = [
                    *checked.warnings,
                    *secret_warnings(checked.manifest.files),
                    *too_long_warnings(description),
                ]
                nonce = secrets.token_hex(NONCE_BYTES)
                new = New(KIND_UPLOAD, description, actor, self._clock(), nonce, warnings, checked.excluded)
                current, unchanged = await self._commit(deployment, Upload(checked, spool, received.sha256), new)
            finally:
                await asyncio.to_thread(self._folder.discard, spool)
        if unchanged:
            warnings = [*warnings, *dropped_warnings(description, current)]
        log_warnings(warnings, deployment=name, version=current.version, actor=actor, sha256=received.sha256)
        return DeployResult(current, unchanged, warnings, checked.excluded_files, checked.excluded)

    async def _commit(self, deployment: Deployment, upload: Upload, new: New) -> tuple[Deploy, bool]:
        """Commit under the deployment's lock; return the current deploy, and whether it was there before."""
        async with deployment.lock:
            # Both may have changed since the request began.
            self._deployments.find(deployment.name)
            deployment.refuse_if_disabled()
            with self._metrics.commit_seconds.labels(deployment.name).time():
                deploy = await self._committer.commit(deployment, upload, new)
            current = deploy or deployment.current_deploy()
        if deploy:
            self._retention.request()
        return current, deploy is None


def _check(upload: BinaryIO, spool: BinaryIO, rules: ArchiveRules, root: str | None, turn: Turn) -> CheckedArchive:
    with storage_errors("Unpacking the upload"):
        checked = check_archive(upload, spool, rules, root=root, when_large=turn.take)
        spool.flush()
    return checked
