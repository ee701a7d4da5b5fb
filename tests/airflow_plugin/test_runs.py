"""The run of a task, found in the variables of whoever calls the listeners."""

import argparse
import datetime as dt
import sys
from types import ModuleType, SimpleNamespace

import pytest

from dagferry_airflow.runs import MAX_FRAMES, Run, this_run

MOMENT = dt.datetime(2026, 11, 20, 6, 45, 1, tzinfo=dt.timezone.utc)


class StartupDetails(SimpleNamespace):
    """Airflow 3's message that starts a task."""


def message(start: object) -> StartupDetails:
    return StartupDetails(
        dag_rel_path="team/etl.py", ti_context=SimpleNamespace(dag_run=SimpleNamespace(start_date=start))
    )


def below(depth: int) -> Run:
    """As many calls lie between as the tools for listeners have, and more."""
    return below(depth - 1) if depth else this_run()


def test_airflow_3_has_the_run_in_the_message_that_starts_the_task() -> None:
    def startup(msg: object) -> Run:
        return below(10)

    assert startup(message(MOMENT)) == (MOMENT, "team/etl.py")


@pytest.mark.parametrize("start", [None, "2026", dt.datetime(2026, 11, 20)])  # noqa: DTZ001 - that is the point
def test_a_run_whose_start_is_not_known_has_none(start) -> None:
    told = message(start)
    assert this_run().started is None
    assert told


def test_callers_far_up_are_not_looked_at() -> None:
    told = message(MOMENT)
    assert below(MAX_FRAMES) == Run()
    assert told


def test_a_message_that_lacks_what_is_looked_for_is_an_error_for_the_plugin_to_log() -> None:
    told = StartupDetails()
    with pytest.raises(AttributeError):
        this_run()
    assert told


@pytest.fixture
def database(monkeypatch):
    """Airflow 2's models, as far as they are used; yields the queries that were made."""
    asked: list[tuple[object, ...]] = []

    class Session:
        def __enter__(self):
            return self

        def __exit__(self, *_: object) -> None:
            asked.append(("closed",))

        def query(self, *columns: object):
            asked.append(columns)
            return self

        def filter(self, *terms: object):
            asked.append(terms)
            return self

        def scalar(self) -> dt.datetime:
            return MOMENT

    class Column(str):
        __slots__ = ()

        def __eq__(self, other: object) -> object:
            return f"{self!s} = {other}"

        __hash__ = str.__hash__

    run = SimpleNamespace(dag_id=Column("dag_id"), run_id=Column("run_id"), start_date="start_date")
    for name, content in {
        "airflow": {},
        "airflow.models": {"DagRun": run},
        "airflow.utils": {},
        "airflow.utils.session": {"create_session": Session},
    }.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return asked


@pytest.mark.parametrize(
    ("subdir", "dag_file"), [("DAGS_FOLDER/team/etl.py", "team/etl.py"), ("/opt/other/etl.py", ""), (None, "")]
)
def test_airflow_2_looks_the_run_up_that_the_command_names(database, subdir, dag_file) -> None:
    def task_run(args: argparse.Namespace) -> Run:
        return below(10)

    args = argparse.Namespace(dag_id="etl", task_id="load", execution_date_or_run_id="manual__1", subdir=subdir)
    assert task_run(args) == (MOMENT, dag_file)
    assert database == [("start_date",), ("dag_id = etl", "run_id = manual__1"), ("closed",)]


def test_another_command_of_airflow_2_asks_nothing(database) -> None:
    args = argparse.Namespace(dag_id="etl")
    assert this_run() == Run()
    assert args
    assert database == []
