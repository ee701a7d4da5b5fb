"""Patches between two stored bundles: each is made once, however many ask for it, and kept for those who come later."""

import asyncio
from typing import NamedTuple

from dagferry_core.bundle import BundleFile
from dagferry_core.errors import BundleGone, StoreFailed
from dagferry_core.graph import touched
from dagferry_core.imports import ANYTHING
from dagferry_core.limits import MIB
from dagferry_core.patch import MAX_PATCH_BYTES, make_patch
from dagferry_server.bundles import opened
from dagferry_server.failures import log_failure
from dagferry_server.store.base import Store

MAX_KEPT_BYTES = 16 * MIB
MAX_KEPT_PATCHES = 1000
"""How much is kept for those who come later; the least recently used goes first."""
MAX_MAKING = 2
"""How many patches are made at the same time."""


class Key(NamedTuple):
    """A patch: from the bundle ``old`` of a deployment to the bundle ``new``, by their digests."""

    deployment: str
    old: str
    new: str


def patch_between(old: BundleFile, new: BundleFile) -> bytes | None:
    """Return the patch from ``old`` to ``new``, or ``None`` if the whole bundle serves better."""
    reads = dict.fromkeys(new.imports, (ANYTHING,)) if new.reads is None else new.reads
    return make_patch(old, new, touched(old.manifest, new.manifest, new.imports, reads), MAX_PATCH_BYTES)


class Patches:
    """The patches that were made. ``None`` stands for one that is of no use: the whole bundle is to be sent."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[Key, bytes | None] = {}
        self._kept_bytes = 0
        self._making: dict[Key, asyncio.Task[bytes | None]] = {}
        self._slots = asyncio.Semaphore(MAX_MAKING)

    async def get(self, key: Key) -> bytes | None:
        """Return a patch; who asks while it is being made waits for the same one."""
        if key in self._kept:
            patch = self._kept[key] = self._kept.pop(key)
            return patch
        task = self._making.get(key)
        if task is None:
            task = self._making[key] = asyncio.create_task(self._make(key))
        # Whoever asked first may go away; the others still want it.
        return await asyncio.shield(task)

    def keep(self, key: Key, patch: bytes | None) -> None:
        """Keep a patch for those who will ask."""
        self._kept_bytes -= len(self._kept.pop(key, None) or b"")
        self._kept[key] = patch
        self._kept_bytes += len(patch or b"")
        while self._kept_bytes > MAX_KEPT_BYTES or len(self._kept) > MAX_KEPT_PATCHES:
            self._kept_bytes -= len(self._kept.pop(next(iter(self._kept))) or b"")

    async def _make(self, key: Key) -> bytes | None:
        try:
            async with self._slots:
                patch = await asyncio.to_thread(self._make_now, key)
            self.keep(key, patch)
        finally:
            del self._making[key]
        return patch

    def _make_now(self, key: Key) -> bytes | None:
        try:
            with (
                opened(self._store, key.deployment, key.old) as old,
                opened(self._store, key.deployment, key.new) as new,
            ):
                return patch_between(old, new)
        except BundleGone:
            return None
        except StoreFailed as error:
            log_failure("A patch could not be made; the whole bundle is sent", error, **key._asdict())
            return None
