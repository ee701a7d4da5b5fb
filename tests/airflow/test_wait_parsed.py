"""``dagferry deploy --wait-parsed`` with a real Airflow 3 that has the deployment as a DAG bundle: it ends when Airflow
has the DAGs, and names a file that only Airflow cannot import.

Airflow is only a dag processor, which the tests share, in their order. It reads a file again only because of its mtime.
A sidecar stands for the other pods.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from airflows import HOME, Airflow, dag_file
from harness import Server, Sidecar
from localtrees import write

pytestmark = pytest.mark.airflow

WAIT = "--wait-parsed=150s"
"""For what takes up to 15 s on two idle cores; after 300 s every file is read again, whatever the reason."""
FIRST = {
    "a.py": dag_file("a", "1"),
    "b.py": dag_file("b", "helper.VERSION", imports="import helper"),
    "helper.py": b"VERSION = 1\n",
    "none.py": b"# An airflow dag file without any.\n",
}
MISSING = "No module named 'airflow.providers.nowhere'"
BROKEN = dag_file("broken", "1", imports="from airflow.providers.nowhere import Operator")
BROKEN_LINE = BROKEN.decode().splitlines().index("from airflow.providers.nowhere import Operator") + 1


class Done(NamedTuple):
    """How a command ended, what it printed, and how long it took."""

    code: int
    answer: dict[str, Any]
    err: str
    seconds: float


class WaitSite:
    """A server, a pod, an Airflow 3, and a project to deploy from."""

    def __init__(self, folder: Path, postgres: Any) -> None:
        self.project = folder / "project"
        self.server = Server(folder / "data").ready()
        self.pod = Sidecar(self.server.url, folder / "pod")
        bundle = {
            "name": "prod",
            "classpath": "dagferry_airflow.DagferryBundle",
            "kwargs": {"server": self.server.url, "refresh_interval": 1},
        }
        self.airflow = Airflow(
            postgres, 3, folder / "airflow", str(folder / "none"),
            AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL="0",
            AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST=json.dumps([bundle]),
            AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH=str(folder / "bundles"),
            AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL="1",
            AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL="300",
        ).plug_in()  # fmt: skip

    def deploy(self, change: Mapping[str, bytes], *arguments: str) -> Done:
        """Deploy the project with a change, and wait until Airflow has parsed it."""
        write(self.project / "dags", change)
        environment = {"PATH": os.environ["PATH"], "HOME": str(HOME), "DAGFERRY_SERVER": self.server.url}
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "dagferry_client", "deploy", WAIT, "--json", *arguments],
            cwd=self.project,
            env={**environment, "DAGFERRY_DEPLOYMENT": "default"},
            capture_output=True,
            text=True,
            check=False,
        )
        self.airflow.check_alive()
        assert done.stdout, done.stderr
        return Done(done.returncode, json.loads(done.stdout), done.stderr, time.monotonic() - started)

    def close(self) -> None:
        """End all of it."""
        self.airflow.stop()
        self.pod.stop(None)
        self.server.stop(None)


@pytest.fixture(scope="module")
def site(postgres, tmp_path_factory) -> Iterator[WaitSite]:
    site = WaitSite(tmp_path_factory.mktemp("wait"), postgres)
    try:
        site.airflow.start("dag-processor")
        yield site
    finally:
        site.close()


def test_it_ends_when_airflow_has_the_dags_and_not_before(site) -> None:
    done = site.deploy(FIRST)
    assert done.code == 0, done.err
    parsed = done.answer["parsed"]
    assert (parsed["files"], parsed["recorded"], parsed["dags"], parsed["error_count"]) == (3, 3, 2, 0)
    assert f"Parsed: 3 files, 2 DAGs, 0 new import errors, {parsed['seconds']:.1f} s after the deploy." in done.err
    assert (site.airflow.tags("a"), site.airflow.tags("b")) == ({"v1"}, {"v1"})


def test_a_change_of_a_helper_is_parsed_when_its_dag_is(site, measured) -> None:
    done = site.deploy({"helper.py": b"VERSION = 2\n"})
    assert (done.code, done.answer["parsed"]["new_error_count"]) == (0, 0), done.err
    assert site.airflow.tags("b") == {"v2"}
    measured("deploy --wait-parsed, one helper", done.seconds)


def test_a_file_that_only_airflow_cannot_import_is_named_and_undone(site, measured) -> None:
    done = site.deploy({"broken.py": BROKEN}, "--undo-on-failure")
    assert (done.code, done.answer["live"]) == (8, True), done.err
    said = json.loads(done.err.splitlines()[-1])
    [problem] = said["problems"]
    assert (problem["path"], problem["line"]) == ("broken.py", BROKEN_LINE)
    assert problem["message"] == f"ModuleNotFoundError: {MISSING}"
    assert done.answer["undone_by"] == site.server.current()["version"]
    measured("deploy --wait-parsed, an import error", done.seconds)


def test_an_error_that_was_there_before_is_mentioned_and_is_no_failure(site) -> None:
    assert site.deploy({"broken.py": BROKEN, "c.py": dag_file("c", "1")}).code == 8
    done = site.deploy({"a.py": dag_file("a", "2")})
    assert done.code == 0, done.err
    assert f"Older import error: broken.py: ModuleNotFoundError: {MISSING}" in done.err
    assert "0 new import errors (1 older)" in done.err
    assert site.airflow.tags("a") == {"v2"}
