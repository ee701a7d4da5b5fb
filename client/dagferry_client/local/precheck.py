"""Runs the project's own tests before its DAGs are deployed."""

import os
import shutil
import subprocess

from dagferry_client.local.errors import PytestFailed
from dagferry_client.local.folder import DagsFolder
from dagferry_core.archive.paths import quoted

MAX_PYTEST_SECONDS = 3600
_STDERR = 2
_MEANING = {
    1: "tests failed",
    2: "it was interrupted, or a test file cannot be imported",
    3: "pytest itself failed",
    4: "its command line is wrong",
    5: "no tests were found",
}
"""What pytest's exit codes mean."""


def run_pytest(folder: DagsFolder, path: str) -> None:
    """Run ``pytest PATH`` in the current folder; with an empty path, ``pytest`` in the project. ``PytestFailed``.

    It is the pytest of ``PATH``, which has what the DAGs import. What it prints goes to stderr.
    """
    if path and not os.path.exists(path.partition("::")[0]):
        raise PytestFailed(f"There are no tests at {quoted(path)}.", "Check the path after --pytest=.")
    program = shutil.which("pytest")
    if program is None:
        raise PytestFailed(
            "pytest is not installed.", "Install it where Airflow and what the DAGs import are installed."
        )
    try:
        code = subprocess.run(  # noqa: S603 - the user's own tests
            [program, *([path] if path else [])],
            cwd=None if path else folder.project,
            stdin=subprocess.DEVNULL,
            stdout=_STDERR,
            timeout=MAX_PYTEST_SECONDS,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        raise PytestFailed(f"The tests took more than {MAX_PYTEST_SECONDS} s.") from None
    except OSError as error:
        raise PytestFailed(f"pytest cannot be run: {error.strerror}.") from error
    if code:
        raise PytestFailed(f"The tests did not pass: {_MEANING.get(code, f'pytest ended with exit code {code}')}.")
