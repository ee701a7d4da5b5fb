"""A store that several servers share, in memory: what the contract says of one, object by object.

A ``Bucket`` holds objects under names, with the time of its own clock, as object stores do. Each of its operations
calls ``before`` first: a test pauses a server there, or lets the operation fail. ``SharedStore`` is one server's view.
"""

import os
import secrets
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from dagferry_core.deploylog import is_nonce
from dagferry_core.names import MAX_SEQUENCE, check_deployment, is_deployment, is_digest
from dagferry_server.errors import BundleGone, DeploymentNotFound, StoreAway, StoreDamaged
from dagferry_server.store.base import (
    DELETION_PAUSE_SECONDS,
    LOG_ID_BYTES,
    MAX_STATE_BYTES,
    BundleSource,
    Store,
    check_state_key,
)
from stores import StoreUnderTest

DAY = 86400.0


class Object(NamedTuple):
    data: bytes
    modified: float


class Bucket:
    """Objects by name. ``now`` is its clock, in seconds; ``before`` is called with each operation and its name."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.now = 1_000_000.0
        self.before: Callable[[str, str], None] = lambda _operation, _name: None
        self.asked: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def _begin(self, operation: str, name: str) -> None:
        self.before(operation, name)
        self.asked[operation, name] += 1

    def create(self, name: str, data: bytes) -> bool:
        self._begin("create", name)
        with self._lock:
            if name in self.objects:
                return self.objects[name].data == data
            self.objects[name] = Object(data, self.now)
            return True

    def put(self, name: str, data: bytes) -> None:
        self._begin("put", name)
        with self._lock:
            self.objects[name] = Object(data, self.now)

    def get(self, name: str) -> bytes | None:
        self._begin("get", name)
        found = self.objects.get(name)
        return None if found is None else found.data

    def list(self, prefix: str) -> dict[str, Object]:
        self._begin("list", prefix)
        with self._lock:
            return {name: found for name, found in sorted(self.objects.items()) if name.startswith(prefix)}

    def delete(self, name: str) -> None:
        self._begin("delete", name)
        with self._lock:
            self.objects.pop(name, None)


class MemoryBundle(BundleSource):
    """A bundle in a file without a name."""

    file: FileIO

    def __init__(self, data: bytes, encoded_index: bytes) -> None:
        super().__init__(len(data), encoded_index)
        number = os.memfd_create("bundle")
        os.write(number, data)
        self.file = FileIO(number, "rb")

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self.file.fileno(), min(size, self.size - offset), offset) if offset < self.size else b""

    def close(self) -> None:
        self.file.close()


class SharedStore(Store):
    """One server's view of ``bucket``."""

    shared = True

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._allowed: dict[tuple[str, str], list[str]] = {}

    def deployments(self) -> list[str]:
        names = {name.partition("/")[0] for name in self._bucket.list("")}
        return sorted(filter(is_deployment, names))

    def prepare(self, deployment: str) -> bool:
        created = self._bucket.create(f"{_checked(deployment)}/log.json", secrets.token_hex(LOG_ID_BYTES).encode())
        return created and not self.sequences(deployment)

    def log_id(self, deployment: str) -> str:
        found = self._bucket.get(f"{_checked(deployment)}/log.json")
        if found is None:
            raise StoreDamaged(f"{deployment} has no log id.")
        if not found.isalnum():
            raise StoreDamaged(f"The log id of {deployment} is damaged.")
        return found.decode()

    def write_log_id(self, deployment: str, log_id: str) -> None:
        self._bucket.put(f"{_checked(deployment)}/log.json", log_id.encode())
        self._changed()

    def sequences(self, deployment: str) -> list[int]:
        names = [name for name in self._bucket.list(f"{_checked(deployment)}/deploys/") if name.endswith(".json")]
        return sorted(int(name[-17:-5]) for name in names)

    def read_entry(self, deployment: str, sequence: int) -> bytes:
        found = self._bucket.get(_entry(deployment, sequence))
        if found is None:
            raise StoreDamaged(f"{deployment} has no entry {sequence}.")
        return found

    def newer(self, deployment: str, after: int) -> list[bytes]:
        found: list[bytes] = []
        while after + len(found) < MAX_SEQUENCE:
            data = self._bucket.get(_entry(deployment, after + len(found) + 1))
            if data is None:
                break
            found.append(data)
        return found

    def create_entry(self, deployment: str, sequence: int, data: bytes) -> bool:
        return self._bucket.create(_entry(deployment, sequence), data)

    def put_details(self, deployment: str, sequence: int, nonce: str, data: bytes) -> None:
        self._bucket.put(_details(deployment, sequence, nonce), data)

    def read_details(self, deployment: str, sequence: int, nonce: str) -> bytes:
        found = self._bucket.get(_details(deployment, sequence, nonce))
        if found is None:
            raise StoreDamaged("There are no details.")
        return found

    def delete_details(self, deployment: str, sequence: int, nonce: str) -> None:
        self._bucket.delete(_details(deployment, sequence, nonce))

    def bundles(self, deployment: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for (digest, nonce), parts in self._parts(f"{_checked(deployment)}/bundles/").items():
            if nonce and _is_complete(parts):
                size = sum(len(parts[kind].data) for kind in ("tar.zst", "index"))
                found[f"sha256:{digest}"] = found.get(f"sha256:{digest}", 0) + size
        return found

    def has_bundle(self, deployment: str, digest: str) -> bool:
        return any(map(_is_complete, self._parts(_bundle(deployment, digest)).values()))

    def keeps_bundle(self, deployment: str, digest: str) -> bool:
        parts = self._parts(_bundle(deployment, digest)).values()
        return any(_is_complete(each) and "doomed" not in each for each in parts)

    def put_bundle(self, deployment: str, digest: str, write: Callable[[BinaryIO], bytes]) -> None:
        stem = _bundle(deployment, digest) + secrets.token_hex(8)
        with tempfile.TemporaryFile() as file:
            encoded = write(file)
            file.seek(0)
            data = file.read()
        self._bucket.put(f"{stem}.tar.zst", data)
        self._bucket.put(f"{stem}.index", b"%d\n" % len(data) + encoded)

    def open_bundle(self, deployment: str, digest: str) -> BundleSource:
        for (_, nonce), parts in self._parts(_bundle(deployment, digest)).items():
            if _is_complete(parts):
                stem = _bundle(deployment, digest) + nonce
                index, data = self._bucket.get(f"{stem}.index"), self._bucket.get(f"{stem}.tar.zst")
                if index is not None and data is not None:
                    return MemoryBundle(data, index.partition(b"\n")[2])
        raise BundleGone(f"The bundle {digest} of {deployment} is no longer stored.")

    def may_delete(self, deployment: str, digests: Collection[str]) -> set[str]:
        folder = f"{_checked(deployment)}/bundles/"
        probe = f"{deployment}/now/{secrets.token_hex(8)}"
        self._bucket.put(probe, b"")
        now = self._bucket.list(probe)[probe].modified
        self._bucket.delete(probe)
        found = self._parts(folder)
        allowed: dict[str, list[str]] = {digest: [] for digest in digests}
        waiting: set[str] = set()
        for (digest, nonce), parts in found.items():
            name, stem = f"sha256:{digest}", f"{folder}{digest}/{nonce}"
            if "index" not in parts:
                self._remove_rest(stem, parts, now)
            elif name in allowed and "doomed" not in parts:
                waiting.add(name)
                if parts["index"].modified <= now - DELETION_PAUSE_SECONDS:
                    self._bucket.put(f"{stem}.doomed", b"")
            elif name in allowed and parts["doomed"].modified > now - DELETION_PAUSE_SECONDS:
                waiting.add(name)
            elif name in allowed:
                allowed[name].append(stem)
        for digest in allowed.keys() - waiting:
            # These, and not what has become as old since.
            self._allowed[deployment, digest] = allowed[digest]
        return allowed.keys() - waiting

    def _remove_rest(self, stem: str, parts: dict[str, Object], now: float) -> None:
        if max(part.modified for part in parts.values()) <= now - DAY:
            for kind in parts:
                self._bucket.delete(f"{stem}.{kind}")

    def delete_bundle(self, deployment: str, digest: str) -> None:
        _bundle(deployment, digest)
        for stem in self._allowed.pop((deployment, digest), []):
            for kind in ("index", "tar.zst", "doomed"):
                self._bucket.delete(f"{stem}.{kind}")

    def put_patch(self, deployment: str, old: str, new: str, data: bytes) -> None:
        self._bucket.put(f"{_patch(deployment, old, new)}{secrets.token_hex(8)}", data)

    def read_patch(self, deployment: str, old: str, new: str) -> bytes | None:
        for name in self._bucket.list(_patch(deployment, old, new)):
            return self._bucket.get(name)
        return None

    def read_state(self, deployment: str, key: str) -> bytes | None:
        return self._bucket.get(f"{_checked(deployment)}/{check_state_key(key)}.state")

    def write_state(self, deployment: str, key: str, data: bytes) -> None:
        if len(data) > MAX_STATE_BYTES:
            raise ValueError("it is too large")
        self._bucket.put(f"{_checked(deployment)}/{check_state_key(key)}.state", data)
        self._changed()

    def delete_state(self, deployment: str, key: str) -> None:
        self._bucket.delete(f"{_checked(deployment)}/{check_state_key(key)}.state")
        self._changed()

    def state_tag(self) -> str:
        return (self._bucket.get(".dagferry/changed") or b"").decode()

    def _changed(self) -> None:
        self._bucket.put(".dagferry/changed", secrets.token_hex(8).encode())

    @contextmanager
    def committing(self, deployment: str) -> Iterator[None]:
        _checked(deployment)
        yield

    @contextmanager
    def deleting(self, deployment: str) -> Iterator[bool]:
        _checked(deployment)
        yield True

    def capacity_bytes(self) -> None:
        return None

    def check_writable(self) -> None:
        self._bucket.create(".dagferry/probe", b"")

    def _parts(self, prefix: str) -> dict[tuple[str, str], dict[str, Object]]:
        """Return the objects below ``prefix`` by the hex of their digest and their nonce, and then by their kind."""
        found: dict[tuple[str, str], dict[str, Object]] = {}
        for name, one in self._bucket.list(prefix).items():
            _, _, digest, last = name.split("/")
            nonce, _, kind = last.partition(".")
            found.setdefault((digest, nonce), {})[kind] = one
        return found


class SharedUnderTest(StoreUnderTest):
    """A ``SharedStore`` for the tests of the contract: ``DAGFERRY_TEST_STORES=sharedstore:SharedUnderTest``."""

    def __init__(self, _folder: Path) -> None:
        self._bucket = Bucket()

    def open(self) -> Store:
        return SharedStore(self._bucket)

    @contextmanager
    def away(self) -> Iterator[None]:
        def fail(operation: str, name: str) -> None:
            raise StoreAway(f"The bucket does not answer to {operation} {name}.")

        self._bucket.before = fail
        yield
        self._bucket.before = lambda *_: None

    def add_foreign(self) -> None:
        for name in ("notes.txt", "Not A Deployment/deploys/000000000001.json", ".dagferry/changed"):
            self._bucket.put(name, b"")

    def damage_log_id(self, deployment: str) -> None:
        self._bucket.put(f"{deployment}/log.json", b"\xff")


def _is_complete(parts: dict[str, Object]) -> bool:
    if not parts.keys() >= {"index", "tar.zst"}:
        return False
    return int(parts["index"].data.partition(b"\n")[0]) == len(parts["tar.zst"].data)


def _checked(deployment: str) -> str:
    try:
        return check_deployment(deployment)
    except ValueError as error:
        raise DeploymentNotFound(f"{error}.") from error


def _entry(deployment: str, sequence: int) -> str:
    if not 1 <= sequence <= MAX_SEQUENCE:
        raise ValueError(f"{sequence} is not the sequence of a deploy")
    return f"{_checked(deployment)}/deploys/{sequence:012d}.json"


def _details(deployment: str, sequence: int, nonce: str) -> str:
    if not is_nonce(nonce):
        raise ValueError(f"{nonce[:40]!r} is not the nonce of a deploy")
    return f"{_entry(deployment, sequence).removesuffix('.json')}.{nonce}.details"


def _hex(digest: str) -> str:
    if not is_digest(digest):
        raise ValueError(f"{digest[:80]!r} is not a digest")
    return digest.removeprefix("sha256:")


def _bundle(deployment: str, digest: str) -> str:
    return f"{_checked(deployment)}/bundles/{_hex(digest)}/"


def _patch(deployment: str, old: str, new: str) -> str:
    return f"{_checked(deployment)}/patches/{_hex(old)}-{_hex(new)}/"
