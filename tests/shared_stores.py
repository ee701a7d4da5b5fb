"""Stores that several servers use at once: on a folder, in every run of the tests, and in a bucket, if there is one."""

import os
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from dagferry_server.errors import StoreAway
from dagferry_server.store.base import Store
from dagferry_server.store.local import LocalStore
from object_stores import SERVICES
from stores import LocalUnderTest, ObjectStoreUnderTest, StoreUnderTest

PARAMETERS = ["folder", pytest.param("versitygw", marks=pytest.mark.slow)]
CHANGED = ".changed"
MAX_HANG_SECONDS = 60
_PREPARING = threading.Lock()
_CACHED = {"open_bundle"}
"""What an object store has on the server's own disk."""
_LOCAL = {"committing", "deleting", "capacity_bytes"}
_METHODS = {*Store.__abstractmethods__, "read_entries", "keeps_bundle", "new_log_id"} - _LOCAL


class SharedLocalStore(LocalStore):
    """The local store, on a folder that several servers share as they would share a bucket.

    ``calls`` counts what was asked for. While it is ``away`` it answers nothing, and while it ``hangs`` it answers
    later; bundles are then read from a cache. ``failing`` are sequences of entries that cannot be read.
    """

    shared = True

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self._changed = os.path.join(root, CHANGED)
        self.calls: Counter[str] = Counter()
        self.away = False
        self.failing: set[int] = set()
        self.goes_on = threading.Event()
        self.goes_on.set()

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        return self._guarded(name, found) if name in _METHODS else found

    def _guarded(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls[name] += 1
            if name not in _CACHED:
                self.goes_on.wait(MAX_HANG_SECONDS)
                if self.away:
                    raise StoreAway("The bucket does not answer.")
            return method(*arguments, **options)

        return call

    def _read(self, deployment: str, sequence: int) -> bytes:
        if sequence in self.failing:
            raise StoreAway("503 Slow Down")
        return super()._read(deployment, sequence)

    def prepare(self, deployment: str) -> bool:
        # What looks like the rest of an earlier run may be the work of another server.
        with _PREPARING:
            return not os.path.exists(self._id(deployment)) and super().prepare(deployment)

    def _tell(self) -> None:
        draft = f"{self._changed}.{secrets.token_hex(8)}"
        Path(draft).write_text(secrets.token_hex(8))
        os.replace(draft, self._changed)

    def state_tag(self) -> str:
        try:
            return Path(self._changed).read_text()
        except FileNotFoundError:
            return ""

    def write_log_id(self, deployment: str, log_id: str) -> None:
        super().write_log_id(deployment, log_id)
        self._tell()

    def write_state(self, deployment: str, key: str, data: bytes) -> None:
        super().write_state(deployment, key, data)
        self._tell()

    def delete_state(self, deployment: str, key: str) -> None:
        super().delete_state(deployment, key)
        self._tell()


class SharedFolder(LocalUnderTest):
    """A folder; each call of ``open`` opens it for another server."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.opened: list[SharedLocalStore] = []

    def open(self) -> SharedLocalStore:
        store = SharedLocalStore(str(self._root))
        self.opened.append(store)
        return store

    @contextmanager
    def away(self) -> Iterator[None]:
        for store in self.opened:
            store.away = True
        try:
            yield
        finally:
            for store in self.opened:
                store.away = False

    def close(self) -> None:
        for store in self.opened:
            store.away = False
            store.goes_on.set()


def shared_store(name: str, folder: Path) -> StoreUnderTest:
    """Return the shared store of one name of ``PARAMETERS``, which holds nothing yet."""
    return SharedFolder(folder) if name == "folder" else ObjectStoreUnderTest(SERVICES[name](), folder)


def lose_bundle(under_test: StoreUnderTest, deployment: str, digest: str) -> None:
    """Delete a bundle behind the servers' back, as a lifecycle rule of a bucket does."""
    if isinstance(under_test, ObjectStoreUnderTest):
        objects = under_test.objects()
        for meta in objects.list(f"{deployment}/bundles/{digest.removeprefix('sha256:')}"):
            objects.delete(meta.key)
    else:
        store = under_test.open()
        with suppress(FileNotFoundError):
            store.delete_bundle(deployment, digest)
