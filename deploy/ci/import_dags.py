#!/usr/bin/env python3
"""Imports every DAG file as Airflow does, before anything is deployed: ``import_dags.py [FOLDER]`` (default ``dags``).

Run by tests in Airflow 2.11 and 3.3: tests/airflow/test_import_dags.py.

It runs inside Airflow's own image or environment, and needs no database: a DAG file that asks Airflow's database fails.
Values that DAG files read while they are imported come from variables, such as ``AIRFLOW_VAR_BUCKET=x`` or
``AIRFLOW_CONN_WAREHOUSE=postgres://host``.

Airflow itself says which files are DAG files, with its ``.airflowignore``. Each is imported and serialized in a
process of its own, with a time limit. Every error is one line on stdout, ``FILE:LINE: MESSAGE``. Exit codes:

    0   every DAG file was imported, and there is at least one DAG
    1   there are errors, DAG ids that two files have, or no DAG at all
    2   started with wrong arguments, or there is no Airflow

It needs Python 3.9, as Airflow does, and nothing but Airflow.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import multiprocessing.connection
import multiprocessing.context
import os
import re
import resource
import signal
import sys
import tempfile
import time
import warnings
from typing import Any, NamedTuple

DEFAULT_SECONDS = 30
MAX_SECONDS = 3600
GRACE_SECONDS = 5
"""How much longer than its limit a file may take until its process is killed: Airflow's own limit comes first, and says
where the file was."""
MAX_PROCESSES = 8
TRACEBACK_DEPTH = 50
"""How many frames of a traceback Airflow keeps; it needs more than its default of 2 for the line in the DAG file."""
MAX_MESSAGE_CHARACTERS = 1000
_NO_DATABASE = "unable to open database file"
"""What SQLite says of the database that ``_configure`` names."""

_FORK = multiprocessing.get_context("fork")


class Problem(NamedTuple):
    """What is wrong with a DAG file; ``line`` is 0 if it is not known, ``details`` is the whole traceback."""

    file: str
    line: int
    message: str
    details: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.message}"

    def annotation(self) -> str:
        """Return the problem as a workflow command of GitHub Actions, which shows it at the line of the file."""
        line = f",line={self.line}" if self.line else ""
        return f"::error file={_escaped(self.file, ':,')}{line}::{_escaped(self.message)}"


class Imported(NamedTuple):
    """What one DAG file contains: the ids of its DAGs, and the errors that Airflow found, as tracebacks."""

    dag_ids: list[str]
    errors: list[str]


def main() -> int:
    """Import the DAG files that the command line names; return the exit code."""
    given = _arguments()
    folder: str = given.folder
    if not os.path.isdir(folder):
        sys.stderr.write(f"{folder} is not a folder. Give the dags folder: import_dags.py FOLDER\n")
        return 2
    with tempfile.TemporaryDirectory(prefix="import-dags-") as home:
        _configure(os.path.realpath(folder), home, given.timeout)
        warnings.simplefilter("ignore")  # what is deprecated in Airflow itself is nothing that a DAG file can change
        try:
            import airflow  # noqa: F401, PLC0415 - it reads its configuration when it is imported
        except ImportError as error:
            sys.stderr.write(f"Airflow cannot be imported: {error}. Run this inside Airflow's image or environment.\n")
            return 2
        files = _dag_files(folder)
        found = _import_all(files, os.path.realpath(folder), given.timeout) if files else {}
    problems = [_problem(file, error, folder) for file in files for error in found[file].errors]
    problems += _duplicates({file: found[file].dag_ids for file in files})
    dags = sum(len(one.dag_ids) for one in found.values())
    if not dags and not problems:
        problems = [Problem(folder, 0, "Airflow finds no DAG in this folder.")]
    for problem in problems:
        print(problem.annotation() if given.annotate else problem)
    if given.json:
        with open(given.json, "w", encoding="utf-8") as out:
            json.dump({"files": len(files), "dags": dags, "problems": [one._asdict() for one in problems]}, out)
    sys.stderr.write(f"{len(files)} DAG files, {dags} DAGs, {len(problems)} problems\n")
    return 1 if problems else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Import every DAG file as Airflow does.")
    parser.add_argument("folder", nargs="?", default="dags", help="the dags folder (default: dags)")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=DEFAULT_SECONDS,
        metavar="SECONDS",
        help=f"how long one file may take (default: {DEFAULT_SECONDS}, at most {MAX_SECONDS})",
    )
    parser.add_argument("--annotate", action="store_true", help="print errors as annotations of GitHub Actions")
    parser.add_argument("--json", metavar="FILE", help="also write all problems to FILE, with whole tracebacks")
    return parser.parse_args()


def _seconds(text: str) -> int:
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"use whole seconds, 1 to {MAX_SECONDS}")
    return int(text)


def _configure(tree: str, home: str, seconds: int) -> None:
    """Set what Airflow reads when it is imported. What the image or the job sets otherwise stays as it is."""
    os.environ.setdefault("AIRFLOW_HOME", home)
    os.environ.update(
        {
            "AIRFLOW__CORE__DAGS_FOLDER": tree,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": str(seconds),
            "AIRFLOW__CORE__DAGBAG_IMPORT_ERROR_TRACEBACK_DEPTH": str(TRACEBACK_DEPTH),
            # In a folder that does not exist: a DAG file that asks the database fails at once.
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/missing/airflow.db",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "CRITICAL",
        }
    )
    os.environ.pop("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD", None)
    os.environ.pop("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_SECRET", None)


def _dag_files(folder: str) -> list[str]:
    """Return the DAG files of the folder, as Airflow finds them, each beginning with ``folder``."""
    from airflow.configuration import conf  # noqa: PLC0415
    from airflow.utils.file import find_dag_file_paths  # noqa: PLC0415

    safe_mode = conf.getboolean("core", "dag_discovery_safe_mode", fallback=True)
    return sorted(map(str, find_dag_file_paths(folder, safe_mode)))


# --- in processes of their own ---------------------------------------------------------------------------------------


class _Running(NamedTuple):
    file: str
    process: multiprocessing.context.ForkProcess
    answers: multiprocessing.connection.Connection
    deadline: float


def _import_all(files: list[str], tree: str, seconds: int) -> dict[str, Imported]:
    """Import every file in a process of its own, some at the same time."""
    _warm_up()
    waiting, running, found = list(reversed(files)), [], {}
    at_once = min(MAX_PROCESSES, os.cpu_count() or 1)
    while waiting or running:
        while waiting and len(running) < at_once:
            running.append(_start(waiting.pop(), tree, seconds))
        ends = [end for one in running for end in (one.process.sentinel, one.answers)]
        until = min(one.deadline for one in running) - time.monotonic()
        multiprocessing.connection.wait(ends, timeout=max(0, until))
        for one in list(running):
            answer = _answer(one, seconds)
            if answer is not None:
                running.remove(one)
                found[one.file] = answer
    return found


def _warm_up() -> None:
    """Import once what every file needs: its own process has it at once."""
    _dagbag()
    _to_dict()


def _start(file: str, tree: str, seconds: int) -> _Running:
    answers, end = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_child, args=(file, tree, end), daemon=True)
    process.start()
    end.close()
    return _Running(file, process, answers, time.monotonic() + seconds + GRACE_SECONDS)


def _answer(one: _Running, seconds: int) -> Imported | None:
    """Return what a process found, ``None`` if it is still busy; after its time it is killed."""
    if one.answers.poll():
        try:
            found = Imported(*json.loads(one.answers.recv_bytes()))
        except EOFError:  # it ended, or closed the pipe, without an answer
            found = None
    elif one.process.is_alive() and time.monotonic() < one.deadline:
        return None
    elif one.process.is_alive():
        found = Imported([], [f"The import takes more than {seconds} seconds and was ended."])
    else:
        found = None
    if found is None:
        one.process.join(GRACE_SECONDS)
    code = one.process.exitcode
    _end(one)
    if found is not None:
        return found
    how = f"signal {-code} ({signal.Signals(-code).name})" if code is not None and code < 0 else f"exit code {code}"
    return Imported([], [f"The import ended the process, with {how}."])


def _end(one: _Running) -> None:
    """End a process, with all that it started."""
    try:
        os.killpg(one.process.pid or 0, signal.SIGKILL)
    except ProcessLookupError:  # it has ended, or has no group of its own yet
        one.process.kill()
    one.process.join()
    one.answers.close()


def _child(file: str, tree: str, end: multiprocessing.connection.Connection) -> None:
    """Import ``file``, send what came out, and end without any cleaning up that the file may have registered."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    end.send_bytes(json.dumps(_imported(file, tree)).encode())
    os._exit(0)


def _imported(file: str, tree: str) -> Imported:
    if tree not in sys.path:
        sys.path.append(tree)  # where Airflow has the dags folder
    bag = _dagbag()(os.path.realpath(file))
    errors = [str(error) for error in bag.import_errors.values()]
    errors += filter(None, map(_serialization_error, bag.dags.values()))
    return Imported(sorted(bag.dags), errors)


def _serialization_error(dag: Any) -> str | None:
    try:
        _to_dict()(dag)
    except Exception as error:  # noqa: BLE001 - whatever it is, Airflow would show it as an import error
        return f"DAG {dag.dag_id!r} cannot be serialized: {type(error).__name__}: {error}"
    return None


def _dagbag() -> Any:
    """Return Airflow's class that imports DAG files; 3.2 moved it."""
    try:
        from airflow.dag_processing.dagbag import DagBag  # noqa: PLC0415
    except ImportError:
        from airflow.models.dagbag import DagBag  # noqa: PLC0415
    return DagBag


def _to_dict() -> Any:
    """Return Airflow's function that serializes a DAG; 3.2 gave its class another name."""
    from airflow.serialization import serialized_objects  # noqa: PLC0415

    name = "DagSerialization" if hasattr(serialized_objects, "DagSerialization") else "SerializedDAG"
    return getattr(serialized_objects, name).to_dict


# --- what is reported ------------------------------------------------------------------------------------------------


def _problem(file: str, error: str, folder: str) -> Problem:
    """Make one line of an error: the exception's first line, and the last line of the DAG file that was run."""
    # The last traceback is the one that counts; its frames are indented, and the exception comes after them.
    last = error.strip().rpartition("Traceback (most recent call last):")[2]
    lines = [line for line in last.splitlines() if line.strip() and not line[0].isspace()] or ["The import failed."]
    message = lines[0]
    if _NO_DATABASE in error:
        message += ": the file asks Airflow's database while it is imported"
    frames = [(os.path.realpath(path), line) for path, line in re.findall(r'File "([^"\n]+)", line ([0-9]+)', error)]
    own = [int(line) for path, line in frames if path == os.path.realpath(file)]
    if own and frames[-1][0] != os.path.realpath(file):
        inner = os.path.relpath(frames[-1][0], os.path.realpath(folder))
        if not inner.startswith(".."):  # a helper in the dags folder
            message += f" ({os.path.join(folder, inner)}:{frames[-1][1]})"
    return Problem(file, own[-1] if own else 0, _printable(message), error)


def _duplicates(dag_ids: dict[str, list[str]]) -> list[Problem]:
    """Return a problem for each file with a DAG id that an earlier file has: Airflow would show one of them."""
    first: dict[str, str] = {}
    return [
        Problem(file, 0, _printable(f"DAG id {dag_id!r} is also in {first[dag_id]}"))
        for file, ids in dag_ids.items()
        for dag_id in ids
        if first.setdefault(dag_id, file) != file
    ]


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text[:MAX_MESSAGE_CHARACTERS])


def _escaped(text: str, more: str = "") -> str:
    """Escape text for a workflow command of GitHub Actions."""
    return "".join(f"%{ord(letter):02X}" if letter in "%\r\n" + more else letter for letter in text)


if __name__ == "__main__":
    sys.exit(main())
