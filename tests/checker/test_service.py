"""The command: a folder, a version once, following a server; exit codes, output, and a prompt end with nothing left."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fake_checker
from dagferry_follow.remote.candidates import LiveDeploy
from fake_candidates import FakeServer
from harness import PATIENCE_SECONDS, eventually
from http_candidates import HttpCandidates

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
GOOD = {"a.py": b"DAGS = ['x']\n"}
BAD = {**GOOD, "b.py": b"import not_here\n"}


def words_of(*words: object) -> list[str]:
    return [sys.executable, fake_checker.__file__, *map(str, words)]


def run(*words: object, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        words_of(*words), env={**ENVIRONMENT, **variables}, capture_output=True, text=True, check=False, timeout=300
    )


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for path, content in files.items():
        (folder / path).write_bytes(content)
    return folder


@pytest.fixture
def server() -> Iterator[HttpCandidates]:
    made = HttpCandidates(FakeServer(), lab=FakeServer())
    yield made
    made.stop()


def test_a_folder_with_a_broken_file_is_code_3_with_file_line_and_message(tmp_path) -> None:
    done = run("--path", write(tmp_path / "dags", BAD))
    assert done.returncode == 3, done.stderr
    first, last = done.stdout.splitlines()
    assert first == "b.py:1: ModuleNotFoundError: No module named 'not_here'"
    assert "1 problem in 2 DAG files with 1 DAG, imported by Airflow 9.9.9" in last


def test_a_good_folder_is_code_0_also_as_json(tmp_path) -> None:
    done = run("--path", write(tmp_path / "dags", GOOD), "--json", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["problems"], report["files"], report["dags"], report["airflow"]) == ([], 1, 1, "9.9.9")
    assert [path.name for path in tmp_path.iterdir()] == ["dags"], "nothing temporary is left"


def test_without_airflow_it_is_a_mistake_of_the_setup(tmp_path) -> None:
    done = run("--path", write(tmp_path / "dags", GOOD), FAKE_AIRFLOW_BROKEN="1")
    assert done.returncode == 5
    assert "Airflow cannot be imported" in done.stderr


def test_what_is_live_is_checked_once_in_a_new_image(server) -> None:
    version = server.state.deploy(GOOD)
    assert run("--once", "--server", server.url).returncode == 0
    server.state.deploy(BAD)
    done = run("--once", "--server", server.url, "--json")
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["problem_count"] == 1
    assert run("--once", "--server", server.url, "--check-version", version).returncode == 0
    assert all("Dagferry-Instance" not in headers for headers in server.headers), "no upload waits for it"


def test_what_is_live_is_compared_with_other_deployments(server) -> None:
    server.state.deploy(GOOD)
    server.beside["lab"].deploy({"theirs.py": b"DAGS = ['x']\n"})
    words = ("--once", "--server", server.url)
    assert run(*words).returncode == 0
    done = run(*words, "--beside", "lab")
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith("a.py: DAG id 'x' is also in theirs.py of the deployment lab.")
    assert all("Dagferry-Instance" not in headers for headers in server.headers)


def test_another_deployment_that_cannot_be_read_makes_nothing_fail(server) -> None:
    server.state.deploy(GOOD)
    server.beside["lab"].live = LiveDeploy("20261120T064501Z-000009", "sha256:" + "0" * 64)
    done = run("--once", "--server", server.url, DAGFERRY_BESIDE="lab")
    assert done.returncode == 0
    assert "The DAG ids of the deployment lab cannot be read" in done.stderr


def test_nothing_deployed_is_nothing_wrong(server) -> None:
    done = run("--once", "--server", server.url)
    assert done.returncode == 0
    assert "nothing to check" in done.stderr


def test_a_server_that_is_away_is_tried_until_the_timeout(server) -> None:
    server.state.deploy(GOOD)
    server.refuse = 2
    assert run("--once", "--server", server.url).returncode == 0
    server.stop()
    done = run("--once", "--server", server.url, "--once-timeout", "0")
    assert done.returncode == 5
    assert "does not answer" in done.stderr


def test_a_version_that_is_not_there_fails_at_once(server) -> None:
    done = run("--once", "--server", server.url, "--check-version", "20261120T064501Z-000009")
    assert done.returncode == 5
    assert "404" in done.stderr


@pytest.fixture
def follower(server, tmp_path) -> Iterator[Any]:
    server.state.deploy(GOOD)
    process = subprocess.Popen(
        words_of("--server", server.url, "--instance=checker-0", "--work-dir", tmp_path / "work", "--timeout=600"),
        env={**ENVIRONMENT, "DAGFERRY_TOKEN": "secret-token"}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stderr or ()), daemon=True)
    reader.start()
    process.log = lines  # type: ignore[attr-defined]
    yield process
    process.kill()
    process.wait()
    reader.join(PATIENCE_SECONDS)
    if process.stderr:
        process.stderr.close()


def test_it_follows_candidates_and_sends_verdicts(server, follower) -> None:
    candidate = server.state.upload(BAD)
    eventually("a verdict", lambda: server.state.verdicts)
    [(identity, verdict)] = server.state.verdicts
    assert identity == candidate.id
    [problem] = verdict["problems"]
    assert (problem["path"], problem["line"], problem["kind"], problem["new"]) == ("b.py", 1, "import", True)
    assert (verdict["airflow"], verdict["instance"], verdict["files"]) == ("9.9.9", "checker-0", 2)
    assert server.headers[-1]["Authorization"] == "Bearer secret-token"


def test_a_dag_file_cannot_read_the_token_from_its_parents(server, follower) -> None:
    """Not even where they run as root: the engine was not forked from the process that has the token."""
    code = b"""import os
DAGS = []
parent = os.getppid()
for name in ("environ", "cmdline"):
    with open(f"/proc/{parent}/{name}", "rb") as file:
        DAGS += ["token"] if b"secret-token" in file.read() else []
DAGS += ["token"] if b"secret-token" in repr(dict(os.environ)).encode() else []
DAGS += [f"fd {name}" for name in os.listdir("/proc/self/fd") if int(name) > 5]
"""
    server.state.upload({"look.py": code})
    eventually("a verdict", lambda: server.state.verdicts)
    assert server.state.verdicts[0][1]["dags"] == 0


WITHOUT_PRIVILEGES = ("setpriv", "--bounding-set=-all") if os.geteuid() == 0 else ()
"""What starts a command of the same user without the privileges of root."""


def test_nor_from_the_process_that_has_it_where_they_have_no_privileges(server) -> None:
    code = b"""import os
DAGS = []
with open(f"/proc/{os.getppid()}/stat") as stat:
    checker = stat.read().rpartition(")")[2].split()[1]
with open(f"/proc/{checker}/cmdline", "rb") as file:
    DAGS += ["found it"] if b"fake_checker" in file.read() else []
for name in ("environ", "mem", "maps"):
    try:
        open(f"/proc/{checker}/{name}", "rb").read(1)
        DAGS.append(f"{name} is readable")
    except OSError:
        pass
"""
    server.state.deploy({"look.py": code})
    variables = {**ENVIRONMENT, "DAGFERRY_TOKEN": "secret-token"}
    words = [*WITHOUT_PRIVILEGES, *words_of("--once", "--server", server.url, "--json")]
    done = subprocess.run(words, env=variables, capture_output=True, text=True, check=False, cwd="/")
    assert json.loads(done.stdout)["dags"] == 1, done.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_check_that_runs_and_leaves_nothing(server, follower, tmp_path, number) -> None:
    note = tmp_path / "pid"
    code = f"import os, time\nopen({str(note)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    server.state.upload({**GOOD, "slow.py": code.encode()})
    eventually("the parse to run", lambda: note.exists() and note.read_text())
    follower.send_signal(number)
    assert follower.wait(PATIENCE_SECONDS) == 0
    assert not Path("/proc", note.read_text()).exists()
    assert server.state.left
    assert [path.name for path in (tmp_path / "work").rglob("*")] == [".checker", "lock"]


def test_a_restarted_server_is_followed_again(server, follower) -> None:
    eventually("the first request", lambda: server.headers)
    server.refuse = 3
    server.state.upload(BAD)
    eventually("a verdict", lambda: server.state.verdicts)


def test_mistakes_are_one_line_and_code_2(tmp_path) -> None:
    done = run("--bogus")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("dagferry-checker: ")
    assert len(done.stderr.splitlines()) == 1
