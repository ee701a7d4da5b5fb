"""Commits a checked upload: store its bundle, add the entry to the log, tell who waits.

The commit is one step under the deployment's lock: the bundle is stored before the entry that names it, and the patch
that every sidecar is about to ask for before they are told. The same content as the current deploy makes no entry: a
client whose answer was lost sends it again.

Other servers may commit to the same store. So a commit takes what they added first, and only then judges whether the
content is new. Who loses the race for a sequence takes the winner's entry and starts over, see docs/adr/0007.
"""

import asyncio
import contextlib
import hashlib
import logging
import random
import time
from contextlib import ExitStack
from typing import BinaryIO, NamedTuple

from dagferry_core.archive.check import CheckedArchive
from dagferry_core.bundle.manifest import EMPTY, Manifest
from dagferry_core.bundle.patch import worth_a_patch
from dagferry_core.bundle.reader import BundleFile
from dagferry_core.deploy_details import DeployDetails
from dagferry_core.deploylog import Deploy, next_deploy
from dagferry_core.errors import BundleGone, DeployContended, StoreDamaged, StoreFailed, StoreFull
from dagferry_runtime.logs import fields
from dagferry_server.deploys.bundles import known_sources, opened, put_bundle
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.deploys.entries import create_entry
from dagferry_server.deploys.patches import Key, patch_between
from dagferry_server.failures import log_failure
from dagferry_server.service import Service
from dagferry_server.store.base import Store

MAX_RACES = 10
RACE_PAUSE_SECONDS = 0.05
"""How often a commit tries to be the next entry of the log, and what the pause before another try grows by."""
READ_ATTEMPTS = 3
READ_PAUSE_SECONDS = 0.1
"""How often the bundle of the current deploy is tried to be read, and the pause in between."""

log = logging.getLogger(__name__)


class _Head(NamedTuple):
    """What a commit starts from: the deployment, and the newest deploy of it that can be read.

    ``is_newest`` tells whether that is the newest of all; else the entry of that one is damaged. ``highest`` is its
    sequence, and ``sha256`` the hash of its bytes.
    """

    deployment: str
    current: Deploy | None
    is_newest: bool
    highest: int
    sha256: str


class New(NamedTuple):
    """What a new entry says, whatever it follows. ``nonce`` marks it, and the file with its details."""

    description: str
    actor: str
    now: float
    nonce: str
    warnings: list[str]


class _Commit(NamedTuple):
    """What a commit did: the new deploy, or ``None`` if the content was there, and the patch that leads to it.

    If the race for the sequence is ``lost``, it did nothing, but the bundle is stored.
    """

    deploy: Deploy | None
    patch: tuple[Key, bytes | None] | None
    lost: bool = False


async def commit(
    service: Service,
    deployment: Deployment,
    checked: CheckedArchive,
    spool: BinaryIO,
    new: New,
    *,
    sha256: str,
) -> Deploy | None:
    """Commit under the lock, and return the new deploy, or ``None`` if the content was there.

    ``sha256`` is the upload's, for the log.
    """
    started = time.monotonic()
    for race in range(1, MAX_RACES + 1):
        deploy, patch, lost = await _race(service, deployment, checked, spool, new)
        if not lost:
            break
        log.info("The commit starts over", extra=fields(deployment=deployment.name, race=race))
        await asyncio.sleep(random.uniform(0, race * RACE_PAUSE_SECONDS))  # noqa: S311 - not for secrets
    else:
        raise DeployContended(f"Other servers deployed to {deployment.name} in each of {MAX_RACES} attempts.")
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


def _write_undisturbed(store: Store, head: _Head, checked: CheckedArchive, spool: BinaryIO, new: New) -> _Commit:
    # What is stored and not named yet, or about to be named anew, is nobody's surplus.
    with store.committing(head.deployment):
        return _write(store, head, checked, spool, new)


async def _race(
    service: Service, deployment: Deployment, checked: CheckedArchive, spool: BinaryIO, new: New
) -> _Commit:
    """Try to commit once, after what is the newest deploy in the store now."""
    try:
        await deployment.refresh()
        is_newest = deployment.fault is None
        head = _Head(deployment.name, deployment.current, is_newest, deployment.highest, deployment.head_sha256)
        return await asyncio.to_thread(_write_undisturbed, service.store, head, checked, spool, new)
    except BundleGone as error:
        # It was there a moment ago. Whoever deleted it, the next race stores it anew.
        log_failure("A bundle was deleted before it had a deploy", error, deployment=deployment.name)
        return _Commit(None, None, lost=True)
    except (StoreFailed, StoreFull):
        # Whether the entry is there is the store's to say, not memory's. If it does not: until it does, nobody is told
        # that what memory has is current.
        with contextlib.suppress(StoreFailed):
            await deployment.refresh()
        if deployment.unsettled:
            service.look_again(deployment)
        raise


def _write(store: Store, head: _Head, checked: CheckedArchive, spool: BinaryIO, new: New) -> _Commit:
    """Store bundle, details and entry, in this order.

    Retention meets a commit here: the bundle is stored, or found, before the entry names it. Whoever deletes bundles
    takes neither for surplus, because a commit holds ``store.committing``. On a store that cannot hold anybody off, a
    commit does its part by looking anew in each race whether the bundle is there.
    """
    deployment, current = head.deployment, head.current
    digest = checked.manifest.digest
    with ExitStack() as stack:
        old = _open_current(stack, store, head, checked.manifest)
        if not _has_whole_bundle(store, deployment, checked.manifest):
            known = known_sources(old, checked.manifest)
            if old:
                old.forget_sources()
            put_bundle(store, deployment, checked, spool, known)
        if current is not None and head.is_newest and current.digest == digest:
            return _Commit(None, None)
        changes = checked.manifest.changes_from(old.manifest if old else EMPTY)
        patch: tuple[Key, bytes | None] | None = None
        if old and worth_a_patch(changes):
            with opened(store, deployment, digest, checked.manifest) as bundle:
                patch = _patch(deployment, old, bundle)
        elif old:  # and so it is not tried again when the sidecars ask
            patch = (Key(deployment, old.manifest.digest, digest), None)
    details = DeployDetails(new.warnings, checked.excluded, *changes).encode()
    deploy = next_deploy(
        current,
        head.highest,
        digest=digest,
        kind="upload",
        description=new.description,
        actor=new.actor,
        now=new.now,
        changes=changes,
        nonce=new.nonce,
        previous=head.sha256,
        details=hashlib.sha256(details).hexdigest(),
    )
    if create_entry(store, deployment, deploy, details):
        return _Commit(deploy, patch)
    return _Commit(None, None, lost=True)


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


def _patch(deployment: str, old: BundleFile, new: BundleFile) -> tuple[Key, bytes | None] | None:
    key = Key(deployment, old.manifest.digest, new.manifest.digest)
    try:
        return key, patch_between(old, new)
    except StoreFailed as error:
        # A damaged old bundle must not keep a new one from being deployed.
        log_failure("A bundle cannot be read", error, deployment=deployment, digest=old.manifest.digest)
        # Whoever asks for the patch later may have more luck, unless it is damaged.
        return (key, None) if isinstance(error, StoreDamaged) else None
