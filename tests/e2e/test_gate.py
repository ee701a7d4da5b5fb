"""The gate of a real server: what is stopped never reaches a pod, and what goes on in an emergency."""

import json
import os
import subprocess
import sys

from dagferry_core.errors import EXIT_USAGE
from harness import pack

DAGS = {f"{name}.py": f"from airflow import DAG\n# {name}\n".encode() for name in "abcde"}
BROKEN = {**DAGS, "a.py": b"from airflow import DAG\nx = (\n"}


def test_what_does_not_parse_is_stopped_unless_somebody_overrides_and_a_rollback_undoes_it(serve, follow) -> None:
    server = serve("--airflow-python", "3.12")
    pod = follow(server, "pod")
    good = server.deploy(DAGS)
    pod.runs(good["version"])

    status, body = server.request("/default/dags/upload", pack(BROKEN))
    assert (status, json.loads(body)["code"]) == (422, "gate_refused")
    status, body = server.request("/default/dags/upload", pack({"a.py": DAGS["a.py"]}))
    assert (status, json.loads(body)["removed_paths"]) == (422, ["b.py", "c.py", "d.py", "e.py"])
    assert server.current()["version"] == good["version"]
    assert pod.tree() == DAGS

    forced = server.deploy(BROKEN, query="?skip_gate=1")
    assert pod.runs(forced["version"]).tree() == BROKEN
    undone = server.rollback(good["version"])
    assert pod.runs(undone["version"]).tree() == DAGS
    metrics = server.get("/metrics")[1].decode()
    for code in ("gate_refused", "removals_refused"):
        assert f'dagferry_server_refusals_total{{deployment="default",outcome="{code}"}} 1.0' in metrics
    refusals = [line for line in server.logged() if line["message"] == "Deploy refused"]
    assert [(line["code"], line["deployment"], line["actor"]) for line in refusals] == [
        ("gate_refused", "default", "anonymous"),
        ("removals_refused", "default", "anonymous"),
    ]
    checks = [line for line in server.logged() if line["message"] == "DAG files checked"]
    assert [line["problems"] for line in checks] == [0, 1, 0, 1, 0]
    assert {line["deployment"] for line in checks if line["seconds"] >= 0} == {"default"}


def test_after_a_restart_with_files_left_by_a_kill_it_checks_as_before(serve) -> None:
    server = serve("--airflow-python", "3.12")
    server.deploy(DAGS)
    server.kill()
    left = server.data / ".check-left"
    left.mkdir()
    (left / "0.py").write_bytes(b"secret = 1")
    server = serve("--airflow-python", "3.12")
    assert not left.exists()
    assert server.request("/default/dags/upload", pack(BROKEN))[0] == 422
    assert sorted(path.name for path in server.data.iterdir()) == [".lock", "default"]


def test_a_server_without_ruff_ends_with_one_line_that_says_what_to_install(tmp_path) -> None:
    code = """
import sys
sys.modules["ruff"] = None
sys.argv = ["dagferry-server", "--data-dir", sys.argv[1], "--listen", "127.0.0.1:0"]
import dagferry_server.__main__ as command
sys.exit(command.main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "data")],
        env={**os.environ, "PATH": "/nonexistent"}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == EXIT_USAGE
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert "The gate needs ruff, which is not installed." in line
    assert "pip install" in line
