"""Every command of the tutorial works when it is pasted, in the order of the page."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness import free_port
from pages import DOCS

PAGE = (DOCS / "tutorial" / "first-deploy.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
INSTALLATION = re.compile(r"^(?:python3 -m venv|\. venv/|pip install) ?.*\n", re.MULTILINE)
SLEEP = """
sleep() {  # until the sidecar waits for the first deploy or has published the newest, however slow the machine is
    for _ in $(seq 600); do
        command sleep 0.1
        curl -s http://127.0.0.1:8001/healthz >/dev/null || continue
        curl -sS http://127.0.0.1:8000/prod/dags/current >current.json
        grep -q '"sequence": *0' current.json && return
        [ -L pod/dags/current ] && grep -q "$(basename "$(readlink pod/dags/current)")" current.json && return
    done
    return 1
}
"""
TIMEOUT_SECONDS = 300


@pytest.mark.slow
def test_the_commands_of_the_tutorial_work(tmp_path: Path) -> None:
    if not shutil.which("curl"):
        assert not os.environ.get("CI"), "apt-get install curl"
        pytest.skip("curl is not installed")
    script = "".join(BLOCKS)
    assert len(INSTALLATION.findall(script)) == 3
    script = SLEEP + INSTALLATION.sub("", script)
    # The ports of the page may be in use here.
    server, sidecar = (f"127.0.0.1:{free_port()}" for _ in range(2))
    script = script.replace("127.0.0.1:8000", server).replace("127.0.0.1:8001", sidecar)
    script = script.replace("dagferry-server --data-dir", f"dagferry-server --listen {server} --data-dir")
    script = script.replace(
        "dagferry-sidecar --deployment", f"dagferry-sidecar --server http://{server} --listen {sidecar} --deployment"
    )
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=os.environ
        | {"HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_PROXY": "*"},
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    printed = done.stdout
    assert re.search(r'"added": ?1', printed)
    assert re.search(r'"changed": ?1', printed)
    assert printed.index('print("Hello")') < printed.index('print("Hello again")')
    assert "a better greeting" in printed
    assert "Nothing was deployed: prod has exactly this content already." in done.stderr + printed
    assert "prod: HEALTHY The only pod has " in printed
    trees = (tmp_path / "dagferry-tutorial" / "pod" / "dags" / ".trees").glob("*/2*")
    assert len([tree for tree in trees if tree.is_dir()]) == 2
