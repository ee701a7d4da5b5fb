"""Imports the DAG files of a dags folder with a real Airflow: by ``dagferry-checker``, in the Python that has both."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

from dagferry_client.local.errors import DagsNotImported, FolderChanged, ImportCheckUnavailable, PackFailed
from dagferry_client.local.tree import LocalTree
from dagferry_core.archive.paths import quoted
from dagferry_core.errors import EXIT_REFUSED, EXIT_USAGE

MODULE = "dagferry_checker"
MAX_CHECK_SECONDS = 3600
MAX_SHOWN_CHARACTERS = 1000
_STDERR_LINES = 3


class Imported(NamedTuple):
    """What imported the DAG files: how many there are, with how many DAGs, and the versions of Airflow and Python."""

    files: int
    dags: int
    airflow: str
    python: str


def import_dags(tree: LocalTree, python: str) -> tuple[Imported, list[str]]:
    """Import what would be deployed in the Python at ``python``; return what did it, and warnings.

    Raises ``DagsNotImported`` if Airflow could not load a file, ``ImportCheckUnavailable`` if the check cannot be done.
    """
    try:
        folder = tempfile.mkdtemp(prefix="dagferry-import-")
    except OSError as error:
        raise PackFailed(f"No temporary folder can be created: {error.strerror}.") from error
    try:
        dags = os.path.join(folder, "dags")
        _copy(tree, dags)
        report = _check(dags, python)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    imported = Imported(*(report[name] for name in Imported._fields))
    problems = [dict(problem) for problem in report["problems"]]
    warnings = [
        f"{entry['path']}: not judged, because the check has no values of {', '.join(entry['names'])}: "
        f"{entry['message']}"
        for entry in report["unjudged"]
    ]
    if problems:
        count = report["problem_count"]
        things = "1 error" if count == 1 else f"{count} errors"
        where = f"Airflow {imported.airflow} on Python {imported.python}"
        raise DagsNotImported(f"{where} cannot load all DAG files: {things}.", problems)
    return imported, warnings


def _copy(tree: LocalTree, folder: str) -> None:
    """Write the files as a deploy would pack them: without what is excluded, with what ``--include`` adds."""
    os.mkdir(folder)
    for path, source in tree.sources.items():
        target = os.path.join(folder, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        try:
            shutil.copyfile(source, target)
        except FileNotFoundError as error:
            raise FolderChanged(path) from error
        except OSError as error:
            raise PackFailed(f"{quoted(path)} cannot be copied: {error.strerror}.") from error


def _check(folder: str, python: str) -> Mapping[str, Any]:
    words = [python, "-m", MODULE, "--path", folder, "--json"]
    try:
        done = subprocess.run(  # noqa: S603 - the user's own Python
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=MAX_CHECK_SECONDS, check=False
        )
    except OSError as error:
        raise ImportCheckUnavailable(f"{python} cannot be started: {error.strerror}.") from error
    except subprocess.TimeoutExpired:
        raise ImportCheckUnavailable(f"The import check took more than {MAX_CHECK_SECONDS} s.") from None
    said = done.stderr.decode(errors="replace").strip()
    if f"No module named {MODULE}" in said or f"No module named '{MODULE}" in said:
        raise ImportCheckUnavailable(
            f"{python} has no dagferry-checker.",
            f'Install it into the environment of Airflow: {python} -m pip install "dagferry[checker]". Or name the '
            "Python of that environment with --import-python.",
        )
    text = " ".join(said.splitlines()[-_STDERR_LINES:])[-MAX_SHOWN_CHARACTERS:]
    if done.returncode not in {0, EXIT_REFUSED}:
        hint = None if done.returncode == EXIT_USAGE else "Try again, or check without --import."
        raise ImportCheckUnavailable(f"The import check failed in {python}: {text}", hint)
    try:
        report = json.loads(done.stdout)
        if not all(isinstance(report[name], list) for name in ("problems", "unjudged")):
            raise TypeError
        _ = [report[name] for name in (*Imported._fields, "problem_count")]
    except (ValueError, KeyError, TypeError) as error:
        raise ImportCheckUnavailable(f"The import check in {python} gave no result. {text}".strip()) from error
    return dict(report)
