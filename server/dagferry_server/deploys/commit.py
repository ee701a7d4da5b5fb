"""Commits checked content: stores its bundle, adds the entry to the log, and notifies everyone who waits for a change.

The commit is one step under the deployment's lock: the bundle is stored before the entry that names it, and the patch
that every sidecar is about to request is made before they are notified. Content equal to the current deploy makes no
entry: a client whose response was lost sends it again.

Other servers may commit to the same store. So a commit first reads what they added, and only then decides whether the
content is new. The loser of a race for a sequence reads the winner's entry and starts over, see docs/adr/0007.
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
from dagferry_core.bundle.manifest import EMPTY, Changes, Manifest
from dagferry_core.bundle.patch import worth_a_patch
from dagferry_core.bundle.reader import BundleFile
from dagferry_core.deploy_details import DeployDetails
from dagferry_core.deploylog import Deploy, next_deploy
from dagferry_runtime.logs import fields, log_failure
from dagferry_server.deploys.bundles import known_sources, open_bundle, put_bundle
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.deploys.deployments import Deployments
from dagferry_server.deploys.entries import create_entry
from dagferry_server.deploys.patches import Key, Patches, patch_between
from dagferry_server.errors import BundleGone, DeployContended, StoreAway, StoreDamaged, StoreError
from dagferry_server.store.base import Store

MAX_RACES = 10
RACE_PAUSE_SECONDS = 0.05
"""How often a commit tries to be the next entry of the log, and by how much the pause before another try grows."""
READ_ATTEMPTS = 3
READ_PAUSE_SECONDS = 0.1
"""How often reading the bundle of the current deploy is tried, and the pause in between."""

log = logging.getLogger(__name__)


class Upload(NamedTuple):
    """A checked upload: its files lie in ``spool``; ``sha256`` is that of the received file, for the log."""

    checked: CheckedArchive
    spool: BinaryIO
    sha256: str


class New(NamedTuple):
    """The content of a new entry, whatever entry it follows. ``nonce`` identifies it and the file with its details.

    ``now`` is in seconds since the epoch. ``excluded`` are the first of the paths that the exclude patterns matched.
    """

    kind: str
    description: str
    actor: str
    now: float
    nonce: str
    warnings: list[str]
    excluded: list[str]


class _Head(NamedTuple):
    """The state that a commit starts from: the deployment, and its newest deploy that can be read.

    ``is_newest`` says whether that is the newest of all; if not, the newest entry is damaged. ``highest`` is the newest
    entry's sequence, and ``sha256`` the hash of its bytes.
    """

    deployment: str
    current: Deploy | None
    is_newest: bool
    highest: int
    sha256: str


_Patch = tuple[Key, bytes | None]
"""A patch; ``None`` if no patch is useful."""


class _Outcome(NamedTuple):
    """The result of a commit: the new deploy, or ``None`` if the content was current already, and the patch to it.

    If the race for the sequence was ``lost``, only the bundle was stored.
    """

    deploy: Deploy | None
    patch: _Patch | None
    lost: bool = False


class Committer:
    """Adds deploys to the logs of ``deployments``, and their bundles to ``store``."""

    def __init__(self, store: Store, deployments: Deployments, patches: Patches) -> None:
        self._store = store
        self._deployments = deployments
        self._patches = patches

    async def commit(self, deployment: Deployment, upload: Upload, new: New) -> Deploy | None:
        """Commit while the caller holds the deployment's lock; return the deploy, or ``None`` if nothing changed.

        Raises ``DeployContended`` after ``MAX_RACES`` lost races, and ``StoreError``.
        """
        started = time.monotonic()
        for race in range(1, MAX_RACES + 1):
            deploy, patch, lost = await self._race(deployment, upload, new)
            if not lost:
                break
            log.info("The commit starts over", extra=fields(deployment=deployment.name, race=race))
            await asyncio.sleep(random.uniform(0, race * RACE_PAUSE_SECONDS))  # noqa: S311 - not for secrets
        else:
            raise DeployContended(f"Other servers deployed to {deployment.name} in each of {MAX_RACES} attempts.")
        if patch:
            self._patches.keep(*patch)
        if deploy:
            deployment.add(deploy)
            log.info(
                "Deployed",
                extra=fields(
                    deployment=deployment.name,
                    sha256=upload.sha256,
                    version=deploy.version,
                    digest=deploy.digest,
                    actor=deploy.actor,
                    added=deploy.added,
                    changed=deploy.changed,
                    removed=deploy.removed,
                    files=len(upload.checked.manifest.files),
                    patch_bytes=len(patch[1]) if patch and patch[1] else None,
                    seconds=round(time.monotonic() - started, 3),
                ),
            )
        return deploy

    async def _race(self, deployment: Deployment, upload: Upload, new: New) -> _Outcome:
        """Try to commit once, after what is the newest deploy in the store now."""
        try:
            await deployment.refresh()
            is_newest = deployment.fault is None
            head = _Head(deployment.name, deployment.current, is_newest, deployment.highest, deployment.head_sha256)
            return await asyncio.to_thread(self._write, head, upload, new)
        except BundleGone as error:
            # It was there a moment ago. The next attempt stores it again.
            log_failure("A bundle was deleted before it had a deploy", error, deployment=deployment.name)
            return _Outcome(None, None, lost=True)
        except StoreError:
            # Only the store knows whether the entry exists. Until it answers, the deploy in memory is not reported as
            # current.
            with contextlib.suppress(StoreError):
                await deployment.refresh()
            self._deployments.retry(deployment)
            raise

    # --- in a thread -------------------------------------------------------------------------------------------------

    def _write(self, head: _Head, upload: Upload, new: New) -> _Outcome:
        """Store bundle, details and entry, in this order.

        Retention may run at the same time: the bundle is stored, or found, before the entry names it. It is not deleted
        in between, because a commit holds ``store.committing``. On a store that cannot prevent deletions, each attempt
        checks again that the bundle exists.
        """
        manifest = upload.checked.manifest
        with self._store.committing(head.deployment), ExitStack() as stack:
            old = self._open_current(stack, head, manifest)
            self._store_bundle(head.deployment, upload, old)
            if head.current is not None and head.is_newest and head.current.digest == manifest.digest:
                return _Outcome(None, None)
            changes = manifest.changes_from(old.manifest if old else EMPTY)
            patch = self._patch(head.deployment, old, manifest, changes) if old else None
            stack.close()  # the old bundle's memory and file, before the entry is written
            return self._append(head, manifest.digest, changes, patch, new)

    def _open_current(self, stack: ExitStack, head: _Head, new: Manifest) -> BundleFile | None:
        """Open the bundle of the current deploy, if there is one that can be read, until ``stack`` is closed."""
        if head.current is None:
            return None
        for attempt in range(1, READ_ATTEMPTS + 1):
            try:
                return stack.enter_context(open_bundle(self._store, head.deployment, head.current.digest, new))
            except (BundleGone, StoreDamaged, StoreAway) as error:
                if attempt == READ_ATTEMPTS or not isinstance(error, StoreAway):
                    log_failure("The bundle of the current deploy cannot be read", error, deployment=head.deployment)
                    break
            # Without it all files count as new, and every pod downloads the whole bundle: so a transient error is
            # retried. # A permanent one, such as a bad block, must not prevent all deploys.
            time.sleep(READ_PAUSE_SECONDS)
        return None

    def _store_bundle(self, deployment: str, upload: Upload, old: BundleFile | None) -> None:
        """Store the upload's bundle, unless an intact one is stored."""
        manifest = upload.checked.manifest
        if self._has_intact_bundle(deployment, manifest):
            return
        known = known_sources(old, manifest)
        if old:
            old.forget_sources()
        put_bundle(self._store, deployment, upload.checked, upload.spool, known, current=old)

    def _has_intact_bundle(self, deployment: str, manifest: Manifest) -> bool:
        digest = manifest.digest
        if not self._store.has_bundle(deployment, digest):
            return False
        try:
            with open_bundle(self._store, deployment, digest, manifest) as bundle:
                bundle.verify()
        except (BundleGone, StoreDamaged, StoreAway) as error:
            # This upload can replace it, even after a bad block, where reads fail and writes do not.
            log_failure("A stored bundle cannot be read and is replaced", error, deployment=deployment, digest=digest)
            return False
        return True

    def _patch(self, deployment: str, old: BundleFile, manifest: Manifest, changes: Changes) -> _Patch | None:
        """Return the patch from ``old`` to the stored bundle ``manifest``; ``None`` if it may be tried later."""
        key = Key(deployment, old.manifest.digest, manifest.digest)
        if not worth_a_patch(changes):
            return key, None  # so that it is not tried again when the sidecars request it
        with open_bundle(self._store, deployment, manifest.digest, manifest) as bundle:
            try:
                return key, patch_between(old, bundle)
            except (StoreDamaged, StoreAway) as error:
                # An old bundle that cannot be read must not prevent the deploy of a new one.
                log_failure("A bundle cannot be read", error, deployment=deployment, digest=old.manifest.digest)
                # A request for the patch later may succeed, unless the bundle is damaged.
                return (key, None) if isinstance(error, StoreDamaged) else None

    def _append(self, head: _Head, digest: str, changes: Changes, patch: _Patch | None, new: New) -> _Outcome:
        """Add the entry that names a stored bundle: this part of a commit is the same for every kind of deploy."""
        details = DeployDetails(new.warnings, new.excluded, *changes).encode()
        try:
            deploy = next_deploy(
                head.current,
                head.highest,
                digest=digest,
                kind=new.kind,
                description=new.description,
                actor=new.actor,
                now=new.now,
                changes=changes,
                nonce=new.nonce,
                previous=head.sha256,
                details=hashlib.sha256(details).hexdigest(),
            )
        except OverflowError as error:
            raise StoreDamaged(f"The deploy log of {head.deployment} is full: {error}.") from error
        if create_entry(self._store, head.deployment, deploy, details):
            return _Outcome(deploy, patch)
        return _Outcome(None, None, lost=True)
