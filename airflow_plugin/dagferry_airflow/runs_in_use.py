"""Which versions of a DAG bundle Airflow needs: those that DAG runs are pinned to, and those that new runs will be.

Asked in the dag processor, which has the metadata database. In tasks and in processes that parse it is out of reach.

A run needs its version until its last task has ended. So these count:

- queued and running runs. A run that waits for a retry, for a deferred task or for a pool is running, and so is one
  whose DAG was removed meanwhile: it goes on when the DAG is deployed again.
- runs that have ended, with a task that has not, such as one that somebody marked as failed too early.
- the versions that the DAGs are at: Airflow gives them to the runs that it creates now. So a run's version is known
  before the run.

A failed run that somebody may clear one day does not count: it could be any. If it is cleared, it is queued, and then
it counts; for the time before, the server's ``--keep-days`` says for how long a run can be cleared on its version.
"""

from typing import Any

from dagferry_core.names import version_sequence

MAX_VERSIONS = 200
"""As many of the newest versions are reported, those of the DAGs first."""


def versions_in_use(session: Any, bundle_name: str) -> list[str]:
    """Return the versions of the bundle that Airflow needs, newest first; ``session`` is one of SQLAlchemy.

    Raises what the database raises.
    """
    from airflow.models.dag import DagModel  # noqa: PLC0415 - other processes do without them
    from airflow.models.dagrun import DagRun  # noqa: PLC0415
    from airflow.models.taskinstance import TaskInstance  # noqa: PLC0415
    from airflow.utils.state import DagRunState, State  # noqa: PLC0415
    from sqlalchemy import and_, select  # noqa: PLC0415 - Airflow has it

    of_dags = select(DagModel.bundle_version).where(DagModel.is_stale.is_(False))
    of_runs = select(DagRun.bundle_version).join(DagModel, DagModel.dag_id == DagRun.dag_id)
    is_same = and_(TaskInstance.dag_id == DagRun.dag_id, TaskInstance.run_id == DagRun.run_id)
    unfinished = [state for state in State.unfinished if state is not None]
    queries = (
        (DagModel.bundle_version, of_dags),
        (DagRun.bundle_version, of_runs.where(DagRun.state.in_([DagRunState.QUEUED, DagRunState.RUNNING]))),
        (DagRun.bundle_version, of_runs.join(TaskInstance, is_same).where(TaskInstance.state.in_(unfinished))),
    )
    found: dict[str, None] = {}
    for column, query in queries:
        mine = query.where(DagModel.bundle_name == bundle_name, column.is_not(None)).distinct()
        for version in session.scalars(mine.order_by(column.desc()).limit(MAX_VERSIONS)):
            if _is_version(version):
                found[version] = None
    return sorted(list(found)[:MAX_VERSIONS], key=version_sequence, reverse=True)


def _is_version(text: str) -> bool:
    try:
        return version_sequence(text) > 0
    except ValueError:  # the bundle of this name was of another class before
        return False
