"""Parses a DAG file with the real Airflow, as its dag processor does, without Airflow's database. Both majors.

Runs in the engine, which has no token: ``AirflowParser()`` imports Airflow once, and ``parse`` runs in a forked child.
"""

import contextlib
import importlib
import logging
import os
import signal
import sys
import tempfile
import traceback
from typing import Any, NamedTuple

from dagferry_checker.stubs import Stubs

_USUAL = (
    "airflow.providers.standard.operators.bash",
    "airflow.providers.standard.operators.empty",
    "airflow.providers.standard.operators.python",
    "airflow.providers.standard.sensors.external_task",
    "airflow.operators.bash",
    "airflow.operators.empty",
    "airflow.operators.python",
    "airflow.decorators",
)
"""What many DAG files import: imported once, before the children are forked. What is not there is skipped."""
_MAJOR_WITH_SDK = 3
_WARM_UP = """
import datetime
from airflow import DAG
try:
    from airflow.providers.standard.operators.bash import BashOperator
except ImportError:
    from airflow.operators.bash import BashOperator
with DAG("dagferry_warm_up", start_date=datetime.datetime(2026, 1, 1), schedule="@daily"):
    BashOperator(task_id="a", bash_command="true") >> BashOperator(task_id="b", bash_command="true")
"""


class Parsed(NamedTuple):
    """What a parse found, as texts: tracebacks of imports and of storing a DAG; ids of DAGs; the names it asked for."""

    dags: list[str]
    errors: list[str]
    serialize: list[str]
    asked: list[str]


class AirflowParser:
    """The Airflow of this environment. ``ImportError`` if there is none. ``variables`` is ``stub`` or ``env``."""

    def __init__(self, variables: str) -> None:
        logging.raiseExceptions = False
        version = importlib.import_module("airflow.version").version
        self.airflow = str(version)
        self._has_sdk = int(version.split(".")[0]) >= _MAJOR_WITH_SDK
        if self._has_sdk:
            os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "client"
        self._bags: Any = importlib.import_module(
            "airflow.dag_processing.dagbag" if self._has_sdk else "airflow.models.dagbag"
        )
        self._conf: Any = importlib.import_module("airflow.configuration").conf
        for name in _USUAL if not self._has_sdk else ("airflow.sdk", *_USUAL[:4]):
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        self._stubs = Stubs(from_environment=variables == "env")
        self._replace()
        logging.disable(logging.CRITICAL)
        self._warm_up()

    def _warm_up(self) -> None:
        """Parse a DAG of ours, so that children need not import what Airflow imports at its first parse."""
        with contextlib.suppress(Exception), tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "dagferry_warm_up.py")
            with open(file, "w", encoding="utf-8") as source:
                source.write(_WARM_UP)
            self._serialize(self._bag(folder, file))
            sys.path[:] = [path for path in sys.path if path != folder]

    def _replace(self) -> None:
        stubs = self._stubs
        models: Any = importlib.import_module("airflow.models")
        if not self._has_sdk:
            stubs.replace_variables(models.Variable)
            stubs.replace_connections(models.Connection, "get_connection_from_secrets")
            return
        sdk: Any = importlib.import_module("airflow.sdk")
        stubs.replace_variables(sdk.Variable)
        stubs.replace_connections(sdk.Connection, "get")
        with contextlib.suppress(Exception):  # what DAG files of Airflow 2 use
            stubs.replace_variables(models.Variable)
            stubs.replace_connections(models.Connection, "get_connection_from_secrets")
        runner: Any = importlib.import_module("airflow.sdk.execution_time.task_runner")
        runner.SUPERVISOR_COMMS = stubs.supervisor()

    def dag_files(self, tree: str) -> list[str]:
        """Return the files that Airflow would parse, relative to ``tree``; runs in a child: patterns may be hostile."""
        safe = self._conf.getboolean("core", "dag_discovery_safe_mode", fallback=True)
        if self._has_sdk:
            importers: Any = importlib.import_module("airflow.dag_processing.importers")
            found = importers.get_importer_registry().list_dag_files(tree, safe_mode=safe)
        else:
            files: Any = importlib.import_module("airflow.utils.file")
            found = files.list_py_file_paths(tree, safe_mode=safe, include_examples=False)
        return sorted(os.path.relpath(path, tree) for path in map(str, found))

    def parse(self, tree: str, path: str) -> Parsed:
        """Parse the file at ``path`` in ``tree``, and return what Airflow says; for a child of its own."""
        self._keep_signals()
        os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = tree
        settings: Any = importlib.import_module("airflow.settings")
        settings.DAGS_FOLDER = tree
        if tree not in sys.path:
            sys.path.append(tree)
        bag = self._bag(tree, os.path.join(tree, path))
        errors = [str(text) for text in bag.import_errors.values()]
        return Parsed(list(bag.dags), errors, self._serialize(bag), list(self._stubs.asked))

    def _bag(self, tree: str, file: str) -> Any:
        if self._has_sdk:
            return self._bags.BundleDagBag(
                dag_folder=file, bundle_path=_path(tree), bundle_name="dagferry", load_op_links=False
            )
        return self._bags.DagBag(dag_folder=file, include_examples=False, load_op_links=False)

    def _serialize(self, bag: Any) -> list[str]:
        if self._has_sdk:
            serialized: Any = importlib.import_module("airflow.serialization.serialized_objects")
            store = getattr(serialized, "DagSerialization", None) or serialized.SerializedDAG
        else:
            store = importlib.import_module("airflow.serialization.serialized_objects").SerializedDAG
        failed = []
        for dag in bag.dags.values():
            try:
                store.to_dict(dag)
            except Exception:  # noqa: BLE001, PERF203 - any failure is what is looked for
                failed.append(traceback.format_exc())
        return failed

    @staticmethod
    def _keep_signals() -> None:
        """Let a crash end the process: Airflow's handler of SIGSEGV would be called again and again."""
        original = signal.signal

        def only_others(number: int, handler: Any) -> Any:
            return None if number == signal.SIGSEGV else original(number, handler)

        signal.signal = only_others  # type: ignore[assignment]


def _path(folder: str) -> Any:
    import pathlib  # noqa: PLC0415 - Airflow imports it anyway

    return pathlib.Path(folder)
