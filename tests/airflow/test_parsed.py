"""What the dag processor reports of what Airflow has read: never too early, and with every import error.

The ways to run it share the tests: a sidecar with Airflow 3 and 2, and the DAG bundle. Each Airflow is only a dag
processor, which the tests of one way share, in their order. Airflow reads a file again only because of its mtime:
``min_file_process_interval`` is longer than all of it.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from airflows import Airflow, dag_file
from harness import Server, Sidecar, eventually

pytestmark = pytest.mark.airflow

PARSED_SECONDS = 150
"""For what takes up to 15 s on two idle cores; after 300 s every file is read again, whatever the reason."""
SETTINGS = {
    "PYTHONFAULTHANDLER": "1",
    "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
    "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
    "AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "300",
    "AIRFLOW__SCHEDULER__DAG_DIR_LIST_INTERVAL": "5",
}
WAITS = "while not os.path.exists(os.environ['PARSES'] + '-go-{version}'):\n    time.sleep(0.05)"
"""What makes a parse wait until the test lets it go on."""

LOADER = b"""
import os, pathlib, time
from datetime import datetime
from airflow import DAG

for config in sorted((pathlib.Path(__file__).parent / "configs").glob("*.yaml")):
    name, _, version = config.read_text().strip().partition(": ")
    with open(os.environ["PARSES"], "a") as parses:
        parses.write(f"{time.time()} {name} {version}\\n")
    globals()[name] = DAG(name, start_date=datetime(2026, 1, 1), schedule=None, tags=[f"v{version}"])
"""
"""A DAG file as of a DAG factory: it makes a DAG of each YAML file in a folder."""

FIRST = {
    "a.py": dag_file("a", "1"),
    "slow.py": dag_file("slow", "1"),
    "none.py": b"# An airflow dag file without any.\n",
    "helper.py": b"RATE = 1\n",
    "loader.py": LOADER,
    "configs/one.yaml": b"one: 1\n",
    "configs/two.yaml": b"two: 1\n",
    "old/broken.py": b"# airflow dag\nimport broken_before\n",
}
DAG_FILES = 5


class ParsedSite:
    """A server, one way to get its deploys to an Airflow, and what the server says of what that has read."""

    def __init__(self, folder: Path, postgres, way: str) -> None:
        self.server = Server(folder / "data", "--deployments", "default,other").ready()
        self.way = way
        self.files: dict[str, dict[str, bytes]] = {"default": {}, "other": {}}
        self.sidecar: Sidecar | None = None
        self.storage = folder / "bundles"
        self.current = self.storage / "default/live/current" if way == "bundle" else folder / "pod/current"
        settings, major = dict(SETTINGS), 2 if way == "sidecar-2" else 3
        if way == "bundle":
            bundles = [
                {
                    "name": name,
                    "classpath": "dagferry_airflow.DagferryBundle",
                    "kwargs": {"server": self.server.url, "deployment": name, "refresh_interval": 1},
                }
                for name in ("default", "other")
            ]
            settings["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"] = json.dumps(bundles)
            settings["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH"] = str(self.storage)
        self.airflow = Airflow(postgres, major, folder / "airflow", str(folder / "pod/current"), **settings).plug_in()
        if way != "bundle":
            self.sidecar = Sidecar(self.server.url, folder / "pod")

    def deploy(self, change: Mapping[str, bytes | None], deployment: str = "default") -> str:
        files = {**self.files[deployment], **change}
        self.files[deployment] = {path: content for path, content in files.items() if content is not None}
        version = self.server.deploy(self.files[deployment], deployment)["version"]
        if self.sidecar:
            self.sidecar.runs(version)
        return version

    def status(self, deployment: str = "default") -> dict[str, Any]:
        """What Airflow has read; empty if nobody reports."""
        self.airflow.check_alive()
        return json.loads(self.server.get(f"/{deployment}/dags/status")[1])["parsed"] or {}

    def has_parsed(self, version: str, deployment: str = "default") -> dict[str, Any]:
        """Wait until Airflow has read all of a version, and return what is said of it."""

        def look() -> dict[str, Any] | None:
            said = self.status(deployment)
            return said if (said.get("version"), said.get("state")) == (version, "parsed") else None

        found: dict[str, Any] = eventually(f"{version} to be parsed", look, PARSED_SECONDS)
        return found

    def begins(self, dag: str, version: str) -> None:
        """Wait until a parse of this version of a DAG's file has begun."""
        look = lambda: [1 for _, _, found in self.airflow.parsed(dag) if found == version]  # noqa: E731
        eventually(f"{dag} to be parsed as {version}", look, PARSED_SECONDS)

    def let_go(self, version: str) -> None:
        self.airflow.parses.with_name(f"parses-go-{version}").touch()

    def start(self) -> None:
        self.airflow.start("dag-processor")

    def restart(self) -> None:
        process = self.airflow.processes.pop("dag-processor")
        process.terminate()
        process.wait(PARSED_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        self.start()

    def stop(self) -> None:
        self.airflow.stop()
        for process in (self.sidecar, self.server):
            if process:
                process.stop(expected=None)
        shutil.rmtree(self.airflow.home, ignore_errors=True)


@pytest.fixture(scope="module", params=["sidecar-3", "bundle", "sidecar-2"])
def site(request, postgres, tmp_path_factory) -> Iterator[ParsedSite]:
    site = ParsedSite(tmp_path_factory.mktemp(request.param), postgres, request.param)
    try:
        site.first = site.deploy(FIRST)
        if site.way == "bundle":
            site.deploy({"elsewhere.py": dag_file("elsewhere", "1")}, "other")
        site.start()
        yield site
    finally:
        site.stop()


def errors(said: dict[str, Any]) -> dict[str, bool]:
    """Whether each import error is new, by its file."""
    return {error["path"]: error["new"] for error in said["errors"]}


def test_the_first_version_is_parsed(site, measured) -> None:
    started = time.time()
    said = site.has_parsed(site.first)
    measured("parsed after the start", time.time() - started)
    assert (said["files"], said["recorded"], said["mixed"], said["dags"]) == (DAG_FILES, DAG_FILES, 0, 4)
    assert said["airflow"] == ("2.11.2" if site.way == "sidecar-2" else "3.3.2")
    assert said["python"].startswith("3.")
    assert "apache-airflow-providers-celery" in said["providers"]
    assert said["hindrances"] == []
    assert [error["path"] for error in said["errors"]] == ["old/broken.py"]
    assert said["errors"][0]["message"] == "ModuleNotFoundError: No module named 'broken_before'"
    assert "import broken_before" in said["errors"][0]["trace"]
    [reporter] = said["reporters"]
    assert reporter["component"] == ("bundle" if site.way == "bundle" else "dag-processor")


def test_a_deploy_of_yaml_alone_is_parsed_soon(site, measured) -> None:
    version, deployed = site.deploy({"configs/two.yaml": b"two: 2\n"}), time.time()
    said = site.has_parsed(version)
    measured("YAML alone parsed", time.time() - deployed)
    assert said["recorded"] == DAG_FILES
    assert site.airflow.tags("two") == {"v2"}
    site.begins("two", "2")
    assert not said["new_error_count"]


def test_a_parse_that_was_under_way_during_the_swap_does_not_count(site, measured) -> None:
    site.deploy({"slow.py": dag_file("slow", "2", code=WAITS.format(version=2))})
    site.begins("slow", "2")
    version, deployed = site.deploy({"slow.py": dag_file("slow", "3")}), time.time()
    eventually("the swap", lambda: os.path.basename(os.readlink(site.current)) == version)
    assert site.status()["state"] == "parsing"
    # The new file is at least a second newer than the one before: a parse that ends sooner would hide nothing.
    mtime = os.stat(site.current / "slow.py").st_mtime
    time.sleep(max(0, mtime + 0.1 - time.time()))
    site.let_go("2")
    said = site.has_parsed(version)
    measured("parsed after a parse across the swap", time.time() - deployed)
    assert site.airflow.tags("slow") == {"v3"}
    assert said["recorded"] == DAG_FILES
    assert any(found == "3" for _, _, found in site.airflow.parsed("slow"))


def test_an_import_error_is_new_once(site, measured) -> None:
    deployed = time.time()
    version = site.deploy({"a.py": dag_file("a", "2", code="import nowhere_to_be_found")})
    said = site.has_parsed(version)
    measured("import error reported", time.time() - deployed)
    assert (said["error_count"], said["new_error_count"]) == (2, 1)
    assert errors(said) == {"a.py": True, "old/broken.py": False}
    assert said["errors"][0]["message"] == "ModuleNotFoundError: No module named 'nowhere_to_be_found'"
    version = site.deploy({"helper.py": b"RATE = 2\n"})
    said = site.has_parsed(version)
    assert errors(said) == {"a.py": False, "old/broken.py": False}


def test_a_restarted_dag_processor_knows_which_errors_are_new(site, measured) -> None:
    version = site.deploy({"slow.py": dag_file("slow", "4", code="import nor_this")})
    assert errors(site.has_parsed(version)) == {"slow.py": True, "a.py": False, "old/broken.py": False}
    started = time.time()
    site.restart()
    eventually("the new one to report", lambda: site.status().get("state") == "parsing", PARSED_SECONDS)
    said = site.has_parsed(version)
    measured("parsed after a restart", time.time() - started)
    assert errors(said) == {"slow.py": True, "a.py": False, "old/broken.py": False}
    assert len(said["reporters"]) == 1
    assert site.airflow.dags() >= {"one", "two"}


def test_a_second_dag_processor_has_to_read_it_too(site) -> None:
    version = site.deploy({"a.py": dag_file("a", "3"), "slow.py": dag_file("slow", "5")})
    site.has_parsed(version)
    first = site.airflow.processes.pop("dag-processor")
    variables = {}
    if site.way == "bundle":  # each has its own storage
        variables = {"AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": f"{site.storage}-second"}
    try:
        site.airflow.start("dag-processor", **variables)
        eventually("both to report", lambda: len(site.status().get("reporters", ())) == 2, PARSED_SECONDS)
        site.has_parsed(version)
        first.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, first.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        version = site.deploy({"a.py": dag_file("a", "4")})

        def states() -> list[str]:
            return sorted(reporter["state"] for reporter in site.status()["reporters"])

        eventually("the second to have read it", lambda: states() == ["parsed", "parsing"], PARSED_SECONDS)
        assert site.status()["state"] == "parsing"
        first.send_signal(signal.SIGCONT)
        site.has_parsed(version)
    finally:
        first.send_signal(signal.SIGCONT)
        site.airflow.processes["first"] = first
    assert errors(site.status()) == {"old/broken.py": False}


def test_each_bundle_reports_its_own_deployment(site) -> None:
    if site.way != "bundle":
        pytest.skip("a sidecar has one deployment")
    version = site.deploy({"elsewhere.py": dag_file("elsewhere", "2", code="import not_here")}, "other")
    said = site.has_parsed(version, "other")
    assert (said["files"], errors(said)) == (1, {"elsewhere.py": True})
    assert "elsewhere.py" not in errors(site.status())


def test_nothing_failed_on_the_way(site) -> None:
    site.airflow.check_alive()
    log = site.airflow.log("dag-processor")
    assert "Traceback" not in log
    assert [line for line in log.splitlines() if "agferry" in line and "WARNING" in line] == []


def test_the_reporting_ends_with_the_dag_processor(site) -> None:
    for process in site.airflow.processes.values():
        process.terminate()
        try:
            process.wait(PARSED_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # so that its log says where it is
            process.wait(PARSED_SECONDS)
            raise AssertionError(site.airflow.log("dag-processor")[-6000:]) from None
    site.airflow.processes.clear()
    eventually("no reporter", lambda: not site.status().get("reporters"), PARSED_SECONDS)
    helpers = subprocess.run(["pgrep", "-f", f"{site.airflow.home}"], check=False, capture_output=True, text=True)
    assert helpers.stdout.split() == []
