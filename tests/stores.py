"""The stores that the tests of the contract run for: those that ``DAGFERRY_TEST_STORES`` names, with commas in between.

``local``, the default, is the store on a local disk. ``module:factory`` is any other: ``factory(folder)`` is called for
each test with an empty folder of its own, and returns a ``StoreUnderTest`` that holds nothing yet. If there is no such
module, the tests are skipped; so they are if the factory calls ``pytest.skip``, because its back end does not run.
"""

import importlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from dagferry_server.store.base import Store
from dagferry_server.store.local import LocalStore

NAMES = tuple(os.environ.get("DAGFERRY_TEST_STORES", "local").split(","))


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


class LocalUnderTest(StoreUnderTest):
    """A ``LocalStore`` in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._root = folder / "store"
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


def store_under_test(name: str, folder: Path) -> StoreUnderTest:
    """Return the store of one name of ``DAGFERRY_TEST_STORES``."""
    if name == "local":
        return LocalUnderTest(folder)
    module, _, factory = name.partition(":")
    if not factory:
        raise pytest.UsageError(f"DAGFERRY_TEST_STORES: {name!r} is neither local nor module:factory.")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        pytest.skip(f"DAGFERRY_TEST_STORES: {name} cannot be imported: {error}")
    return getattr(found, factory)(folder)
