"""The stores that the tests of the contract run for: those that ``DAGFERRY_TEST_STORES`` names, with commas in between.

``local`` is the store on a local disk, and the names in ``object_stores.SERVICES`` are buckets of real object stores;
``DEFAULT`` has those that are tested where they are installed. ``module:factory`` is any other: ``factory(folder)`` is
called for each test with an empty folder of its own, and returns a ``StoreUnderTest`` that holds nothing yet. If there
is no such module, the tests are skipped; so they are if the factory calls ``pytest.skip``.
"""

import importlib
import itertools
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from dagferry_server.store.base import Store
from dagferry_server.store.local import LocalStore
from faulty_store import FaultyStore
from object_stores import BUCKET, SERVICES, Service

DEFAULT = "local,versitygw,versitygw-versioned,azurite"
REFUSED = "s3mock"
"""May be named too: a store that no server may use."""
NAMES = tuple(os.environ.get("DAGFERRY_TEST_STORES", DEFAULT).split(","))
PARAMETERS = [
    pytest.param(name, marks=[pytest.mark.slow] if name != "local" else []) for name in NAMES if name != REFUSED
]
"""The names as parameters of a fixture: those that start a process are slow."""
MAX_CACHE_BYTES = 1 << 30
_NUMBERS = itertools.count(1)


class StoreUnderTest(ABC):
    """A store, with what the tests do to its storage behind its back."""

    @abstractmethod
    def open(self) -> Store:
        """Open the store; another call opens the same one again, as another server does."""

    @abstractmethod
    def away(self) -> AbstractContextManager[None]:
        """Let the storage answer nothing, for the time of the block."""

    @abstractmethod
    def add_foreign(self) -> None:
        """Put into the storage what is not a deployment: beside the deployments, in place of one, and in a folder."""

    @abstractmethod
    def damage_log_id(self, deployment: str) -> None:
        """Overwrite a stored log id with bytes that do not decode."""

    def close(self) -> None:  # noqa: B027 - not every store holds something
        """Release what it holds; its stores are not used again."""


class LocalUnderTest(StoreUnderTest):
    """A ``LocalStore`` in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = self._root = folder / "store"
        self._root.mkdir()

    def open(self) -> Store:
        return LocalStore(str(self._root))

    @contextmanager
    def away(self) -> Iterator[None]:
        # Below a plain file, every call of the system fails, and none with "No such file or directory".
        aside = self._root.rename(self._root.with_name("aside"))
        self._root.touch()
        try:
            yield
        finally:
            self._root.unlink()
            aside.rename(self._root)

    def add_foreign(self) -> None:
        (self._root / "notes.txt").touch()
        (self._root / "notes").touch()
        (self._root / "Not A Deployment" / "deploys").mkdir(parents=True)
        (self._root / "empty").mkdir()
        (self._root / "dangling").symlink_to("nowhere")

    def damage_log_id(self, deployment: str) -> None:
        (self._root / deployment / "log.json").write_bytes(b"\xff")


class ObjectStoreUnderTest(StoreUnderTest):
    """An empty prefix in the bucket of a service.

    ``proxies`` has one proxy for each of its endpoints; each call of ``open`` uses the next one.
    """

    def __init__(self, service: Service, folder: Path) -> None:
        self.service = service
        self.folder = folder
        self.prefix = f"test-{os.getpid()}/{next(_NUMBERS)}"
        self.url = f"{service.scheme}://{BUCKET}/{self.prefix}"
        self.proxies = [FaultyStore(port, service.segments, service.sign) for port in service.ports]
        self._next = itertools.cycle(self.proxies)

    def variables(self, proxy: FaultyStore | None = None) -> dict[str, str]:
        """The environment of a server that uses the store through a proxy, or past all of them."""
        return self.service.variables(proxy.port if proxy else self.service.ports[0])

    def open(self, proxy: FaultyStore | None = None) -> Store:
        """Open the store through a proxy, with an empty cache, and without the pause before a deletion."""
        store: Any = self._opened(self.variables(proxy or next(self._next, None)))
        store.probed = True
        store._pause = 0.0
        return store

    def _opened(self, variables: Mapping[str, str]) -> Store:
        from dagferry_server.store.address import open_store, parse_store

        data = tempfile.mkdtemp(prefix="data-", dir=self.folder)
        with environment(variables):
            return open_store(parse_store(self.url), data, MAX_CACHE_BYTES, os.environ)

    def objects(self) -> Any:
        """The objects below the prefix, past all proxies."""
        store: Any = self._opened(self.variables())
        return store._objects

    @contextmanager
    def away(self) -> Iterator[None]:
        for proxy in self.proxies:
            proxy.go_away()
        try:
            yield
        finally:
            for proxy in self.proxies:
                proxy.away = False

    def add_foreign(self) -> None:
        for key in ("notes.txt", "notes", "Not A Deployment/deploys/000000000001.json", "empty/notes", "-/log.json"):
            self.objects().put(key, b"foreign")

    def damage_log_id(self, deployment: str) -> None:
        self.objects().put(f"{deployment}/log.json", b"\xff")

    def close(self) -> None:
        for proxy in self.proxies:
            proxy.close()


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Let these variables be the only ones of the environment that a cloud's tools have."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("AWS_", "AZURE_", "GOOGLE_")):
                patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


def store_under_test(name: str, folder: Path) -> StoreUnderTest:
    """Return the store of one name of ``DAGFERRY_TEST_STORES``."""
    if name == "local":
        return LocalUnderTest(folder)
    if name in SERVICES:
        return ObjectStoreUnderTest(SERVICES[name](), folder)
    module, _, factory = name.partition(":")
    if not factory:
        raise pytest.UsageError(f"DAGFERRY_TEST_STORES: {name!r} is neither local nor module:factory.")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        pytest.skip(f"DAGFERRY_TEST_STORES: {name} cannot be imported: {error}")
    return getattr(found, factory)(folder)
