"""Commits content: stores its bundle, adds the entry to the log, and notifies everyone who waits for a change.

The commit is one step under the deployment's lock: the bundle is stored before the entry that names it, and the patch
that every sidecar is about to request is made before they are notified. Content equal to the current deploy makes no
entry: a client whose response was lost sends it again.

Content that a checker has to import first becomes a candidate instead: its bundle is stored as that of a deploy is.

Other servers may commit to the same store. So a commit first reads what they added, and only then judges, in this
order: is the content new, is the current version the expected one, what tree does the content come to, may that become
current. The loser of a race for a sequence reads the winner's entry and starts over, see docs/adr/0007 and 0027.
"""

import asyncio
import contextlib
import hashlib
import logging
import random
import time
from contextlib import ExitStack
from typing import NamedTuple

from dagferry_core.bundle.manifest import EMPTY, Changes, Manifest
from dagferry_core.bundle.merge import subtree
from dagferry_core.bundle.patch import worth_a_patch
from dagferry_core.bundle.reader import BundleFile
from dagferry_core.deploy_details import DeployDetails
from dagferry_core.deploylog import REPEATED, Deploy, next_deploy
from dagferry_runtime.logs import fields, log_failure
from dagferry_server.deploys.bundles import open_bundle, put_bundle, tree_of
from dagferry_server.deploys.candidates import Candidate
from dagferry_server.deploys.contents import Again, Content, Head
from dagferry_server.deploys.deployment import Deployment
from dagferry_server.deploys.deployments import Deployments
from dagferry_server.deploys.entries import Attempt, create_entry
from dagferry_server.deploys.judge import ImportJudge, Judge
from dagferry_server.deploys.patches import NO_PATCH, Key, Patches, patch_between
from dagferry_server.deploys.preconditions import (
    check_match,
    last_of,
    own_newest,
    refuse_closed,
    repeated_warnings,
)
from dagferry_server.deploys.request import DeployRequest
from dagferry_server.deploys.tree import Tree
from dagferry_server.errors import BundleGone, DeployContended, StoreAway, StoreDamaged, StoreError
from dagferry_server.store.base import MAX_COMMIT_SECONDS, Store

MAX_RACES = 100
RACE_PAUSE_SECONDS = 0.05
"""How often a commit tries to be the next entry of the log, and the longest pause before another try.

Somebody wins each race, so a longer pause would only let the others win more of them. The winner has the bundle of the
current deploy at hand, which the loser fetches first: even of two servers, one may lose more than ten in a row.
"""
READ_ATTEMPTS = 3
READ_PAUSE_SECONDS = 0.1
"""How often reading the bundle of the current deploy is tried, and the pause in between."""

log = logging.getLogger(__name__)


class New(NamedTuple):
    """A new entry, whatever entry it follows. ``nonce`` identifies it and the file with its details.

    ``now`` is in seconds since the epoch. ``excluded`` are the first of the paths that the exclude patterns matched.
    ``sha256`` is that of the received file, for the log; empty if there was none.
    """

    request: DeployRequest
    now: float
    nonce: str
    warnings: list[str]
    excluded: list[str]
    sha256: str = ""


_Patch = tuple[Key, bytes | None]
"""A patch; ``None`` if no patch is useful."""


class _Elapsed:
    """How long ago something was: by two clocks, because one stands still while the machine is suspended."""

    def __init__(self) -> None:
        self._started = time.monotonic(), time.time()

    def seconds(self) -> float:
        """Return the larger of the two."""
        return max(time.monotonic() - self._started[0], time.time() - self._started[1])


class Uncommitted(NamedTuple):
    """What has to be checked before it is committed; ``again`` returns its content, from the stored bundle."""

    candidate: Candidate
    again: Again


class Committed(NamedTuple):
    """The result of a commit: the new ``deploy``; ``None`` if the content was current already, or for a dry run.

    ``digest`` is that of the content, ``files`` how many files it has, and ``changes`` those since the previous deploy.
    ``warnings`` are those that depend on the previous deploy. ``unchecked``: there is no deploy yet, see there.
    """

    deploy: Deploy | None
    digest: str
    files: int
    changes: Changes = Changes([], [], [])
    warnings: list[str] = []  # noqa: RUF012 - it is never changed
    unchanged: bool = False
    unchecked: Uncommitted | None = None


class Committer:
    """Adds deploys to the logs of ``deployments``, and their bundles to ``store``."""

    def __init__(
        self,
        store: Store,
        deployments: Deployments,
        patches: Patches,
        judge: Judge | None = None,
        imports: ImportJudge | None = None,
    ) -> None:
        self._store = store
        self._deployments = deployments
        self._patches = patches
        self._judge = judge
        self._imports = imports

    async def commit(self, deployment: Deployment, content: Content, new: New) -> Committed:
        """Commit while the caller holds the deployment's lock.

        Raises ``DeployContended`` after ``MAX_RACES`` lost races, ``StoreError``, and what ``refuse_closed``,
        ``check_match``, the content and the judge raise.
        """
        started = time.monotonic()
        for race in range(1, MAX_RACES + 1):
            committed, patch = await self._race(deployment, content, new)
            if committed:
                break
            log.info("The commit starts over", extra=fields(deployment=deployment.name, race=race))
            await asyncio.sleep(random.uniform(0, RACE_PAUSE_SECONDS))  # noqa: S311 - not for secrets
        else:
            raise DeployContended(f"Other servers deployed to {deployment.name} in each of {MAX_RACES} attempts.")
        if patch:
            self._patches.keep(*patch)
        if deploy := committed.deploy:
            deployment.add(deploy)
            self._deployments.changed(deployment.name, deploy.sequence)
            log.info(
                "Deployed",
                extra=fields(
                    deployment=deployment.name,
                    kind=deploy.kind,
                    source=deploy.source or None,
                    under=deploy.under or None,
                    flags=deploy.flags or None,
                    sha256=new.sha256 or None,
                    version=deploy.version,
                    digest=deploy.digest,
                    actor=deploy.actor,
                    added=deploy.added,
                    changed=deploy.changed,
                    removed=deploy.removed,
                    files=committed.files,
                    patch_bytes=len(patch[1]) if patch and patch[1] else None,
                    seconds=round(time.monotonic() - started, 3),
                ),
            )
        return committed

    async def _race(self, deployment: Deployment, content: Content, new: New) -> tuple[Committed | None, _Patch | None]:
        """Try to commit once, after what is the newest deploy in the store now; return the result, and the patch to it.

        If the race for the sequence was lost, there is no result, and only the bundle was stored.
        """
        attempt = Attempt()
        try:
            if await deployment.refresh_records():
                raise self._deployments.deleted_elsewhere(deployment.name)
            refuse_closed(deployment, new.request, new.now)
            await deployment.refresh()
            last, versions = last_of(deployment, new.request.under)
            head = Head(
                deployment.name,
                deployment.current,
                is_newest=deployment.fault is None,
                highest=deployment.highest,
                sha256=deployment.head_sha256,
                last=last,
                versions=versions,
                own=own_newest(deployment, new.request.actor, new.now, new.request.under),
            )
            committed, patch = await asyncio.to_thread(self._write, deployment, head, content, new, attempt)
        except StoreError as error:
            # Only the store knows whether the entry exists. Until it answers, the deploy in memory is not reported as
            # current.
            if attempt.began:
                deployment.doubt(error)
            with contextlib.suppress(StoreError):
                await deployment.refresh()
            self._deployments.retry(deployment)
            raise
        if committed and committed.unchanged and not new.request.dry_run:
            deployment.note_lost_bundle("")  # it was stored anew
        return committed, patch

    # --- in a thread -------------------------------------------------------------------------------------------------

    def _write(
        self, deployment: Deployment, head: Head, content: Content, new: New, attempt: Attempt
    ) -> tuple[Committed | None, _Patch | None]:
        """Judge the content, then store bundle, details and entry, in this order.

        Retention may run at the same time: the bundle is stored, or found, before the entry names it. It is not deleted
        in between, because a commit holds ``store.committing``. On a store that cannot prevent deletions, each attempt
        checks again that the bundle exists.
        """
        request, started = new.request, _Elapsed()
        with self._store.committing(head.deployment), ExitStack() as stack:
            old = self._open_current(stack, head, content.known)
            head = head._replace(bundle=old)
            if head.current is not None and head.is_newest and content.is_current(head):
                return self._unchanged(head, head.current, content, request), None
            check_match(head, request)
            tree = stack.enter_context(content.tree(head))
            manifest = tree.manifest
            warnings = self._judged(deployment, tree, old, request)
            if self._imports:
                found = self._imports.judge(deployment, manifest.digest, request)
                if found is None:
                    # Retention sees the candidate before it could delete the bundle, as with an entry.
                    self._store_bundle(head, tree)
                    candidate = self._imports.add(deployment, manifest.digest, request)
                    return self._unchecked(head, content, tree, candidate), None
                warnings += found
            repeated = repeated_warnings(
                head, content.digest(), lambda own: self._digest_below(head, own, request.under)
            )
            changes = manifest.changes_from(old.manifest if old else EMPTY)
            committed = Committed(
                None, manifest.digest, len(manifest.files), changes, [*repeated, *tree.warnings, *warnings]
            )
            if request.dry_run:
                return committed, None
            self._store_bundle(head, tree)
            try:
                patch = self._patch(head.deployment, old, manifest, changes) if old else None
            except BundleGone as error:
                # It was there a moment ago. The next attempt looks for it again.
                log_failure("A bundle was deleted before it had a deploy", error, deployment=head.deployment)
                return None, None
            if patch:
                self._share(patch)
            stack.close()  # the old bundle's memory and file, before the entry is written
            if started.seconds() > MAX_COMMIT_SECONDS:
                raise StoreAway(f"The commit took longer than {MAX_COMMIT_SECONDS:.0f} s; its bundle may be deleted.")
            flags = [*request.flags, *([REPEATED] if repeated else [])]
            deploy = self._append(head, committed, flags, new, attempt)
            if (
                deploy
                and started.seconds() > MAX_COMMIT_SECONDS
                and not self._store.has_bundle(head.deployment, deploy.digest)
            ):
                # This server was paused before the entry existed. The same content again brings the bundle back.
                raise StoreAway(f"Deploy {deploy.sequence} was made too late: its bundle was deleted. Deploy it again.")
            return (committed._replace(deploy=deploy), patch) if deploy else (None, None)

    def _unchecked(self, head: Head, content: Content, tree: Tree, candidate: Candidate) -> Committed:
        digest = tree.manifest.digest
        again = content.again(self._store, head.deployment, digest, tree.warnings)
        return Committed(None, digest, len(tree.manifest.files), unchecked=Uncommitted(candidate, again))

    def _unchanged(self, head: Head, current: Deploy, content: Content, request: DeployRequest) -> Committed:
        """Return the result for content that is current already; bring back its bundle if that was lost."""
        with content.tree(head) as tree:
            if not request.dry_run:
                self._store_bundle(head, tree)
        return Committed(None, current.digest, len(tree.manifest.files), warnings=list(tree.warnings), unchanged=True)

    def _digest_below(self, head: Head, deploy: Deploy, under: str) -> str:
        """Return the digest of what a deploy has below ``under``; empty if its bundle cannot be read."""
        if not under:
            return deploy.digest
        try:
            with open_bundle(self._store, head.deployment, deploy.digest) as bundle:
                return subtree(bundle.manifest, under).digest
        except (BundleGone, StoreDamaged, StoreAway):  # it is only for a warning
            return ""

    def _judged(self, deployment: Deployment, tree: Tree, old: BundleFile | None, request: DeployRequest) -> list[str]:
        if self._judge is None:
            return []
        return self._judge(deployment, tree, tree_of(old, "The bundle of the current deploy") if old else None, request)

    def _open_current(self, stack: ExitStack, head: Head, new: Manifest | None) -> BundleFile | None:
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

    def _store_bundle(self, head: Head, tree: Tree) -> None:
        """Store the bundle of a tree, unless an intact one is stored."""
        if not self._has_intact_bundle(head.deployment, tree):
            put_bundle(self._store, head.deployment, tree, head.bundle)
        for bundle in (head.bundle, *tree.bundles):
            if bundle:
                bundle.forget_sources()

    def _has_intact_bundle(self, deployment: str, tree: Tree) -> bool:
        digest = tree.manifest.digest
        if not self._store.keeps_bundle(deployment, digest):
            return False
        if tree.stored_in == deployment:
            return True
        try:
            with open_bundle(self._store, deployment, digest, tree.manifest) as bundle:
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

    def _share(self, patch: _Patch) -> None:
        """Store the patch for other servers, before they learn that there is a new deploy; it is not essential."""
        key, data = patch
        try:
            self._store.put_patch(key.deployment, key.old, key.new, data or NO_PATCH)
        except StoreError as error:
            log_failure("A patch could not be stored for other servers", error, deployment=key.deployment)

    def _append(self, head: Head, committed: Committed, flags: list[str], new: New, attempt: Attempt) -> Deploy | None:
        """Add the entry that names a stored bundle, and return it; ``None`` if another one has its sequence.

        This part of a commit is the same for every kind of deploy.
        """
        request, changes = new.request, committed.changes
        details = DeployDetails([*new.warnings, *committed.warnings], new.excluded, *changes).encode()
        try:
            deploy = next_deploy(
                head.current,
                head.highest,
                digest=committed.digest,
                kind=request.kind,
                description=request.description,
                actor=request.actor,
                now=new.now,
                changes=changes,
                nonce=new.nonce,
                previous=head.sha256,
                details=hashlib.sha256(details).hexdigest(),
                git=request.git,
                under=request.under,
                flags=flags,
                source=request.source,
            )
        except OverflowError as error:
            raise StoreDamaged(f"The deploy log of {head.deployment} is full: {error}.") from error
        return deploy if create_entry(self._store, head.deployment, deploy, details, attempt) else None
