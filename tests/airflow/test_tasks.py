"""What a task sees that runs across a swap: with the plugin only its own version, without it a mixture.

Three kinds of process run the same task at once: LocalExecutor (long-lived workers that fork), Celery (the same, with
Celery's pool between), and fresh processes as in the pods of KubernetesExecutor.
"""

import json
import time

import pytest

from airflows import START_SECONDS
from harness import eventually

pytestmark = pytest.mark.airflow

EXECUTORS = {"local": "LocalExecutor", "celery": "CeleryExecutor", "fresh": "fresh_executor.FreshExecutor"}
TASK_SECONDS = 60
"""So long after the swap a task goes on."""
ENDED_SECONDS = 300
"""For what takes up to 60 s on two idle cores."""

DAG = """
import json, os, subprocess, sys, time
from datetime import datetime

import early
from airflow import DAG
from airflow.decorators import task

VERSION = {version}
HERE = os.path.dirname(os.path.abspath(__file__))
RESULTS = os.environ["RESULTS"]


def read():
    with open(HERE + "/data.txt") as file:
        return int(file.read())


def in_a_fork():
    ours, theirs = os.pipe()
    if not (child := os.fork()):
        import forked
        os.write(theirs, b"%d%d" % (forked.VERSION, read()))
        os._exit(0)
    os.waitpid(child, 0)
    return [int(digit) for digit in os.read(ours, 9).decode()]


def look():
    import late
    started = subprocess.check_output([sys.executable, HERE + "/script.py"], text=True)
    return dict(
        dag=VERSION, early=early.VERSION, late=late.VERSION, file=read(), fork=in_a_fork(), process=int(started),
        settings=open(os.environ["AIRFLOW__CORE__DAGS_FOLDER"] + "/data.txt").read(),
    )


def note(name, what):
    with open(f"{{RESULTS}}/{{name}}.part", "w") as out:
        json.dump(what, out)
    os.rename(f"{{RESULTS}}/{{name}}.part", f"{{RESULTS}}/{{name}}")


with DAG("tasks", start_date=datetime(2026, 1, 1), schedule=None, is_paused_upon_creation=False):
    for name, executor in {executors}.items():

        @task(task_id=name, executor=executor)
        def watch(name):
            run = os.environ["AIRFLOW_CTX_DAG_RUN_ID"]
            note(f"{{run}}-{{name}}-started", VERSION)
            while run == "across" and not os.path.exists(RESULTS + "/swapped"):
                time.sleep(0.1)
            while run == "across" and time.time() < float(open(RESULTS + "/swapped").read()):
                time.sleep(0.1)
            note(f"{{run}}-{{name}}", look())

        watch(name)
"""

SCRIPT = b"import late\nprint(late.VERSION)\n"


def files(version: int) -> dict[str, bytes]:
    module = b"VERSION = %d\n" % version
    return {
        "tasks.py": DAG.format(version=version, executors=EXECUTORS).encode(),
        **dict.fromkeys(("early.py", "late.py", "forked.py"), module),
        "data.txt": b"%d" % version,
        "script.py": SCRIPT,
    }


def seen(version: int, **other: object) -> dict[str, object]:
    """What a task sees that sees one version only, but for ``other``."""
    same = dict.fromkeys(("dag", "early", "late", "file", "process"), version)
    return {**same, "fork": [version, version], "settings": str(version), **other}


@pytest.fixture(params=[3, 2])
def site(request, make_site, tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "queue").mkdir()
    settings = {
        "RESULTS": str(tmp_path / "results"),
        "AIRFLOW__CORE__EXECUTOR": ",".join(EXECUTORS.values()),
        "AIRFLOW__CELERY__BROKER_URL": "filesystem://",
        "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__DATA_FOLDER_IN": str(tmp_path / "queue"),
        "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__DATA_FOLDER_OUT": str(tmp_path / "queue"),
        "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__CONTROL_FOLDER": str(tmp_path / "queue"),
        "AIRFLOW__CELERY__WORKER_CONCURRENCY": "1",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
    }
    site = make_site(request.param, **settings)
    site.results = tmp_path / "results"
    yield site
    site.airflow.stop()


def start(site) -> None:
    airflow = site.airflow
    airflow.variables["AIRFLOW__CELERY__RESULT_BACKEND"] = "db+" + airflow.postgres.url(airflow.database)
    if airflow.major >= 3:
        airflow.start_api()
    airflow.start("dag-processor")
    airflow.start("scheduler", "--skip-serve-logs")
    airflow.start("celery", "worker", "--skip-serve-logs")
    eventually("the DAG to be listed", lambda: "tasks" in airflow.dags(), START_SECONDS)


def run_across_a_swap(site, seconds: float) -> None:
    """Start a run on version 1, deploy version 2 under it, let it go on; then a run that starts on version 2."""

    def there(*names: str) -> bool:
        site.airflow.check_alive()
        return all((site.results / name).exists() for name in names)

    site.airflow.command("dags", "trigger", "tasks", "--run-id", "across")
    eventually("the tasks to start", lambda: there(*(f"across-{name}-started" for name in EXECUTORS)), ENDED_SECONDS)
    swap = site.deploy(files(2))
    (site.results / "swapped.part").write_text(str(swap + seconds))
    (site.results / "swapped.part").rename(site.results / "swapped")
    site.airflow.command("dags", "trigger", "tasks", "--run-id", "after")
    eventually("the next tasks", lambda: there(*(f"after-{name}" for name in EXECUTORS)), ENDED_SECONDS)
    eventually("the tasks to end", lambda: there(*(f"across-{name}" for name in EXECUTORS)), ENDED_SECONDS)
    assert time.time() - swap >= seconds


def result(site, run: str, name: str) -> dict[str, object]:
    return json.loads((site.results / f"{run}-{name}").read_text())


def test_a_pinned_task_sees_its_own_version_to_its_end_and_the_next_one_the_new(site) -> None:
    site.airflow.plug_in()
    site.deploy(files(1))
    start(site)
    run_across_a_swap(site, TASK_SECONDS)
    for name in EXECUTORS:
        assert result(site, "across", name) == seen(1), name
        assert result(site, "after", name) == seen(2), name


def test_a_task_without_the_plugin_mixes_the_two(site) -> None:
    site.deploy(files(1))
    start(site)
    run_across_a_swap(site, 0)
    for name in EXECUTORS:
        assert result(site, "across", name) == seen(2, dag=1, early=1), name
        assert result(site, "after", name) == seen(2), name
