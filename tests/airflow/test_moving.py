"""Moving the dags folder from git-sync to a sidecar and back: no DAG is ever gone, in either major of Airflow."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflows import RECOMMENDED, START_SECONDS, Airflow, Postgres
from harness import PATIENCE_SECONDS, Server, Sidecar, eventually

pytestmark = pytest.mark.airflow
DAG = b"""
from datetime import datetime
try:
    from airflow.sdk import DAG
except ImportError:
    from airflow import DAG
dag = DAG("%s", start_date=datetime(2026, 1, 1), schedule=None)
"""
STAYING = {f"dag_{number}" for number in range(5)}
FILES = {f"team/{name}.py": DAG % name.encode() for name in STAYING}
EAGER = {
    "AIRFLOW__DAG_PROCESSOR__PARSING_CLEANUP_INTERVAL": "1",
    "AIRFLOW__SCHEDULER__PARSING_CLEANUP_INTERVAL": "1",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "1",
    "AIRFLOW__SCHEDULER__DAG_DIR_LIST_INTERVAL": "1",
}
"""Airflow looks often for DAGs that are gone."""


class Move:
    """An Airflow whose dags folder is git-sync's, and a sidecar that has the same files."""

    def __init__(self, folder: Path, postgres: Postgres, major: int) -> None:
        self.git = folder / "git"
        write(self.git / ".worktrees" / "0123abcd" / "dags", FILES)
        (self.git / "repo").symlink_to(".worktrees/0123abcd")
        self.server = Server(folder / "data").ready()
        self.sidecar = Sidecar(self.server.url, folder / "pod").runs(self.server.deploy(FILES)["version"])
        self.folders = {"git-sync": str(self.git / "repo" / "dags"), "sidecar": str(folder / "pod" / "current")}
        settings = RECOMMENDED | EAGER
        self.airflow = Airflow(postgres, major, folder / "airflow", self.folders["git-sync"], **settings)
        self.lost: list[set[str]] = []

    def run(self, way: str) -> "subprocess.Popen[bytes]":
        """Start a dag processor that reads one of the folders."""
        self.airflow.start("dag-processor", AIRFLOW__CORE__DAGS_FOLDER=self.folders[way])
        return self.airflow.processes.pop("dag-processor")

    def read_from(self, way: str) -> bool:
        """Whether every DAG was read from this folder last; notes the DAGs that are gone."""
        self.lost.append(STAYING - self.airflow.dags())
        found = {row[0] for row in self.airflow.sql("select fileloc from dag where dag_id like 'dag_%'")}
        return bool(found) and all(path.startswith(self.folders[way]) for path in found)

    def looked(self, path: Path, reader: "subprocess.Popen[bytes]") -> bool:
        """Whether Airflow has noticed since that a DAG of this file is gone, so it has looked for such DAGs."""
        assert reader.poll() is None, self.airflow.log("dag-processor")[-6000:]
        self.lost.append(STAYING - self.airflow.dags())
        return path.stem not in self.airflow.dags()

    def stop(self) -> None:
        self.airflow.stop()
        for process in (self.sidecar, self.server):
            process.stop(expected=None)


def write(folder: Path, files: dict[str, bytes]) -> None:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    process.wait(PATIENCE_SECONDS)


@pytest.fixture(params=[2, 3], ids=["airflow-2", "airflow-3"])
def move(request: pytest.FixtureRequest, tmp_path: Path, postgres: Postgres) -> Iterator[Move]:
    moving = Move(tmp_path, postgres, request.param)
    yield moving
    moving.stop()


def test_no_dag_is_gone_while_one_processor_replaces_the_other_there_and_back(move: Move) -> None:
    running: Any = move.run("git-sync")
    try:
        eventually("git-sync's DAGs to be listed", lambda: move.airflow.dags() >= STAYING, START_SECONDS)
        for way in ("sidecar", "git-sync"):
            new = move.run(way)  # beside the old one, as in a roll-out
            try:
                eventually(f"both to read, the {way} last", lambda way=way: move.read_from(way), START_SECONDS)
                end(running)
                eventually(f"only the {way} to be read", lambda way=way: move.read_from(way), START_SECONDS)
            finally:
                end(running)
                running = new
            passing = {"team/passing.py": DAG % b"passing"}
            if way == "sidecar":
                move.sidecar.runs(move.server.deploy({**FILES, **passing})["version"])
            else:
                write(Path(move.folders[way]), passing)
            eventually("a new DAG", lambda: "passing" in move.airflow.dags(), START_SECONDS)
            if way == "sidecar":
                move.sidecar.runs(move.server.deploy(FILES)["version"])
            else:
                (Path(move.folders[way]) / "team" / "passing.py").unlink()
            eventually("that it is gone", lambda new=new: move.looked(Path("passing.py"), new), START_SECONDS)
    finally:
        end(running)
    assert [lost for lost in move.lost if lost] == []
