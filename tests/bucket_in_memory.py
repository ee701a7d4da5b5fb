"""The store in a bucket, over a bucket in memory: it has a clock of its own, and calls a test before each operation.

``Bucket`` stands for ``store.objects.Objects``, which the tests of the store try on real storages. Here a test pauses a
server at any operation, lets one fail, counts them, and lets hours pass.
"""

import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from dagferry_server.errors import StoreAway
from dagferry_server.store.bundle_cache import BundleCache
from dagferry_server.store.object_store import ObjectStore
from dagferry_server.store.objects import Meta
from stores import StoreUnderTest

CACHE_BYTES = 1 << 30
DAY = 86400.0


class Object(NamedTuple):
    data: bytes
    modified: float


class Bucket:
    """Objects by key. ``now`` is its clock, in seconds; ``before`` is called with each operation and its key."""

    url = "memory://bucket"

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.now = 1_000_000.0
        self.before: Callable[[str, str], None] = lambda _operation, _key: None
        self.asked: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def _begin(self, operation: str, key: str) -> None:
        self.before(operation, key)
        with self._lock:
            self.asked[operation, key] += 1

    def create(self, key: str, data: bytes) -> bool:
        self._begin("create", key)
        with self._lock:
            return self.objects.setdefault(key, Object(data, self.now)).data == data

    def put(self, key: str, data: bytes) -> None:
        self._begin("put", key)
        with self._lock:
            self.objects[key] = Object(data, self.now)

    def put_file(self, key: str, file: IO[bytes]) -> None:
        file.seek(0)
        self.put(key, file.read())

    def get(self, key: str, max_bytes: int | None = None, *, large: bool = False) -> bytes | None:  # noqa: ARG002
        self._begin("get", key)
        found = self.objects.get(key)
        return None if found is None else found.data[:max_bytes]

    def get_to_file(self, key: str, file: IO[bytes], size: int) -> bool:
        found = self.get(key)
        if found is None:
            return False
        assert len(found) == size
        os.pwrite(file.fileno(), found, 0)
        return True

    def list(self, folder: str) -> Iterator[Meta]:
        self._begin("list", folder)
        with self._lock:
            found = [Meta(key, len(one.data), one.modified) for key, one in self.objects.items()]
        return iter([meta for meta in found if meta.key.startswith(f"{folder}/")])

    def folders(self) -> Sequence[str]:
        self._begin("list", "")
        with self._lock:
            return sorted({key.partition("/")[0] for key in self.objects if "/" in key})

    def delete(self, key: str) -> None:
        self._begin("delete", key)
        with self._lock:
            self.objects.pop(key, None)


def shared_store(bucket: Bucket, kind: type[ObjectStore] = ObjectStore, **options: Any) -> ObjectStore:
    """One server's view of a bucket, with a cache of its own."""
    objects: Any = bucket
    store = kind(objects, BundleCache(tempfile.mkdtemp(prefix="cache-"), CACHE_BYTES), **options)
    store.probed = True
    return store


class MemoryUnderTest(StoreUnderTest):
    """Such a store for the tests of the contract: ``DAGFERRY_TEST_STORES=bucket_in_memory:MemoryUnderTest``."""

    def __init__(self, _folder: Path) -> None:
        self._bucket = Bucket()

    def open(self) -> ObjectStore:
        return shared_store(self._bucket, pause_seconds=0)

    @contextmanager
    def away(self) -> Iterator[None]:
        def fail(operation: str, key: str) -> None:
            raise StoreAway(f"The bucket does not answer to {operation} {key}.")

        self._bucket.before = fail
        yield
        self._bucket.before = lambda *_: None

    def add_foreign(self) -> None:
        for key in ("notes.txt", "notes", "Not A Deployment/deploys/000000000001.json", "empty/notes", "-/log.json"):
            self._bucket.put(key, b"foreign")

    def damage_log_id(self, deployment: str) -> None:
        self._bucket.put(f"{deployment}/log.json", b"\xff")
