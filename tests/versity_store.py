"""A store in a bucket of a versitygw, which runs for one test: ``DAGFERRY_TEST_STORES=versity_store:versitygw``."""

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness import eventually, free_port
from stores import StoreUnderTest

if TYPE_CHECKING:
    from dagferry_server.store.object_store import ObjectStore
    from dagferry_server.store.objects import Objects

KEY, SECRET, BUCKET = "testkey", "testsecret12", "dagferry"


class Versitygw(StoreUnderTest):
    """A gateway with its bucket ``dagferry`` in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.program = os.environ.get("VERSITYGW", "")
        if not self.program:
            pytest.skip("VERSITYGW does not name the program.")
        self.folder = folder
        self.bucket = folder / "gateway" / BUCKET
        self.bucket.mkdir(parents=True)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self.program, "--port", f"127.0.0.1:{self.port}", "--quiet", "posix", str(self.bucket.parent)],
            env={"ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET},
            stdout=subprocess.DEVNULL,
        )
        eventually("the gateway", self._answers)

    def _answers(self) -> bool:
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __del__(self) -> None:
        self.stop()

    def objects(self) -> "Objects":
        from dagferry_server.store.objects import Objects

        config = {
            "endpoint": f"http://127.0.0.1:{self.port}",
            "access_key_id": KEY,
            "secret_access_key": SECRET,
            "region": "us-east-1",
        }
        return Objects("s3", BUCKET, "pre/fix", config, {"allow_http": True})

    def open(self, pause_seconds: float = 0, max_cache_bytes: int = 1 << 30) -> "ObjectStore":
        from dagferry_server.store.bundle_cache import BundleCache
        from dagferry_server.store.object_store import ObjectStore

        cache = BundleCache(tempfile.mkdtemp(prefix="cache-", dir=self.folder), max_cache_bytes)
        store = ObjectStore(self.objects(), cache, pause_seconds)
        store.probed = True
        return store

    @contextmanager
    def away(self) -> Iterator[None]:
        self.stop()
        try:
            yield
        finally:
            self.start()

    def add_foreign(self) -> None:
        objects = self.objects()
        for key in ("notes.txt", "notes", "Not A Deployment/deploys/000000000001.json", "empty/notes", "-/log.json"):
            objects.put(key, b"foreign")

    def damage_log_id(self, deployment: str) -> None:
        self.objects().put(f"{deployment}/log.json", b"\xff")


def versitygw(folder: Path) -> Versitygw:
    return Versitygw(folder)
