"""A server, and an Airflow 3 that has its deployment as a DAG bundle, without a sidecar."""

import json
import shutil
import subprocess

from airflows import Airflow, dag_file
from harness import Server, eventually

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

    def __init__(self, folder, postgres, *flags: str, **settings: str) -> None:
        self.flags = flags
        self.server = Server(folder / "data", *flags).ready()
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
        self.server = Server(self.server.data, *self.flags, port=self.server.port).ready()

    def stop(self) -> None:
        self.airflow.stop()
        self.server.stop(expected=None)
