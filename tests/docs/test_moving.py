"""The commands that compare before a move fetch what a pod has, and say whether the server has the same."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import Server, tree
from pages import DOCS

PAGE = (DOCS / "how-to" / "move-to-dagferry-and-back.md").read_text()
FILES = {"dag.py": b"a = 1\n", "lib/b.py": b"b = 1\n"}
SAME = "There is no difference."
POD = {"From git-sync": "opt/airflow/dags/repo/dags", "From DAGs in the image": "opt/airflow/dags"}
"""Where each section looks for the DAGs in a pod."""
KUBECTL = """#!/bin/sh
# Runs what follows "--" in the pod: a folder of this machine.
[ "$1 $2 $3" = "exec -n airflow" ] || exit 9
while [ "$1" != -- ]; do shift; done
shift
command=$(printf '%s ' "$@" | sed "s| /opt/| $POD/opt/|")
exec $command
"""
ANSWER_SECONDS = 60


def section(title: str) -> str:
    [found] = re.findall(rf"^### {title}\n(.*?)(?=^##|\Z)|^## {title}\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return "".join(found)


def commands(title: str) -> list[str]:
    """The scripts of a section, one for each block."""
    return [
        re.sub(r"^   ", "", block, flags=re.MULTILINE)
        for block in re.findall(r"```sh\n(.*?)```", section(title), re.DOTALL)
    ]


def write(folder: Path, files: dict[str, bytes]) -> None:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


@pytest.fixture
def start(serve: Any, tmp_path: Path) -> Any:
    """Run a script of the page in an empty project, with a server, and a pod in ``tmp_path/pod``."""
    server: Server = serve("--deployments", "prod")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "kubectl").write_text(KUBECTL)
    (tmp_path / "bin" / "kubectl").chmod(0o755)
    (tmp_path / "project").mkdir()
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "POD": str(tmp_path / "pod"),
        "DAGFERRY_SERVER": server.url,
    }

    def run(script: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path / "project",
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=ANSWER_SECONDS,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.mark.slow
@pytest.mark.parametrize("title", POD)
def test_a_pod_that_has_the_same_is_the_same_and_one_that_has_not_is_named(
    title: str, start: Any, tmp_path: Path
) -> None:
    deploy, compare = commands(title)
    write(tmp_path / "project" / "dags", FILES)
    pod = tmp_path / "pod" / POD[title]
    if title == "From git-sync":  # its layout: a link to a worktree, which is replaced
        worktree = tmp_path / "pod" / "opt/airflow/dags/.worktrees/0123abcd"
        write(worktree / "dags", FILES)
        (worktree / ".git").write_text("gitdir: ../..")
        (worktree.parent.parent / "repo").symlink_to(".worktrees/0123abcd")
    else:
        write(pod, FILES)
    start(deploy)
    assert SAME in start(compare)
    assert f"`{SAME}`" in PAGE
    (pod / "dag.py").write_bytes(b"a = 2\n")
    assert "dag.py" in start(f"rm -r live image 2>/dev/null || true\n{compare}")


@pytest.mark.slow
def test_the_way_back_starts_from_what_is_live(start: Any, tmp_path: Path) -> None:
    write(tmp_path / "project" / "dags", FILES)
    [deploy, *_] = commands("From git-sync")
    start(deploy)
    [diff] = commands("Back to git-sync")
    assert SAME in start(diff)
    (tmp_path / "project" / "dags" / "dag.py").write_bytes(b"older")
    assert "dag.py" in start(diff)
    [download] = commands("Back to DAGs in the image")
    start(download)
    assert tree(tmp_path / "project" / "image-dags") == FILES
