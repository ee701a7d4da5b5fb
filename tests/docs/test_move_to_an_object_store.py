"""The page about moving to an object store is run: no deploy is lost, and no follower notices, there and back."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from credentials import TokensFile
from dagferry_core.deploylog import decode
from dagferry_server.store.local import LocalStore
from harness import PATIENCE_SECONDS, Server, eventually, pack
from pages import DOCS
from stores import ObjectStoreUnderTest, store_under_test

pytestmark = pytest.mark.slow

PAGE = (DOCS / "how-to" / "move-to-an-object-store.md").read_text()
START = re.compile(r"dagferry-server (--.*)\n")


def blocks(title: str) -> list[str]:
    [section] = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return [
        re.sub(r"^   ", "", block, flags=re.MULTILINE) for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    ]


class Deployer(threading.Thread):
    """Deploys without a pause; knows what the server confirmed."""

    def __init__(self, port: int, token: str) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.token = token
        self.confirmed: list[str] = []
        self.refused: set[int] = set()
        self.ends = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.ends.is_set():
            number += 1
            with closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)) as connection:
                body = pack({"dag.py": b"number = %d\n" % number})
                try:
                    connection.request("POST", "/prod/dags/upload", body, {"Authorization": f"Bearer {self.token}"})
                    answer = connection.getresponse()
                    text = answer.read().decode()
                except OSError:  # the server is stopped
                    self.ends.wait(0.02)
                    continue
            if answer.status == 200:
                [version] = re.findall(r'"version":\s*"([^"]+)"', text)
                self.confirmed.append(version)
            else:
                self.refused.add(answer.status)
            self.ends.wait(0.05)


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[ObjectStoreUnderTest]:
    store = store_under_test("versitygw", tmp_path)
    assert isinstance(store, ObjectStoreUnderTest)
    yield store
    store.close()


class Site:
    """A server that is stopped and started as the page says, and whose commands are run with its places."""

    def __init__(self, tmp_path: Path, bucket: ObjectStoreUnderTest, started: list[Any]) -> None:
        self.tokens = TokensFile(tmp_path / "tokens.toml")
        self.deploys = self.tokens.add("ci", ["deploy", "read"])
        self.admin = self.tokens.add("admin", ["admin", "read"])
        self.follows = self.tokens.add("pods", ["sync"])
        self.variables = bucket.variables()
        self._bucket, self._folder, self._started = bucket, tmp_path, started
        self.server = self.start(["--data-dir", str(tmp_path / "data"), *self._flags()])

    def _flags(self) -> list[str]:
        return ["--tokens-file", str(self.tokens.path), "--deployments", "prod"]

    def start(self, flags: list[str]) -> Server:
        data = Path(flags[flags.index("--data-dir") + 1])
        port = self.server.port if hasattr(self, "server") else None
        server = Server(data, *flags, port=port, **self.variables)
        self._started.append(server)
        return server.ready()

    def placed(self, text: str) -> str:
        for word, place in (
            ("/var/lib/dagferry-2", str(self._folder / "data-2")),
            ("/var/lib/dagferry", str(self._folder / "data")),
            ("s3://my-bucket/dagferry", self._bucket.url),
            ("https://dags.example.com", self.server.url),
            ("tokens.toml", str(self.tokens.path)),
        ):
            text = text.replace(word, place)
        return text

    def run(self, block: str) -> str:
        if start := START.fullmatch(block):
            self.server.stop()
            self.server = self.start(self.placed(start[1]).split())
            return ""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.placed(block)],
            env={**os.environ, **self.variables, "PATH": path, "TOKEN": self.admin},
            capture_output=True,
            text=True,
            check=False,
            timeout=4 * PATIENCE_SECONDS,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def test_no_deploy_is_lost_and_no_follower_notices_there_and_back(tmp_path, bucket, started, follow) -> None:
    site = Site(tmp_path, bucket, started)
    (tmp_path / "sync").write_text(site.follows)
    pod = follow(site.server, "pod-0", "--deployment", "prod", "--token-file", str(tmp_path / "sync"))
    deployer = Deployer(site.server.port, site.deploys)
    deployer.start()
    eventually("deploys", lambda: len(deployer.confirmed) > 3)
    there = blocks("From a data folder to a bucket")
    back = blocks("Back to a data folder")
    freeze, lift = there[1], there[-1]
    for block in (*there, "", back[0], freeze, *back[1:], lift, ""):
        if block:
            site.run(block)
        else:
            known = len(deployer.confirmed)
            eventually("deploys to the other store", lambda known=known: len(deployer.confirmed) > known + 3)
    deployer.ends.set()
    deployer.join()
    assert 423 in deployer.refused
    assert deployer.refused <= {423, 503}
    store = LocalStore(str(tmp_path / "data-2"))
    log = {decode(store.read_entry("prod", sequence), sequence).version for sequence in store.sequences("prod")}
    assert [version for version in deployer.confirmed if version not in log] == []
    pod.runs(deployer.confirmed[-1])
    assert "another log id" not in pod.log.read_text()
