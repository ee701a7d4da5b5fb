"""When the run of this process's task started, and which DAG file it has, found before that file is read.

Airflow tells a listener that a task starts, but not which. It knows, in a variable of the function that calls the
listeners: the message that starts a task in Airflow 3, which has the run; the arguments of ``airflow tasks run`` in
Airflow 2, which name it. In Airflow 2 the run is then looked up in the database, as Airflow itself does a moment later;
a task of Airflow 3 has no way to the database, and needs none.

A run starts when the first of its tasks may be scheduled. When it is cleared after its end it starts again, so a task
that failed and is cleared gets the version that mends it.
"""

import datetime as dt
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

MAX_FRAMES = 30
"""How far up the calls are searched; there are about ten between the function and the listener."""
DAGS_FOLDER = "DAGS_FOLDER/"
"""What Airflow 2 writes for the path of the dags folder."""


class Run(NamedTuple):
    """When a run started, ``None`` if that cannot be found out; and its DAG file below the folder of the DAGs."""

    started: dt.datetime | None = None
    dag_file: str = ""


def this_run() -> Run:
    """Return the run of this process's task. To be called by the listener ``on_starting``.

    Raises whatever the database of Airflow 2 raises.
    """
    for value in _variables():
        kind = type(value).__name__
        if kind == "StartupDetails":
            return Run(_moment(value.ti_context.dag_run.start_date), str(value.dag_rel_path))
        if kind == "Namespace" and hasattr(value, "dag_id") and hasattr(value, "execution_date_or_run_id"):
            started = _moment(_start_in_database(value.dag_id, value.execution_date_or_run_id))
            return Run(started, _below_dags_folder(getattr(value, "subdir", None)))
    return Run()


def _variables() -> Iterator[Any]:
    """Yield the values of the local variables of the callers, from the nearest to the furthest."""
    frame = sys._getframe(1)  # noqa: SLF001 - ``inspect`` reads the source of every frame
    for _ in range(MAX_FRAMES):
        yield from tuple(frame.f_locals.values())
        if frame.f_back is None:
            return
        frame = frame.f_back


def _start_in_database(dag_id: str, run_id: str) -> object:
    from airflow.models import DagRun  # noqa: PLC0415 - Airflow 3 forbids it in a task
    from airflow.utils.session import create_session  # noqa: PLC0415

    with create_session() as session:
        return session.query(DagRun.start_date).filter(DagRun.dag_id == dag_id, DagRun.run_id == run_id).scalar()


def _below_dags_folder(subdir: object) -> str:
    """Return the path that Airflow 2 gives a task in place of its DAG file's; ``""`` if it is in another folder."""
    text = str(subdir or "")
    return text.removeprefix(DAGS_FOLDER) if text.startswith(DAGS_FOLDER) else ""


def _moment(value: object) -> dt.datetime | None:
    return value if isinstance(value, dt.datetime) and value.tzinfo else None
