"""The plugin that Airflow finds by its entry point: it pins each task's process before the DAG file is read.

In a dag processor beside a sidecar it starts the helper that reports what Airflow has parsed.

``on_starting`` is called in the process of the task, right before it parses its DAG file, by Airflow 2.10 and later
(``airflow tasks run``) and by Airflow 3 (the task runner), whatever the executor.
"""

import logging
import os
import sys

from airflow.configuration import conf
from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

from airflow import settings
from dagferry_airflow import options
from dagferry_airflow.pin import NEWEST_INSTEAD, PINNED_VARIABLE, Wish, note_task, pin
from dagferry_airflow.runs import this_run

log = logging.getLogger(__name__)

TASK_MARKERS = frozenset({"TaskCommandMarker", "TaskRunnerMarker"})
"""What stands for a task where Airflow says which component starts; other components go on following ``current``."""

PARSING_COMMANDS = (["dag-processor"], ["scheduler"])
"""The commands of Airflow that may parse DAG files in processes that they fork."""


@hookimpl  # type: ignore[untyped-decorator] # Airflow is not installed where types are checked
def on_starting(component: object) -> None:
    """Pin this process if it is a task's. Never raises: an unpinned task is better than none."""
    if type(component).__name__ not in TASK_MARKERS:
        if sys.argv[1:2] in PARSING_COMMANDS:
            from dagferry_airflow import helper  # noqa: PLC0415 - other components do without it

            helper.start()
        return
    note_task()
    try:
        _pin()
    except Exception:
        log.exception("This task could not be pinned to a version of its DAGs")


def _pin() -> None:
    bundles = conf.getjson("dag_processor", "dag_bundle_config_list", fallback=None)
    pin(settings, bundles, os.environ, sys.path, _wish())
    # Also by a process that was pinned before it: in Airflow 2, only what that one logs is in the task's log.
    for line in os.environ.get(PINNED_VARIABLE, "").splitlines():
        log.log(logging.WARNING if f"chosen={NEWEST_INSTEAD} " in line else logging.INFO, "%s", line)


def _wish() -> Wish:
    if not options.pin_runs() or PINNED_VARIABLE in os.environ:
        return Wish()
    try:
        run = this_run()
        return Wish(by_run=True, run_started=run.started, dag_file=run.dag_file)
    except Exception:
        log.exception("When the run of this task started could not be found out")
        return Wish(by_run=True)


class DagferryPlugin(AirflowPlugin):  # type: ignore[misc] # the same
    """The plugin's entry in Airflow's list of plugins."""

    name = "dagferry"
    listeners = (sys.modules[__name__],)
