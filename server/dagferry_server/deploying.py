"""From a received file to a deploy: check it, store its bundle, add the entry to the log, tell who waits.

Checking runs beside the event loop, a few uploads at a time. The commit is one step under the deployment's lock: the
bundle is stored before the entry that names it, and the patch that every sidecar is about to ask for before they are
told. The same content as the current deploy makes no entry: a client whose answer was lost sends it again.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import BinaryIO, NamedTuple

from dagferry_core.archive import ArchiveRules, CheckedArchive, check_archive
from dagferry_core.bundle import BundleFile
from dagferry_core.command import fields
from dagferry_core.deploylog import Deploy, next_deploy
from dagferry_core.errors import BundleGone, StoreDamaged, StoreFailed, StoreFull
from dagferry_core.manifest import EMPTY, Manifest
from dagferry_core.patch import worth_a_patch
from dagferry_server.answers import UploadAnswer
from dagferry_server.bundles import known_imports, opened, put_bundle
from dagferry_server.deployments import Deployment
from dagferry_server.failures import log_failure
from dagferry_server.memory import Turn, TurnTaken
from dagferry_server.patches import Key, patch_between
from dagferry_server.receiving import Received
from dagferry_server.secretfiles import secret_warnings
from dagferry_server.service import Service
from dagferry_server.store.base import Store, storage_errors

READ_ATTEMPTS = 3
READ_PAUSE_SECONDS = 0.1
"""How often the bundle of the current deploy is tried to be read, and the pause in between."""

log = logging.getLogger(__name__)


class _Head(NamedTuple):
    """What a commit starts from: the deployment, and the newest deploy of it that can be read.

    ``is_newest`` tells whether that is the newest of all; else the entry of that one is damaged.
    """

    deployment: str
    current: Deploy | None
    is_newest: bool


class _Commit(NamedTuple):
    """What a commit did: the new deploy, or ``None`` if the content was there, and the patch that leads to it."""

    deploy: Deploy | None
    patch: tuple[Key, bytes | None] | None


async def deploy_upload(
    service: Service, deployment: Deployment, received: Received, *, actor: str, root: str | None
) -> UploadAnswer:
    """Deploy what lies under ``root`` in a received file.

    Raises what ``check_archive`` raises, ``ServerBusy``, ``StoreFull`` and ``StoreFailed``.
    """
    with Turn() as turn:
        try:
            return await _deploy_upload(service, deployment, received, turn, actor=actor, root=root)
        except TurnTaken:
            # It turned out to have many files. It waits on disk, and begins again: so it is in the way of no small one.
            await turn.come()
            return await _deploy_upload(service, deployment, received, turn, actor=actor, root=root)


async def _deploy_upload(
    service: Service, deployment: Deployment, received: Received, turn: Turn, *, actor: str, root: str | None
) -> UploadAnswer:
    name = deployment.name
    async with service.checking:
        spool = await asyncio.to_thread(service.folder.scratch_file, name)
        try:
            with service.metrics.check_seconds.labels(name).time():
                rules = deployment.settings.archive_rules
                checked = await asyncio.to_thread(_check, received.file, spool, rules, root, turn)
            async with deployment.lock:
                with service.metrics.commit_seconds.labels(name).time():
                    entry = partial(
                        next_deploy,
                        deployment.current,
                        deployment.highest,
                        digest=checked.manifest.digest,
                        kind="upload",
                        description=received.description,
                        actor=actor,
                        now=service.clock(),
                    )
                    deploy = await _commit(service, deployment, checked, spool, entry, sha256=received.sha256)
        finally:
            await asyncio.to_thread(service.folder.discard, spool)
    current = deploy or deployment.current_deploy()
    return UploadAnswer(
        version=current.version,
        digest=current.digest,
        sequence=current.sequence,
        unchanged=deploy is None,
        added=deploy.added if deploy else 0,
        changed=deploy.changed if deploy else 0,
        removed=deploy.removed if deploy else 0,
        warnings=[*checked.warnings, *secret_warnings(checked.manifest.files)],
        left_out=checked.left_out_files,
        left_out_paths=checked.left_out,
    )


def _check(upload: BinaryIO, spool: BinaryIO, rules: ArchiveRules, root: str | None, turn: Turn) -> CheckedArchive:
    with storage_errors("Unpacking the upload"):
        checked = check_archive(upload, spool, rules, root=root, when_large=turn.take)
        spool.flush()
    return checked


async def _commit(
    service: Service,
    deployment: Deployment,
    checked: CheckedArchive,
    spool: BinaryIO,
    entry: Callable[..., Deploy],
    *,
    sha256: str,
) -> Deploy | None:
    """Commit under the lock, and return the new deploy, or ``None`` if the content was there.

    ``sha256`` is the upload's, for the log.
    """
    started = time.monotonic()
    try:
        await deployment.refresh()
        head = _Head(deployment.name, deployment.current, deployment.fault is None)
        deploy, patch = await asyncio.to_thread(_write_undisturbed, service.store, head, checked, spool, entry)
    except (StoreFailed, StoreFull):
        # Whether the entry is there is the store's to say, not memory's. If it does not: until it does, nobody is told
        # that what memory has is current.
        with contextlib.suppress(StoreFailed):
            await deployment.refresh()
        if deployment.unsettled:
            service.look_again(deployment)
        raise
    if patch:
        service.patches.keep(*patch)
    if deploy:
        deployment.add(deploy)
        log.info(
            "Deployed",
            extra=fields(
                deployment=deployment.name,
                sha256=sha256,
                version=deploy.version,
                digest=deploy.digest,
                actor=deploy.actor,
                added=deploy.added,
                changed=deploy.changed,
                removed=deploy.removed,
                files=len(checked.manifest.files),
                patch_bytes=len(patch[1]) if patch and patch[1] else None,
                seconds=round(time.monotonic() - started, 3),
            ),
        )
    return deploy


def _write_undisturbed(
    store: Store, head: _Head, checked: CheckedArchive, spool: BinaryIO, entry: Callable[..., Deploy]
) -> _Commit:
    # What is stored and not named yet, or about to be named anew, is nobody's surplus.
    with store.committing(head.deployment):
        return _write(store, head, checked, spool, entry)


def _write(
    store: Store, head: _Head, checked: CheckedArchive, spool: BinaryIO, entry: Callable[..., Deploy]
) -> _Commit:
    deployment, current, is_newest = head
    digest = checked.manifest.digest
    with ExitStack() as stack:
        old = _open_current(stack, store, head, checked.manifest)
        if not _has_whole_bundle(store, deployment, checked.manifest):
            put_bundle(store, deployment, checked, spool, known_imports(old))
        if current is not None and is_newest and current.digest == digest:
            return _Commit(None, None)
        changes = checked.manifest.changes_from(old.manifest if old else EMPTY)
        deploy = entry(changes=changes)
        patch: tuple[Key, bytes | None] | None = None
        if old and not worth_a_patch(changes):
            patch = (Key(deployment, old.manifest.digest, digest), None)
        elif old:
            with opened(store, deployment, digest, checked.manifest) as new:
                patch = (Key(deployment, old.manifest.digest, digest), _patch(deployment, old, new))
    if not store.create_entry(deployment, deploy.sequence, deploy.encode()):
        raise StoreFailed(f"Sequence {deploy.sequence} of {deployment} is taken already.")
    return _Commit(deploy, patch)


def _has_whole_bundle(store: Store, deployment: str, manifest: Manifest) -> bool:
    digest = manifest.digest
    if not store.has_bundle(deployment, digest):
        return False
    try:
        with opened(store, deployment, digest, manifest) as bundle:
            bundle.verify()
    except (BundleGone, StoreFailed) as error:
        # This very upload can bring it back.
        log_failure("A stored bundle is damaged and stored anew", error, deployment=deployment, digest=digest)
        return False
    return True


def _open_current(
    stack: ExitStack, store: Store, head: _Head, new: Manifest, attempts: int = READ_ATTEMPTS
) -> BundleFile | None:
    if head.current is None:
        return None
    try:
        return stack.enter_context(opened(store, head.deployment, head.current.digest, new))
    except (BundleGone, StoreFailed) as error:
        if attempts == 1 or isinstance(error, BundleGone | StoreDamaged):
            log_failure("The bundle of the current deploy cannot be read", error, deployment=head.deployment)
            return None
    # Without it all files count as new, and every pod fetches the whole bundle: so not for an error that passes. One
    # that stays, as of a bad block, must not end all deploys.
    time.sleep(READ_PAUSE_SECONDS)
    return _open_current(stack, store, head, new, attempts - 1)


def _patch(deployment: str, old: BundleFile, new: BundleFile) -> bytes | None:
    try:
        return patch_between(old, new)
    except StoreFailed as error:
        # A damaged old bundle must not keep a new one from being deployed.
        log_failure("A bundle cannot be read", error, deployment=deployment, digest=old.manifest.digest)
        return None
