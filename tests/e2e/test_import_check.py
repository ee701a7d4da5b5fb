"""``dagferry deploy`` to a real server whose deployment has a checker: what that finds is said, and waited for.

The test is the checker: it asks for candidates and answers as ``dagferry-checker`` does.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import Server, eventually
from localtrees import write
from scripted_checker import problem

pytestmark = pytest.mark.slow
GOOD = b"from airflow import DAG\n"
ASKS = {
    "Dagferry-Instance": "checker-0",
    "Dagferry-Airflow": "3.3.2",
    "Dagferry-Python": "3.11.7",
    "Dagferry-Variables": "stub",
}


class Place:
    """A server that lets a checker decide, a project, and the checker."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        write(self.project / "dags", {"a.py": GOOD})
        flags = ("--deployments", "prod", "--import-check", "block", "--check-seconds", "1")
        self.server = Server(folder / "data", *flags).ready()

    def start(self, change: dict[str, bytes], *arguments: str) -> "subprocess.Popen[str]":
        """Start a deploy of the project with a change."""
        write(self.project / "dags", change)
        return subprocess.Popen(
            [sys.executable, "-m", "dagferry_client", "deploy", "-s", self.server.url, *arguments],
            cwd=self.project,
            env={"PATH": os.environ["PATH"], "HOME": str(self.project.parent), "DAGFERRY_DEPLOYMENT": "prod"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def candidates(self) -> list[dict[str, Any]]:
        """Ask for candidates as a checker does."""
        status, body = self.server.get("/prod/dags/candidates", **ASKS)
        assert status == 200, body
        found: list[dict[str, Any]] = json.loads(body)["candidates"]
        return found

    def find(self, *problems: dict[str, Any]) -> None:
        """Wait for a candidate, and send the verdict on it."""
        [candidate] = eventually("a candidate", self.candidates)
        verdict = {
            "instance": "checker-0",
            "base": candidate["base"],
            "digest": candidate["digest"],
            "problems": list(problems),
            "problem_count": len(problems),
            "new_problem_count": len(problems),
            "unjudged": [],
            "files": 1,
            "dags": 1,
            "seconds": 0.1,
            "airflow": "3.3.2",
            "python": "3.11.7",
        }
        path = f"/prod/dags/candidates/{candidate['id']}"
        status, body = self.server.request(path, json.dumps(verdict).encode(), Content_Type="application/json", **ASKS)
        assert status == 200, body


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("place"))
    try:
        place.candidates()  # a checker is connected
        yield place
    finally:
        place.server.stop()


def test_what_a_checker_finds_is_refused_with_file_and_line(place) -> None:
    started = place.start({"b.py": GOOD + b"import acme\n"})
    place.find(problem("b.py", line=2))
    out, err = started.communicate()
    assert (started.returncode, out) == (3, ""), err
    assert "  b.py:2: ModuleNotFoundError: No module named 'acme'" in err.splitlines()
    assert "--skip-import-check" in err, "the hint names the option of the command"


def test_a_check_that_takes_long_is_joined_until_there_is_an_answer(place) -> None:
    started = place.start({"b.py": GOOD + b"# good\n"})
    assert started.stderr is not None
    said = started.stderr.readline()
    assert " Asking again in " in said
    assert place.server.current("prod")["version"] == ""
    place.find()
    out, err = started.communicate()
    assert (started.returncode, out.strip()) == (0, place.server.current("prod")["version"]), err


def test_what_is_not_to_be_checked_is_deployed_and_recorded(place) -> None:
    started = place.start({"b.py": GOOD + b"import acme\n"}, "--skip-import-check")
    _, err = started.communicate()
    assert started.returncode == 0, err
    [newest, *_] = json.loads(place.server.get("/prod/dags/deploys")[1])["deploys"]
    assert newest["flags"] == ["skip_import_check"]
