"""What `helm test` runs deploys to a real server and reads it back, leaves nothing behind, and fails when it should."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from charts import CHART, default, server
from dagferry_core.tokens import make_token

pytestmark = pytest.mark.slow
SCRIPT = CHART / "files" / "helm_test.py"
NAME = "helm-test"


def ran(url: str, token: Path) -> tuple[int, str]:
    """The exit code of the script, and what it prints."""
    environment = {**os.environ, "SERVER": url, "DEPLOYMENT": NAME, "TOKEN_FILE": str(token), "NO_PROXY": "*"}
    # Fewer attempts, as nothing else will start in the meantime.
    code = SCRIPT.read_text().replace("ATTEMPTS, PAUSE_SECONDS = 30, 2", "ATTEMPTS, PAUSE_SECONDS = 2, 0.1")
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.fixture
def start(tmp_path: Path, serve: Any) -> Any:
    """Start a server with a token of some scopes for the test's deployment; return both."""

    def started(*scopes: Any, deployments: tuple[str, ...] = (NAME,)) -> tuple[Any, Path]:
        test, reader = make_token("test", scopes, deployments), make_token("reader", ["read"], ["*"])
        (tmp_path / "tokens.toml").write_text(f"tokens = [\n{test.entry}\n{reader.entry}\n]\n")
        (tmp_path / "token").write_text(test.secret + "\n")
        (tmp_path / "reader").write_text(reader.secret)
        return serve("--deployments", "prod", "--tokens-file", str(tmp_path / "tokens.toml")), tmp_path / "token"

    return started


def test_it_deploys_and_reads_back_and_what_it_made_is_gone_afterwards(tmp_path: Path, start: Any) -> None:
    running, token = start("admin", "deploy")
    for _ in range(2):
        assert ran(running.url, token) == (0, "A deploy was stored and read back.\n")
    reader = (tmp_path / "reader").read_text()
    assert NAME not in running.get("/-/deployments", Authorization=reader)[1].decode()
    assert running.get(f"/{NAME}/dags/deploys", Authorization=reader)[0] == 404


def test_it_fails_and_says_why_where_it_may_not_deploy(start: Any) -> None:
    running, token = start("admin", "read")
    code, printed = ran(running.url, token)
    assert code == 1
    assert f"POST /{NAME}/dags/upload: 403 " in printed


def test_it_fails_and_says_why_where_nobody_listens(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("dgf_x")
    code, printed = ran("http://127.0.0.1:9", tmp_path / "token")
    assert code == 1
    assert "Connection refused" in printed


def test_the_pod_runs_this_script_with_the_image_s_python_and_its_own_token() -> None:
    spec = default()["Pod/dagferry-test"]["spec"]
    [container] = spec["containers"]
    assert container["command"][:2] == ["/opt/dagferry/bin/python", "-c"]
    assert container["command"][2].strip() == SCRIPT.read_text().strip()
    assert container["image"] == server(default())["image"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment["DEPLOYMENT"] == NAME
    [mount] = container["volumeMounts"]
    assert environment["TOKEN_FILE"] == f"{mount['mountPath']}/token"
    assert spec["serviceAccountName"] == "dagferry-test"
