"""Patches between two stored bundles: each is made once, however many requests there are, and cached for later ones.

No deployment can slow down the patches of another. They are made in threads of their own, one at a time for each
deployment, and the deployments take turns. A request that would wait too long gets the whole bundle instead. If the
cache is full, the deployment that takes most of it loses its oldest patches first; patches that were requested go
before those that the server made because every sidecar is about to request them.

Where several servers share the store, the one that commits stores its patch there, before the entry. The others read it
when sidecars request it, instead of two bundles.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from dagferry_core.bundle.patch import MAX_PATCH_BYTES, Patch, make_patch, worth_a_patch
from dagferry_core.bundle.reader import BundleFile
from dagferry_core.errors import FormatError
from dagferry_core.limits import MIB
from dagferry_core.source.graph import touched
from dagferry_core.source.scan import ANYTHING
from dagferry_runtime.logs import log_failure
from dagferry_server.deploys.bundles import open_bundle
from dagferry_server.errors import BundleGone, StoreAway, StoreDamaged, StoreError
from dagferry_server.memory import Turn, TurnTaken
from dagferry_server.store.base import Store, decoding

MAX_KEPT_BYTES = 16 * MIB
"""The size of the cache."""
ENTRY_BYTES = 16 * 1024
"""What a cached patch counts for beside its own bytes, so that there are never more than a thousand."""
MAX_MAKING = 2
"""How many patches are made at the same time; one for each deployment."""
MAX_QUEUED = 50
"""How many patches of one deployment may wait to be made; a request for one more gets the whole bundle at once."""
LATE_SECONDS = 5
"""How long a request waits for a patch. A sidecar gives up after 20 s without a response."""

TURN_SECONDS = 60
"""How long a patch of a large bundle waits for its turn to be made (see ``dagferry_server.memory``)."""


NO_PATCH = b""
"""What is stored for other servers in place of a patch that is of no use."""


class Key(NamedTuple):
    """A patch: from the bundle ``old`` of a deployment to the bundle ``new``, by their digests.

    ``bare``: without contents, for a sidecar that still has a tree of ``new``.
    """

    deployment: str
    old: str
    new: str
    bare: bool = False


def patch_between(old: BundleFile, new: BundleFile, *, bare: bool = False) -> bytes | None:
    """Return the patch from ``old`` to ``new``, or ``None`` if the whole bundle is better; ``bare`` as in ``Key``."""
    if not worth_a_patch(new.manifest.changes_from(old.manifest)):
        return None
    reads = dict.fromkeys(new.imports, (ANYTHING,)) if new.reads is None else new.reads
    touch = touched(old.manifest, new.manifest, new.imports, reads)
    return make_patch(old, new, touch, MAX_PATCH_BYTES, bare=bare)


class _NotNow(Exception):
    """A patch could not be made, for a reason that may pass: a later request may succeed."""


class _Cache:
    """The cache of patches, within ``MAX_KEPT_BYTES``. ``None`` is cached for a patch that is of no use."""

    def __init__(self) -> None:
        # By deployment and by whether they were made before a request, the least recently used first.
        self._groups: dict[tuple[str, bool], dict[Key, bytes | None]] = {}
        self._bytes: dict[tuple[str, bool], int] = {}

    def find(self, key: Key) -> tuple[bool, bytes | None]:
        """Return whether a patch is kept, and the patch."""
        for announced in (True, False):
            group = self._groups.get((key.deployment, announced), {})
            if key in group:
                patch = group[key] = group.pop(key)
                return True, patch
        return False, None

    def put(self, key: Key, patch: bytes | None, *, announced: bool) -> None:
        for which in (True, False):
            self._drop((key.deployment, which), key)
        name = (key.deployment, announced)
        self._groups.setdefault(name, {})[key] = patch
        self._bytes[name] = self._bytes.get(name, 0) + _counted_bytes(patch)
        while sum(self._bytes.values()) > MAX_KEPT_BYTES:
            fullest = max(self._bytes, key=lambda name: (not name[1], self._bytes[name]))
            self._drop(fullest, next(iter(self._groups[fullest])))

    def _drop(self, name: tuple[str, bool], key: Key) -> None:
        group = self._groups.get(name, {})
        if key in group:
            self._bytes[name] -= _counted_bytes(group.pop(key))
            if not group:
                del self._groups[name], self._bytes[name]


def _counted_bytes(patch: bytes | None) -> int:
    return ENTRY_BYTES + len(patch or b"")


class _Job:
    """A patch to be made: how many requests wait for it, and its result."""

    __slots__ = ("made", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self.made: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()


class Patches:
    """The patches of a server. ``None`` stands for one that is of no use: the whole bundle is sent."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cache = _Cache()
        self._jobs: dict[Key, _Job] = {}
        # The keys that wait, by deployment; the deployment whose turn is next comes first.
        self._queued: dict[str, list[Key]] = {}
        self._making: dict[str, asyncio.Task[None]] = {}
        self._threads = ThreadPoolExecutor(MAX_MAKING, "patch")

    async def get(self, key: Key) -> bytes | None:
        """Return a patch; requests for the same one wait together, up to ``LATE_SECONDS``.

        ``None`` means that the whole bundle is to be sent: the patch is of no use, or would take too long.
        """
        is_kept, patch = self._cache.find(key)
        if is_kept:
            return patch
        job = self._jobs.get(key)
        if job is None:
            if len(self._queued.get(key.deployment, ())) >= MAX_QUEUED:
                return None
            job = self._jobs[key] = _Job()
            self._queued.setdefault(key.deployment, []).append(key)
            self._start()
        job.waiting += 1
        try:
            # The first request may be cancelled; the others still wait.
            return await asyncio.wait_for(asyncio.shield(job.made), LATE_SECONDS)
        except (TimeoutError, asyncio.TimeoutError):
            return None
        finally:
            job.waiting -= 1
            if not job.waiting:
                self._forget(key)

    def keep(self, key: Key, patch: bytes | None) -> None:
        """Cache a patch that every sidecar is about to request."""
        self._cache.put(key, patch, announced=True)

    def close(self) -> None:
        """Make no more patches."""
        self._queued.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> None:
        """Start making the next patches, in the threads that are free."""
        while len(self._making) < MAX_MAKING:
            deployment = next((name for name, keys in self._queued.items() if keys and name not in self._making), None)
            if deployment is None:
                return
            self._making[deployment] = asyncio.create_task(self._make(self._queued[deployment].pop(0)))

    def _forget(self, key: Key) -> None:
        """Drop a patch that no request waits for any longer, unless it is being made."""
        keys = self._queued.get(key.deployment, [])
        if key in keys:
            keys.remove(key)
            del self._jobs[key]
            if not keys:
                del self._queued[key.deployment]

    async def _make(self, key: Key) -> None:
        job = self._jobs[key]
        making = asyncio.get_running_loop().run_in_executor(self._threads, self._make_now, key)
        try:
            await asyncio.wait({making})
            error = making.exception()
            if isinstance(error, _NotNow):
                job.made.set_result(None)
            elif error:
                job.made.set_exception(error)
                job.made.exception()  # no request may be waiting by now, and that is not an error
            else:
                self._cache.put(key, making.result(), announced=False)
                job.made.set_result(making.result())
        finally:
            del self._jobs[key], self._making[key.deployment]
            # It is the turn of the other deployments first.
            if keys := self._queued.pop(key.deployment, None):
                self._queued[key.deployment] = keys
            self._start()

    def _make_now(self, key: Key) -> bytes | None:
        stored = self._stored(key)
        if stored is not None:
            return stored or None
        try:
            with Turn() as turn:
                when_large = partial(turn.take, TURN_SECONDS)
                with (
                    open_bundle(self._store, key.deployment, key.old, when_large=when_large) as old,
                    open_bundle(self._store, key.deployment, key.new, old.manifest, when_large) as new,
                ):
                    return patch_between(old, new, bare=key.bare)
        except BundleGone:
            return None
        except TurnTaken as error:
            raise _NotNow from error
        except (StoreDamaged, StoreAway) as error:
            log_failure("A patch could not be made; the whole bundle is sent", error, **key._asdict())
            if isinstance(error, StoreAway):  # the next request for it may succeed
                raise _NotNow from error
            return None

    def _stored(self, key: Key) -> bytes | None:
        """Return what the server that committed has stored; ``None`` if nothing, ``NO_PATCH`` if none is of use.

        A stored patch may be lost or damaged; the server can make it itself.
        """
        try:
            stored = self._store.read_patch(key.deployment, key.old, key.new)
            if stored is None or stored == NO_PATCH:
                # Where a patch is too large, a bare one may be of use.
                return None if key.bare else stored
            with decoding("A stored patch"):
                patch = Patch.parse(stored)
                if patch.digest != key.new:
                    raise FormatError(f"it leads to {patch.digest}")
            return patch.bare() if key.bare else stored
        except StoreError as error:
            log_failure("A stored patch cannot be read", error, **key._asdict())
            return None
