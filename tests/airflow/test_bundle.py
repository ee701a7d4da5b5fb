"""The DAG bundle of Airflow 3: a run keeps the version it was made with, also when the server is away."""

import json
import os
import shutil
import subprocess
import time

import pytest

from airflows import HOME, Airflow, dag_file
from harness import Server, eventually

pytestmark = pytest.mark.airflow

REFRESH_SECONDS = 5
RETRY_SECONDS = 30
"""Airflow 3.3 fails a task that is tried again before its executor has told of the last try, up to 5 s later."""
RUN_SECONDS = 300
"""For what takes up to 60 s on two idle cores."""
TASKS = ("first", "second", "third")

DAG = """
import os, time
from datetime import datetime
from airflow import DAG
from airflow.sdk import task

VERSION = {version}
HERE = os.path.dirname(__file__)

with DAG("steps", start_date=datetime(2026, 1, 1), schedule=None, is_paused_upon_creation=False):
    before = None
    for name in {tasks}:

        @task(task_id=name)
        def step(name):
            import late
            run = os.environ["AIRFLOW_CTX_DAG_RUN_ID"]
            with open(HERE + "/data.txt") as data, open(f"{{os.environ['RESULTS']}}/{{run}}-{{name}}", "w") as out:
                out.write(f"{{VERSION}}{{late.VERSION}}{{data.read()}}")
            while not os.path.exists(f"{{os.environ['RESULTS']}}/{{run}}-go"):
                time.sleep(0.1)

        after = step(name)
        if before:
            before >> after
        before = after
"""


def files(version: int) -> dict[str, bytes]:
    return {
        "steps.py": DAG.format(version=version, tasks=TASKS).encode(),
        "late.py": b"VERSION = %d\n" % version,
        "data.txt": b"%d" % version,
        "slow.py": dag_file("slow", str(version), code="time.sleep(4)"),
    }


class BundleSite:
    """A server, and an Airflow 3 that has its deployment as a DAG bundle; there is no sidecar.

    ``versions`` has what was deployed, by the number in its files.
    """

    versions: dict[int, str]

    def __init__(self, folder, postgres, **settings: str) -> None:
        self.server = Server(folder / "data").ready()
        self.results = folder / "results"
        self.results.mkdir()
        self.storage = folder / "bundles"
        self.bundle = {"server": self.server.url, "refresh_interval": REFRESH_SECONDS}
        bundles = [{"name": "prod", "classpath": "dagferry_airflow.DagferryBundle", "kwargs": self.bundle}]
        self.airflow = Airflow(
            postgres, 3, folder / "airflow", str(folder / "none"),
            RESULTS=str(self.results),
            AIRFLOW__CORE__EXECUTOR="LocalExecutor",
            AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL="0",
            AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST=json.dumps(bundles),
            AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH=str(self.storage),
            AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL="1",
            AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME="0.2",
            AIRFLOW__WORKERS__MISSING_DAG_RETRY_DELAY=str(RETRY_SECONDS),
            **settings,
        ).plug_in()  # fmt: skip

    def start(self) -> None:
        self.airflow.start_api()
        self.airflow.start("dag-processor")
        self.airflow.start("scheduler", "--skip-serve-logs")

    def deploy(self, version: int) -> str:
        return self.server.deploy(files(version))["version"]

    def has_parsed(self, dag: str, version: str) -> None:
        """Wait until new runs of the DAG are made on this version."""
        query = f"select bundle_version from dag where dag_id = '{dag}'"
        eventually(f"{dag} to be at {version}", lambda: self.airflow.sql(query) == [[version]], RUN_SECONDS)

    def run(self, run: str) -> None:
        self.go_on(run)
        self.airflow.command("dags", "trigger", "steps", "--run-id", run)

    def run_that_waits(self, run: str) -> None:
        """Start a run, and come back when its first task is at work; the task ends after ``go_on``."""
        self.airflow.command("dags", "trigger", "steps", "--run-id", run)
        eventually("the first task to begin", (self.results / f"{run}-first").exists, RUN_SECONDS)

    def go_on(self, run: str) -> None:
        (self.results / f"{run}-go").touch()

    def ended(self, run: str) -> str:
        """Wait for the end of a run, which must be a success, and return the version it had."""

        def state() -> list[list[str]]:
            self.airflow.check_alive()
            query = f"select state, bundle_version from dag_run where run_id = '{run}'"
            return [row for row in self.airflow.sql(query) if row[0] in {"success", "failed"}]

        [[found, version]] = eventually(f"run {run} to end", state, RUN_SECONDS)
        assert found == "success", self.airflow.log("scheduler")[-6000:]
        return version

    def saw(self, run: str) -> list[str]:
        """What the run's tasks saw: DAG file, module and data, each as a digit."""
        return [(self.results / f"{run}-{name}").read_text() for name in TASKS]

    def python(self, code: str, count: int = 1) -> list[str]:
        """Run code in so many processes of Airflow's environment at once, and return what each printed."""
        command = [self.airflow.environment / "bin/python", "-c", code]
        running = [
            subprocess.Popen(command, env=self.airflow.variables, stdout=-1, stderr=-1, text=True) for _ in range(count)
        ]
        ended = [(process.communicate(timeout=RUN_SECONDS), process.returncode) for process in running]
        for (_, said), code_ in ended:
            assert code_ == 0, said
        return [out.splitlines()[-1] for (out, _), _ in ended]

    def making(self, code: str, version: str | None = None) -> str:
        """Code that runs ``code`` with a ``bundle`` that is ready."""
        return (
            "from dagferry_airflow import DagferryBundle, pin\n"
            f"bundle = DagferryBundle(name='prod', version={version!r}, **{self.bundle!r})\n"
            "bundle.initialize()\n"
            "version = bundle.get_current_version()\n"
            "version = getattr(version, 'version', version)\n"  # a string before Airflow 3.3
            f"{code}"
        )

    def forget(self, version: str) -> None:
        """Lose a version as Airflow's own clean-up does: its folder, then its tracking file."""
        shutil.rmtree(self.storage / "prod/versions" / version)
        (self.storage / "_tracking/prod" / version).unlink()

    def forget_trees(self, version: str) -> None:
        """Lose the trees of a version that was live, as the sidecar's rules do."""
        for folder in (self.storage / "prod/live/.trees").glob(f"*/{version}"):
            shutil.rmtree(folder.parent)

    def restart_server(self) -> None:
        self.server = Server(self.server.data, port=self.server.port).ready()

    def stop(self) -> None:
        self.airflow.stop()
        self.server.stop(expected=None)


@pytest.fixture(scope="module")
def site(tmp_path_factory, postgres):
    site = BundleSite(tmp_path_factory.mktemp("bundle"), postgres)
    try:
        site.versions = {1: site.deploy(1)}
        site.start()
        site.has_parsed("steps", site.versions[1])
        yield site
    finally:
        site.stop()


def test_a_run_ends_on_the_version_it_began_with_and_the_next_one_has_the_new(site, measured) -> None:
    site.run_that_waits("across")
    site.versions[2], published = site.deploy(2), time.time()
    site.has_parsed("steps", site.versions[2])
    measured("deployed to new runs", time.time() - published)
    site.go_on("across")
    site.run("after")
    assert site.ended("across") == site.versions[1]
    assert site.saw("across") == ["111"] * 3
    assert site.ended("after") == site.versions[2]
    assert site.saw("after") == ["222"] * 3


def test_without_the_server_runs_go_on_with_what_is_on_the_disk(site) -> None:
    site.server.stop()
    site.run("alone")
    assert site.ended("alone") == site.versions[2]
    assert site.saw("alone") == ["222"] * 3
    assert site.python(site.making("print(version)")) == [site.versions[2]]
    site.restart_server()
    site.airflow.check_alive()


def test_a_task_waits_for_a_version_that_is_not_here_and_gets_it_though_it_is_not_the_newest(site) -> None:
    site.run_that_waits("waiting")
    site.versions[3] = site.deploy(3)
    site.has_parsed("steps", site.versions[3])
    site.server.stop()
    site.forget(site.versions[2])
    site.forget_trees(site.versions[2])
    site.go_on("waiting")
    query = "select state from task_instance where run_id = 'waiting' and task_id = 'second'"
    eventually("a reschedule", lambda: site.airflow.sql(query) == [["up_for_reschedule"]], RUN_SECONDS)
    site.restart_server()
    assert site.ended("waiting") == site.versions[2]
    assert site.saw("waiting") == ["222"] * 3


def test_many_processes_make_a_version_at_once(site) -> None:
    folder = site.storage / "prod/versions" / site.versions[1]
    site.forget(site.versions[1])
    code = "print(open(bundle.path / 'late.py').read().strip(), version)"
    assert site.python(site.making(code, site.versions[1]), count=8) == [f"VERSION = 1 {site.versions[1]}"] * 8
    assert sorted(path.name for path in folder.iterdir() if path.name != "__pycache__") == sorted(files(1))
    assert not list((site.storage / "prod").glob("building-*"))


def test_a_task_of_a_run_without_a_version_is_pinned_to_what_is_newest_when_it_starts(site) -> None:
    code = "before = bundle.path; pin.note_task(); bundle.initialize(); print(before.name, bundle.path.name)"
    assert site.python(site.making(code)) == [f"current {site.versions[3]}"]


def test_airflows_own_clean_up_finds_every_version_and_what_it_removed_comes_back(site) -> None:
    versions = site.storage / "prod/versions"
    assert {path.name for path in (site.storage / "_tracking/prod").iterdir()} == {
        path.name for path in versions.iterdir()
    }
    code = (
        "from airflow.dag_processing.bundles.base import BundleUsageTrackingManager\n"
        "BundleUsageTrackingManager().remove_stale_bundle_versions(); print('done')"
    )
    variables = site.airflow.variables
    variables["AIRFLOW__DAG_PROCESSOR__STALE_BUNDLE_CLEANUP_MIN_VERSIONS"] = "0"
    variables["AIRFLOW__DAG_PROCESSOR__STALE_BUNDLE_CLEANUP_AGE_THRESHOLD"] = "0"
    try:
        assert site.python(code) == ["done"]
        assert list(versions.iterdir()) == []
    finally:
        del variables["AIRFLOW__DAG_PROCESSOR__STALE_BUNDLE_CLEANUP_MIN_VERSIONS"]
        del variables["AIRFLOW__DAG_PROCESSOR__STALE_BUNDLE_CLEANUP_AGE_THRESHOLD"]
    site.run("again")
    assert site.ended("again") == site.versions[3]
    assert site.saw("again") == ["333"] * 3


def test_a_parse_that_ends_after_the_swap_is_put_right_by_the_next(site, measured) -> None:
    """Airflow gives a parse's result the version it knows when the parse ends, though the code was the one before."""
    site.versions[4] = site.deploy(4)
    eventually(
        "the slow parse to begin", lambda: [1 for _, _, v in site.airflow.parsed("slow") if v == "4"], RUN_SECONDS
    )
    site.versions[5], published = site.deploy(5), time.time()
    site.has_parsed("slow", site.versions[5])
    eventually("the new code to be parsed", lambda: site.airflow.tags("slow") == {"v5"}, RUN_SECONDS)
    measured("late attribution put right", time.time() - published)


def test_a_run_ends_on_a_version_that_only_its_old_tree_has_any_more(site) -> None:
    """Neither the server nor a folder in versions/ has it."""
    site.run_that_waits("stored")
    site.versions[6] = site.deploy(6)
    site.has_parsed("steps", site.versions[6])
    site.server.stop()
    site.forget(site.versions[5])
    site.go_on("stored")
    assert site.ended("stored") == site.versions[5]
    assert site.saw("stored") == ["555"] * 3
    site.restart_server()


def test_the_dag_processor_reads_a_stable_path(site) -> None:
    [[fileloc]] = site.airflow.sql("select fileloc from dag where dag_id = 'steps'")
    assert fileloc == f"{site.storage}/prod/live/current/steps.py"
    assert os.path.exists(fileloc)
    assert HOME not in site.storage.parents
