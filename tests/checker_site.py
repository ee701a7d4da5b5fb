"""A checker that follows a server in memory with an engine that finds words, beside another deployment, ``lab``."""

import os
from typing import Any

from dagferry_checker.beside import Beside
from dagferry_checker.engine_process import Unwanted, Versions
from dagferry_checker.follow import Follower
from dagferry_checker.problems import Fault, Kind, Outcome
from dagferry_checker.trees import TreeStore
from dagferry_core import protocol
from dagferry_runtime.signals import Stopped, Stopping
from fake_candidates import FakeServer

ABOUT = {protocol.AIRFLOW: "3.3.2", protocol.PYTHON: "3.11.7", protocol.VARIABLES: "stub"}
LIVE = {"dag_a.py": b"import shop\n", "dag_b.py": b"broken before\n", "shop.py": b"rate = 1\n"}


class FakeEngine:
    """Finds a fault in each file that has the word ``broken``, and ids of DAGs, such as ``id_x``.

    ``during`` is called in each parse.
    """

    def __init__(self) -> None:
        self.versions = Versions("3.3.2", "3.11.7")
        self.parsed: list[list[str]] = []
        self.fails: list[Exception] = []
        self.during: Any = lambda: None

    def list_files(self, tree: str, _heartbeat: Any = None) -> list[str]:
        return sorted(name for name in os.listdir(tree) if name.startswith("dag_"))

    def parse(self, tree: str, paths: list[str], heartbeat: Any) -> dict[str, Outcome]:
        if self.fails:
            raise self.fails.pop(0)
        self.during()
        if not heartbeat():
            raise Unwanted
        self.parsed.append(list(paths))
        return {path: self._outcome(f"{tree}/{path}") for path in paths}

    @staticmethod
    def _outcome(file: str) -> Outcome:
        with open(file) as source:
            text = source.read()
        dags = tuple(word for word in text.split() if word.startswith("id_"))
        return Outcome(dags, (Fault(1, text, Kind.IMPORT),) if "broken" in text else (), ())


class Site:
    def __init__(self, folder: str) -> None:
        self.server, self.engine, self.now = FakeServer(), FakeEngine(), 1000.0
        self.store = TreeStore(folder)
        self.stopping = Stopping()
        self.pauses: list[float] = []
        server: Any = self.server
        engine: Any = self.engine
        self.lab = FakeServer()
        lab: Any = self.lab
        self.beside = Beside({"lab": lab}, engine, self.store)
        self.follower = Follower(
            server, engine, self.store, self.beside, instance="checker-0", about=ABOUT, stopping=self.stopping,
            clock=lambda: self.now, sleep=self.sleep,
        )  # fmt: skip

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        if len(self.pauses) >= 3:
            raise Stopped

    def steps(self, count: int = 1) -> None:
        for _ in range(count):
            self.follower.step()

    def verdict(self) -> dict[str, Any]:
        return self.server.verdicts[-1][1]
