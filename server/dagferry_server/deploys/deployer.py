"""Turns requests into deploys: checks what was received, or finds what is stored, commits it, and returns the result.

Uploads are checked in threads, a few at a time. A deploy that waits for the verdict of a checker, see
``dagferry_server.deploys.import_check``, is held: it has neither a lock nor a place, and its content is in the store.
See ``dagferry_server.deploys.commit`` for what follows.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import BinaryIO, NamedTuple, TypeAlias

from dagferry_core.archive.check import CheckedArchive, check_archive
from dagferry_core.archive.secret_files import secret_warnings
from dagferry_core.bundle.manifest import Changes
from dagferry_core.bundle.merge import overlap
from dagferry_core.deploylog import NONCE_BYTES, PROMOTE, ROLLBACK, Deploy
from dagferry_core.errors import DagferryError
from dagferry_server.deploys.commit import Committed, Committer, New
from dagferry_server.deploys.contents import Again, Content, StoredContent, StoredPart, UploadedContent
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.deploys.deployments import Deployments
from dagferry_server.deploys.gate import DeployGate
from dagferry_server.deploys.import_check import ImportChecks, Waiting
from dagferry_server.deploys.merged import Base, ChangedContent, MergedContent, Merging
from dagferry_server.deploys.patches import Patches
from dagferry_server.deploys.receive import Received
from dagferry_server.deploys.request import Change, Checked, DeployRequest
from dagferry_server.deploys.retention import RetentionRunner
from dagferry_server.deploys.warnings import dropped_warnings, log_warnings, too_long_warnings
from dagferry_server.errors import (
    DeployContended,
    ImportCheckRefused,
    RequestError,
    StoreError,
    TooManyUploads,
    VersionNotFound,
)
from dagferry_server.memory import Turn, TurnTaken
from dagferry_server.metrics import Metrics
from dagferry_server.store.base import Store, storage_errors
from dagferry_server.store.data_folder import DataFolder
from dagferry_server.webhooks.delivery import Webhooks
from dagferry_server.webhooks.messages import deployed

MAX_CHECKING = 2
"""How many uploads are checked and stored at the same time; the others wait on disk."""
MAX_COPYING = 1
"""How many rollbacks and promotes are committed at the same time. They do not wait for the uploads that are checked."""

MAX_ROUNDS = 4
"""How often a deploy is checked by a checker: it is again if what it comes to is not what was checked, because others
deployed meanwhile."""

_LEAVE_A_BUNDLE = StoreError, ImportCheckRefused, TooManyUploads, DeployContended
"""After these, a bundle may be stored that no deploy and no check needs. On a full volume its space is needed."""


class DeployResult(NamedTuple):
    """The result of a request to deploy.

    ``deploy`` is the current deploy now; ``None`` only if there is none, after a dry run. If ``unchanged``, it was
    current before, with the same content. ``digest`` is that of the content, and ``changes`` are those since the
    previous deploy. ``excluded_files`` counts the files that the exclude patterns matched; ``excluded`` are the first
    of their paths.
    """

    deploy: Deploy | None
    request: DeployRequest
    unchanged: bool
    digest: str
    changes: Changes
    warnings: list[str]
    excluded_files: int = 0
    excluded: list[str] = []  # noqa: RUF012 - it is never changed


class Held(NamedTuple):
    """A deploy that waits for a checker. ``again`` returns its content; ``places`` limits how many are committed.

    Its bundle is kept until ``keep`` is closed.
    """

    deployment: Deployment
    waiting: Waiting
    again: Again
    new: New
    places: asyncio.Semaphore
    keep: ExitStack
    excluded_files: int = 0
    excluded: list[str] = []  # noqa: RUF012 - it is never changed


Begun: TypeAlias = DeployResult | Held
"""A deploy after all that needs what was received."""


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
        webhooks: Webhooks,
        clock: Callable[[], float],
        gate: DeployGate,
        checks: ImportChecks,
    ) -> None:
        self._store = store
        self._folder = folder
        self._deployments = deployments
        self._retention = retention
        self._metrics = metrics
        self._webhooks = webhooks
        self._clock = clock
        self._committer = Committer(store, deployments, patches, gate, checks)
        self._gate = gate
        self._checks = checks
        self._checking = asyncio.Semaphore(MAX_CHECKING)
        self._copying = asyncio.Semaphore(MAX_COPYING)

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
        except _LEAVE_A_BUNDLE:
            self._retention.request()
            raise

    async def deploy(
        self,
        deployment: Deployment,
        received: Received,
        request: DeployRequest,
        *,
        root: str | None,
        change: Change | None = None,
    ) -> DeployResult:
        """Begin a deploy and finish it, while the received file is there; see ``begin``."""
        with ExitStack() as keep:
            return await self.finish(
                await self.begin(deployment, received, request, keep=keep, root=root, change=change)
            )

    async def begin(
        self,
        deployment: Deployment,
        received: Received,
        request: DeployRequest,
        *,
        keep: ExitStack,
        root: str | None,
        change: Change | None = None,
    ) -> Begun:
        """Deploy the folder ``root`` of a received archive; ``None``: as the archive suggests.

        With a ``change``, all of the archive is what changed, and the rest comes from the version that it names. If the
        request is for a folder, only that is replaced. An archive without files removes it, if ``allow_removals`` says
        that this is meant. If it is held, ``finish`` is to be called; the received file is not needed any more, and
        its bundle is kept until ``keep`` is closed: the verdict may come before ``finish`` is called.

        Raises what ``check_archive`` raises, ``DeploymentNotFound`` and ``DeploymentDisabled`` if the deployment was
        removed or disabled during the upload, ``VersionMismatch``, ``ServerBusy``, ``DeployContended``, ``StoreError``,
        what the judge raises, and what ``ChangedContent`` and ``MergedContent`` raise.
        """

        async def deploy(turn: Turn) -> Begun:
            async with self._checking:
                return await self._deploy(deployment, received, turn, request, keep=keep, root=root, change=change)

        return await _in_turn(deploy)

    async def finish(self, begun: Begun) -> DeployResult:
        """Return the result of a deploy; one that is held waits for a checker first, and is then judged anew.

        Raises what ``ImportChecks.wait`` and ``begin`` raise, and ``DeployContended`` if others deploy again and again.
        """
        for _ in range(MAX_ROUNDS):
            if isinstance(begun, DeployResult):
                return begun
            try:
                begun = await self._finish_held(begun)
            except DagferryError:
                # Its bundle is stored, and so are those of others that got their verdict when nobody waited any more.
                self._retention.request()
                raise
        if isinstance(begun, DeployResult):
            return begun
        raise DeployContended(
            f"Others deployed to {begun.deployment.name} each of the {MAX_ROUNDS} times that this deploy was checked.",
            "Deploy again.",
        )

    async def _finish_held(self, held: Held) -> Begun:
        deployment = held.deployment
        check = await self._checks.wait(deployment, held.waiting)
        new = held.new._replace(now=self._clock(), request=held.new.request._replace(import_check=check))

        async def deploy(turn: Turn) -> Begun:
            async with held.places:
                content = held.again(turn.take)
                return await self._commit(deployment, content, new, held.places, held.waiting.deadline, keep=held.keep)

        begun = await _in_turn(deploy)
        return begun._replace(excluded_files=held.excluded_files, excluded=held.excluded)

    async def rollback(self, deployment: Deployment, version: str, request: DeployRequest) -> DeployResult:
        """Deploy the content of an older version again; if the request is for a folder, only what it has there.

        Raises ``VersionNotFound``, ``BundleGone``, and what ``deploy`` raises for a checked archive.
        """
        found = await self._find(deployment, version)
        request = request._replace(kind=ROLLBACK, source=version)
        with ExitStack() as keep:
            return await self.finish(await self._deploy_stored(deployment, deployment, found, request, keep=keep))

    async def promote(
        self,
        deployment: Deployment,
        origin: Deployment,
        version: str | None,
        request: DeployRequest,
        *,
        keep: ExitStack,
    ) -> Begun:
        """Begin to deploy a version of the deployment ``origin``, by default its current one, to another one.

        It has to keep the limits that ``deployment`` has for uploads. ``finish`` is to be called with the result; for
        ``keep`` see ``begin``.

        Raises ``NothingDeployed`` if ``origin`` has none, ``RequestError`` if both are the same, ``BundleEmpty``, what
        ``check_limits`` raises, and what ``rollback`` raises.
        """
        if origin is deployment:
            raise RequestError(
                f"{deployment.name} cannot be promoted to itself.", "To deploy an older version again, roll back to it."
            )
        found = await self._find(origin, version)
        request = request._replace(kind=PROMOTE, source=f"{origin.name}@{found.version}")
        return await self._deploy_stored(deployment, origin, found, request, keep=keep)

    async def _find(self, deployment: Deployment, version: str | None) -> Deploy:
        """Return a deploy, also one that another server just made; the current one if ``version`` is ``None``."""
        async with deployment.lock:
            await deployment.refresh()
        return deployment.current_deploy() if version is None else await deployment.deploy(version)

    async def _deploy(
        self,
        deployment: Deployment,
        received: Received,
        turn: Turn,
        request: DeployRequest,
        *,
        keep: ExitStack,
        root: str | None,
        change: Change | None,
    ) -> Begun:
        name, under = deployment.name, request.under
        base = await self._base(deployment, change) if change else None
        spool = await asyncio.to_thread(self._folder.scratch_file, name)
        try:
            with self._metrics.check_seconds.labels(name).time():
                rules = deployment.settings.archive_rules
                merging = Merging(rules, turn.take, under)
                may_be_empty = change is not None or (under != "" and request.allow_removals)
                allowed = merging._replace(rules=rules._replace(allow_empty=True)) if may_be_empty else merging
                checked = await asyncio.to_thread(_check, received.file, spool, "." if change else root, allowed)
            content: Content = UploadedContent(checked, spool)
            warnings = [*checked.warnings, *secret_warnings(under + path for path in checked.manifest.files)]
            if change and base:
                content = ChangedContent(content, base, change, merging, checked.excluded)
                warnings = []  # the commit adds those about all of the files
            if under:
                content = MergedContent(content, merging)
            new = self._new(request, warnings, checked.excluded, received.sha256)
            begun = await self._commit(deployment, content, new, self._checking, keep=keep)
        finally:
            await asyncio.to_thread(self._folder.discard, spool)
        return begun._replace(excluded_files=checked.excluded_files, excluded=checked.excluded)

    async def _base(self, deployment: Deployment, change: Change) -> Base:
        try:
            found = await self._find(deployment, change.base)
        except VersionNotFound:
            found = None  # an error unless the content turns out to be current
        return Base(self._store, deployment.name, found)

    async def _deploy_stored(
        self, deployment: Deployment, origin: Deployment, found: Deploy, request: DeployRequest, *, keep: ExitStack
    ) -> Begun:
        """Deploy the bundle of ``found``, which ``origin`` has, or a folder of it."""
        under = request.under
        if overlap(found.under, under):
            request = request._replace(git=found.git)
        # An empty tree that was deployed before may be deployed again.
        rules = deployment.settings.archive_rules._replace(allow_empty=True)

        async def deploy(turn: Turn) -> Begun:
            async with self._copying:
                limits = deployment.settings.archive_rules if request.kind == PROMOTE else None
                content: Content = StoredContent(self._store, origin, found, turn.take, limits)
                if under:
                    part = StoredPart(self._store, origin, found, turn.take, under)
                    content = MergedContent(part, Merging(rules, turn.take, under))
                return await self._commit(deployment, content, self._new(request), self._copying, keep=keep)

        try:
            return await _in_turn(deploy)
        except _LEAVE_A_BUNDLE:
            self._retention.request()  # as after an upload
            raise

    def _new(
        self, request: DeployRequest, warnings: Sequence[str] = (), excluded: Sequence[str] = (), sha256: str = ""
    ) -> New:
        warnings = [*warnings, *too_long_warnings(request.description)]
        return New(request, self._clock(), secrets.token_hex(NONCE_BYTES), warnings, list(excluded), sha256)

    async def _commit(
        self,
        deployment: Deployment,
        content: Content,
        new: New,
        places: asyncio.Semaphore,
        deadline: float | None = None,
        *,
        keep: ExitStack,
    ) -> Begun:
        """Check the content, commit it under the deployment's lock, and return the result.

        If a checker has to import it first, it waits until ``deadline``, or as long as the deployment's settings say.
        """
        request = new.request
        if request.checked is None:
            request = request._replace(checked=await asyncio.to_thread(self._check_early, deployment, content, request))
        if request.import_check is None:
            request = request._replace(import_check=self._checks.plan(deployment, request))
        new = new._replace(request=request)
        try:
            async with deployment.lock:
                self._deployments.find(deployment.name)  # it may have been removed since the request began
                with self._metrics.commit_seconds.labels(deployment.name).time():
                    committed = await self._committer.commit(deployment, content, new)
                if committed.unchecked:
                    # Before a deletion can begin: it spares no candidate that has its verdict already.
                    keep.enter_context(deployment.checking.needing(committed.digest))
                current = committed.deploy or deployment.current
        except ImportCheckRefused as error:
            self._checks.note_refused(deployment, request, error)
            raise
        if committed.unchecked and request.import_check:
            candidate, again = committed.unchecked
            if deadline is None:
                deadline = deployment.checking.clock() + deployment.settings.check_seconds
            return Held(deployment, Waiting(candidate, request.import_check, deadline), again, new, places, keep)
        if committed.deploy or (request.dry_run and request.import_check):
            self._retention.request()
        if committed.deploy:
            self._webhooks.send(deployment.settings.webhooks, deployed(deployment.name, committed.deploy))
        return _result(deployment, current, committed, new)

    def _check_early(self, deployment: Deployment, content: Content, request: DeployRequest) -> Checked | None:
        """Look at the contents while others may still deploy; ``None`` if they cannot be read: the commit says why."""
        if not self._gate.looks(deployment, request):
            return None
        with suppress(DagferryError), content.early() as tree:
            if deployment.current is None or deployment.current.digest != tree.manifest.digest:
                return self._gate.check_early(deployment, tree, request)
        return None


async def _in_turn(deploy: Callable[[Turn], Awaitable[Begun]]) -> Begun:
    """Return the result of ``deploy``, which takes the turn if its content turns out to have very many files."""
    with Turn() as turn:
        with suppress(TurnTaken):
            return await deploy(turn)
        # Only now is it known that it needs a turn. While it waits for one, it holds nothing else, so small bundles are
        # not delayed. In an except block it would hold the error, and so all that was in memory where it was raised.
        await turn.wait()
        return await deploy(turn)


def _result(deployment: Deployment, current: Deploy | None, committed: Committed, new: New) -> DeployResult:
    request = new.request
    warnings = [*new.warnings, *committed.warnings]
    if committed.unchanged and current:
        warnings += dropped_warnings(request.description, current)
    version = current.version if current else ""
    who = {"deployment": deployment.name, "version": version, "actor": request.actor, "sha256": new.sha256}
    log_warnings(warnings, request.kind, **who)
    return DeployResult(current, request, committed.unchanged, committed.digest, committed.changes, warnings)


def _check(upload: BinaryIO, spool: BinaryIO, root: str | None, merging: Merging) -> CheckedArchive:
    with storage_errors("Unpacking the upload"):
        checked = check_archive(
            upload, spool, merging.rules, root=root, under=merging.under, when_large=merging.when_large
        )
        spool.flush()
    return checked
