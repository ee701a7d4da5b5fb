"""What runs prod's DAGs on a laptop: a valid compose file that reaches no server, and commands that fetch the DAGs."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deployfiles import COMPOSE_LOADER, HOME, documents, run, tool
from harness import tree

COMPOSE = HOME / "deploy" / "laptop" / "compose.yaml"
[PROJECT] = documents(COMPOSE)
PAGE = (HOME / "docs" / "how-to" / "run-prod-dags-on-a-laptop.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
ANSWER_SECONDS = 60


def test_it_is_a_valid_compose_file() -> None:
    if subprocess.run(["docker", "compose", "version"], check=False, capture_output=True).returncode == 0:
        run("docker", "compose", "-f", COMPOSE, "config", "--quiet")
    else:
        run(*tool(["go", "run", COMPOSE_LOADER]), COMPOSE)


def test_it_shows_airflow_to_this_machine_alone_and_starts_no_dag_by_itself() -> None:
    [service] = PROJECT["services"].values()
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["environment"]["AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION"] == "true"
    assert not any("DAGFERRY" in name for name in service["environment"])


def test_the_folder_of_the_page_is_the_one_that_airflow_reads_and_git_ignores_it() -> None:
    [service] = PROJECT["services"].values()
    assert service["volumes"] == [f"./dags:{service['environment']['AIRFLOW__CORE__DAGS_FOLDER']}:ro"]
    downloads = [command for command in COMMANDS if command.startswith("dagferry download")]
    assert [command.split()[-1] for command in downloads] == [str(COMPOSE.parent.relative_to(HOME) / "dags")]
    assert "/deploy/laptop/dags/" in (HOME / ".gitignore").read_text().splitlines()


@pytest.mark.slow
def test_the_commands_of_the_page_fetch_what_is_deployed_and_show_what_was_changed(serve: Any, tmp_path: Path) -> None:
    server = serve("--deployments", "prod")
    server.deploy({"dag.py": b"a = 1\n", "sql/b.sql": b"select 1\n"}, "prod")
    download, compose, diff = COMMANDS
    assert compose.startswith("docker compose -f deploy/laptop/compose.yaml ")
    (tmp_path / "deploy" / "laptop").mkdir(parents=True)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "DAGFERRY_SERVER": server.url,
    }

    def start(command: str) -> str:
        done = subprocess.run(
            command.split(),
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=ANSWER_SECONDS,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    start(download)
    folder = tmp_path / "deploy" / "laptop" / "dags"
    assert tree(folder) == {"dag.py": b"a = 1\n", "sql/b.sql": b"select 1\n"}
    assert "dag.py" not in start(diff)
    (folder / "dag.py").write_text("a = 2\n")
    assert "dag.py" in start(diff)
