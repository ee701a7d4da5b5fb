"""``dagferry deploy --wait-parsed`` with a real server and sidecar: it ends when a dag processor reports the deploy.

The test is the dag processor: it reports as Airflow's plugin does.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dagferry_client import wait_parsed
from harness import Server, Sidecar, eventually
from localtrees import write
from reporting import error, parsed, report

pytestmark = pytest.mark.slow
GOOD = b"from airflow import DAG\n"


class Place:
    """A server with one pod, a project, and a dag processor that says what the test wants."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        write(self.project / "dags", {"a.py": GOOD, "b.py": GOOD})
        self.server = Server(folder / "data", "--deployments", "prod").ready()
        self.pod = Sidecar(self.server.url, folder / "pod", "--deployment", "prod")
        self.number = 0

    def start(self, *arguments: str, command: str = "deploy") -> "subprocess.Popen[str]":
        """Start ``dagferry``; a deploy has new content each time."""
        if command == "deploy":
            self.number += 1
            write(self.project / "dags", {"a.py": GOOD + f"# {self.number}\n".encode()})
        return subprocess.Popen(
            [sys.executable, "-m", "dagferry_client", command, *arguments, "-s", self.server.url],
            cwd=self.project,
            env={"PATH": os.environ["PATH"], "HOME": str(self.project.parent), "DAGFERRY_DEPLOYMENT": "prod"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, command: str) -> Any:
        """What ``dagferry`` prints as JSON."""
        out, err = self.start(*arguments, "--json", command=command).communicate()
        return json.loads(out or err)

    def is_live(self, sequence: int) -> dict[str, Any]:
        """Wait until the deploy ``sequence`` is live in the pod; return it."""

        def look() -> dict[str, Any] | None:
            current = self.server.current("prod")
            return current if current["sequence"] == sequence and self.pod.live == current["version"] else None

        return eventually(f"deploy {sequence} is live", look)

    def say(self, deploy: dict[str, Any], **what: Any) -> None:
        """Report as the dag processor."""
        body = json.dumps(report(deploy["log_id"], parsed(deploy, **what))).encode()
        status, said = self.server.request("/prod/dags/reports", body, **{"Content-Type": "application/json"})
        assert (status, json.loads(said)["ignored"]) == (200, None)

    def close(self) -> None:
        """End both."""
        self.pod.stop(None)
        self.server.stop()


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("place"))
    try:
        yield place
    finally:
        place.close()


def test_where_nothing_reports_it_says_so(place) -> None:
    started = place.start("--wait-parsed=1s")
    out, err = started.communicate()
    assert (started.returncode, out.strip()) == (7, place.is_live(1)["version"])
    assert "nothing reports what Airflow has parsed" in err
    assert wait_parsed.WHO_REPORTS in err


def test_it_ends_when_all_is_parsed_and_older_errors_are_only_mentioned(place) -> None:
    started = place.start("--wait-parsed=60s")
    deploy = place.is_live(2)
    place.say(deploy, recorded=1, mixed=1, complete_for=None, errors=[error("b.py")], error_count=1, new_error_count=1)
    place.say(deploy, errors=[error("b.py", new=False)], error_count=1)
    out, err = started.communicate()
    assert (started.returncode, out.strip()) == (0, deploy["version"])
    said = err.splitlines()
    assert f"{deploy['version']} is live in the only pod." in said
    assert said[-2].startswith("Parsed: 2 files, 3 DAGs, 0 new import errors (1 older), ")
    assert said[-2].endswith(" s after the deploy.")
    assert said[-1] == "Older import error: b.py: ImportError: no"


def test_a_new_import_error_ends_with_8_and_is_in_status_and_show(place) -> None:
    started = place.start("--wait-parsed=60s", "--json")
    deploy = place.is_live(3)
    place.say(deploy, errors=[error("a.py")], error_count=1, new_error_count=1)
    out, err = started.communicate()
    assert started.returncode == 8
    answer, said = json.loads(out), json.loads(err.splitlines()[-1])
    assert (answer["live"], answer["parsed"]["state"], answer["parsed"]["new_error_count"]) == (True, "parsed", 1)
    assert said["code"] == "import_errors"
    assert [(one["path"], one["message"]) for one in said["problems"]] == [("a.py", "ImportError: no")]
    status = place.run(command="status")
    assert status["parsed"]["errors"] == answer["parsed"]["errors"]
    assert place.run(command="show")["now"]["parsed"]["version"] == deploy["version"]


def test_a_rollback_waits_as_well_and_a_newer_deploy_that_is_parsed_is_enough(place) -> None:
    started = place.start("--wait-parsed=60s", "1", command="rollback")
    deploy = place.is_live(4)
    assert deploy["version"] in eventually("the rollback waits for Airflow", lambda: _waits(started))
    newer = place.server.deploy({"a.py": GOOD + b"# newer\n", "b.py": GOOD}, "prod")
    place.say({**newer, "log_id": deploy["log_id"]})
    out, err = started.communicate()
    assert (started.returncode, out.strip()) == (0, deploy["version"]), err


def _waits(started: "subprocess.Popen[str]") -> str:
    """The line that says that it is live, which comes before the wait until it is parsed."""
    assert started.stderr is not None
    line = started.stderr.readline()
    return line if " is live in " in line else ""
