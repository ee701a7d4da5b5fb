"""Runs the checker in Airflow's environment, with the code of this clone."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from airflows import HOME, START_SECONDS, environment_of

PACKAGES = ("core", "follow", "runtime", "checker")


def python_of(major: int) -> str:
    """The Python of that Airflow's environment."""
    return str(environment_of(major) / "bin" / "python")


def variables_of(major: int, **more: str) -> dict[str, str]:
    """The environment of a checker there."""
    folders = [*(HOME / package for package in PACKAGES), environment_of(major) / "plugin"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON", "DAGFERRY"))}
    return {**kept, "PYTHONPATH": os.pathsep.join(map(str, folders)), **more}


class Checked(NamedTuple):
    code: int
    report: dict[str, Any]
    said: str

    def kinds(self) -> dict[str, str]:
        """The kind of the problem of each file that has one."""
        return {problem["path"]: problem["kind"] for problem in self.report["problems"]}

    def problem(self, path: str) -> dict[str, Any]:
        [found] = [problem for problem in self.report["problems"] if problem["path"] == path]
        return found


def check(major: int, folder: Path, *words: str, **variables: str) -> Checked:
    """Check a folder, and return what the checker says."""
    done = subprocess.run(
        [python_of(major), "-m", "dagferry_checker", "--path", folder, "--json", *words],
        env=variables_of(major, **variables), capture_output=True, text=True, timeout=START_SECONDS, check=False,
    )  # fmt: skip
    report = json.loads(done.stdout) if done.stdout else {}
    return Checked(done.returncode, report, done.stderr)
