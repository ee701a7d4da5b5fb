"""From a received file to a deploy: check it, store its bundle, add the entry to the log, tell who waits.

Checking runs beside the event loop, a few uploads at a time. The commit is one step under the deployment's lock: the
bundle is stored before the entry that names it, and the patch that every sidecar is about to ask for before they are
told. The same content as the current deploy makes no entry: a client whose answer was lost sends it again.
"""

import asyncio
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
from dagferry_core.errors import BundleGone, StoreFailed, StoreFull
from dagferry_core.manifest import EMPTY
from dagferry_server.answers import UploadAnswer
from dagferry_server.bundles import known_sources, opened, put_bundle
from dagferry_server.deployments import Deployment
from dagferry_server.failures import log_failure
from dagferry_server.patches import Key, patch_between
from dagferry_server.receiving import Received
from dagferry_server.secretfiles import secret_warnings
from dagferry_server.service import Service
from dagferry_server.store.base import Store, storage_errors

log = logging.getLogger(__name__)


class _Head(NamedTuple):
    """What a commit starts from: the deployment and its current deploy."""

    deployment: str
    current: Deploy | None


class _Commit(NamedTuple):
    """What a commit did: the new deploy, or ``None`` if the content was there, and the patch that leads to it."""

    deploy: Deploy | None
    patch: tuple[Key, bytes | None] | None


async def deploy_upload(
    service: Service, deployment: Deployment, received: Received, *, actor: str, keep_root: bool
) -> UploadAnswer:
    """Deploy a received file. Raises what ``check_archive`` raises, ``StoreFull`` and ``StoreFailed``."""
    name = deployment.name
    async with service.checking:
        spool = await asyncio.to_thread(service.folder.scratch_file, name)
        try:
            with service.metrics.check_seconds.labels(name).time():
                rules = service.settings.archive_rules
                checked = await asyncio.to_thread(_check, received.file, spool, rules, keep_root=keep_root)
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


def _check(upload: BinaryIO, spool: BinaryIO, rules: ArchiveRules, *, keep_root: bool) -> CheckedArchive:
    with storage_errors("Unpacking the upload"):
        checked = check_archive(upload, spool, rules, keep_root=keep_root)
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
    head = _Head(deployment.name, deployment.current)
    try:
        deploy, patch = await asyncio.to_thread(_write, service.store, head, checked, spool, entry)
    except (StoreFailed, StoreFull):
        # Whether the entry is there is the store's to say, not memory's.
        await deployment.reload()
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


def _write(
    store: Store, head: _Head, checked: CheckedArchive, spool: BinaryIO, entry: Callable[..., Deploy]
) -> _Commit:
    deployment, current = head
    digest = checked.manifest.digest
    with ExitStack() as stack:
        old = _open_current(stack, store, head)
        if not _has_whole_bundle(store, deployment, digest):
            put_bundle(store, deployment, checked, spool, known_sources(old))
        if current is not None and current.digest == digest:
            return _Commit(None, None)
        deploy = entry(changes=checked.manifest.changes_from(old.manifest if old else EMPTY))
        patch = None
        if old:
            with opened(store, deployment, digest) as new:
                patch = (Key(deployment, old.manifest.digest, digest), _patch(deployment, old, new))
    if not store.create_entry(deployment, deploy.sequence, deploy.encode()):
        raise StoreFailed(f"Sequence {deploy.sequence} of {deployment} is taken already.")
    return _Commit(deploy, patch)


def _has_whole_bundle(store: Store, deployment: str, digest: str) -> bool:
    if not store.has_bundle(deployment, digest):
        return False
    try:
        with opened(store, deployment, digest) as bundle:
            bundle.verify()
    except (BundleGone, StoreFailed) as error:
        # This very upload can bring it back.
        log_failure("A stored bundle is damaged and stored anew", error, deployment=deployment, digest=digest)
        return False
    return True


def _open_current(stack: ExitStack, store: Store, head: _Head) -> BundleFile | None:
    if head.current is None:
        return None
    try:
        return stack.enter_context(opened(store, head.deployment, head.current.digest))
    except (BundleGone, StoreFailed) as error:
        log_failure("The bundle of the current deploy cannot be read", error, deployment=head.deployment)
        return None


def _patch(deployment: str, old: BundleFile, new: BundleFile) -> bytes | None:
    try:
        return patch_between(old, new)
    except StoreFailed as error:
        # A damaged old bundle must not keep a new one from being deployed.
        log_failure("A bundle cannot be read", error, deployment=deployment, digest=old.manifest.digest)
        return None
