"""The sidecar way with ``pin_runs``: a run keeps its version over deploys, and a running task keeps its tree.

One DAG of three tasks, one after the other; each notes the version that it sees, and the first two then wait for leave
to go on.
"""

import os
import time
from collections.abc import Mapping

import pytest

from airflows import START_SECONDS
from dagferry_follow.volume import in_use
from dagferry_follow.volume.lookup import trees_of
from harness import Sidecar, eventually

pytestmark = pytest.mark.airflow

TASK_SECONDS = 180
"""For a task to start and end, which takes 3 s on two idle cores."""
TASKS = ("first", "second", "third")

DAG = """
import os, time
from datetime import datetime

import early
from airflow import DAG
from airflow.decorators import task

VERSION = {version}
RESULTS = os.environ["RESULTS"]


def note(name, text):
    with open(f"{{RESULTS}}/{{name}}.part", "w") as out:
        out.write(text)
    os.rename(f"{{RESULTS}}/{{name}}.part", f"{{RESULTS}}/{{name}}")


with DAG("pins", start_date=datetime(2026, 1, 1), schedule=None, is_paused_upon_creation=False):

    @task
    def say(name):
        run = os.environ["AIRFLOW_CTX_DAG_RUN_ID"]
        note(f"{{run}}-{{name}}-started", "")
        while name != "third" and not os.path.exists(f"{{RESULTS}}/{{run}}-{{name}}-goes-on"):
            time.sleep(0.05)
        import late
        note(f"{{run}}-{{name}}", f"{{VERSION}} {{early.VERSION}} {{late.VERSION}}")

    last = None
    for name in {tasks}:
        one = say.override(task_id=name)(name)
        last and last >> one
        last = one
"""


def files(version: int) -> dict[str, bytes]:
    module = b"VERSION = %d\n" % version
    return {"pins.py": DAG.format(version=version, tasks=TASKS).encode(), "early.py": module, "late.py": module}


class Runs:
    """An Airflow with the plugin, and the runs of its one DAG."""

    def __init__(self, site, results) -> None:
        self.site, self.airflow, self.results = site, site.airflow, results
        self.root = str(site.sidecar.root)
        self.versions: list[str] = []

    def start(self) -> None:
        self.airflow.plug_in()
        self.deploy(1)
        if self.airflow.major >= 3:
            self.airflow.start_api()
        self.airflow.start("dag-processor")
        self.airflow.start("scheduler", "--skip-serve-logs")
        eventually("the DAG to be listed", lambda: "pins" in self.airflow.dags(), START_SECONDS)

    def deploy(self, number: int) -> None:
        self.site.deploy(files(number), quiet=False)
        self.versions.append(self.site.sidecar.live)

    def trigger(self, run: str) -> None:
        self.airflow.command("dags", "trigger", "pins", "--run-id", run)

    def wait_for(self, name: str) -> str:
        def look() -> bool:
            self.airflow.check_alive()
            return (self.results / name).exists()

        eventually(name, look, TASK_SECONDS)
        return (self.results / name).read_text()

    def let_go_on(self, name: str) -> None:
        (self.results / f"{name}-goes-on").touch()

    def line(self, run: str, task: str) -> Mapping[str, str]:
        """What the task's log says about its version."""
        logs = list(self.airflow.home.glob(f"logs/dag_id=pins/run_id={run}/task_id={task}/*.log"))
        text = "".join(log.read_text() for log in logs)
        assert "dagferry version=" in text, text
        words = text.partition("dagferry ")[2].replace('"', " ").split()
        return {**dict(word.split("=", 1) for word in words if "=" in word[:20]), "text": text}

    def used(self, number: int) -> bool:
        """Whether any process holds the tree of a version."""
        return bool(in_use.used(self.root, trees_of(self.root, self.versions[number - 1])))


@pytest.fixture(params=[3, 2])
def runs(request, make_site, tmp_path):
    (tmp_path / "results").mkdir()
    site = make_site(
        request.param,
        RESULTS=str(tmp_path / "results"),
        AIRFLOW__DAGFERRY__PIN_RUNS="True",
        AIRFLOW__CORE__EXECUTOR="LocalExecutor",
        AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME="0.2",
    )
    runs = Runs(site, tmp_path / "results")
    runs.start()
    yield runs
    site.airflow.stop()


def test_a_run_keeps_its_version_and_a_running_task_its_tree(runs) -> None:
    a_run_over_two_deploys_prints_one_version(runs)
    a_tree_stays_while_a_task_runs_on_it_and_then_the_run_goes_on_with_the_newest(runs)


def a_run_over_two_deploys_prints_one_version(runs) -> None:
    runs.trigger("across")
    runs.wait_for("across-first-started")
    assert runs.used(1)
    for deployed, task in ((2, "first"), (3, "second")):
        runs.wait_for(f"across-{task}-started")
        runs.deploy(deployed)
        runs.let_go_on(f"across-{task}")
    for task in TASKS:
        assert runs.wait_for(f"across-{task}") == "1 1 1"
        line = runs.line("across", task)
        assert (line["version"], line["chosen"], line["root"]) == (runs.versions[0], "run", runs.root)
        assert time.strptime(line["run_started"], "%Y-%m-%dT%H:%M:%SZ")
    eventually("the last task to let go of its tree", lambda: not runs.used(1))


def a_tree_stays_while_a_task_runs_on_it_and_then_the_run_goes_on_with_the_newest(runs) -> None:
    runs.site.sidecar.stop(0)
    keep_none = ("--keep-trees", "0", "--keep-hours", "0", "--poll-wait", "1")
    runs.site.sidecar = Sidecar(runs.site.server.url, runs.site.sidecar.root, *keep_none).runs(runs.versions[-1])
    runs.trigger("held")
    runs.wait_for("held-first-started")
    for number in (4, 5):
        runs.deploy(number)
    eventually("all other old trees to be removed", lambda: len(all_trees(runs)) == 3)
    assert runs.used(3), "by the task, which is 30 hours old as far as the sidecar knows"
    eventually("the metric", lambda: runs.site.sidecar.metric("dagferry_sidecar_trees_in_use") == 1)
    # Until the tree is gone no other task starts.
    runs.airflow.sql("update dag set is_paused = true where dag_id = 'pins'")
    runs.let_go_on("held-first")
    assert runs.wait_for("held-first") == "3 3 3"
    eventually("the tree to be removed", lambda: not trees_of(runs.root, runs.versions[2]))
    runs.airflow.sql("update dag set is_paused = false where dag_id = 'pins'")
    runs.let_go_on("held-second")
    assert runs.wait_for("held-second") == runs.wait_for("held-third") == "5 5 5"
    line = runs.line("held", "second")
    assert (line["version"], line["chosen"]) == (runs.versions[4], "newest_instead")
    assert "is not on this volume or lacks the DAG file: this is the newest." in line["text"]


def all_trees(runs) -> set[str]:
    return {entry.name for entry in os.scandir(f"{runs.root}/.trees") if entry.is_dir()}
