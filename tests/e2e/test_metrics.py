"""The scrapes of both commands are what Prometheus expects, after real work."""

import os
import shutil
import subprocess

import pytest

from harness import eventually


@pytest.fixture(scope="module", autouse=True)
def _promtool() -> None:
    if not shutil.which("promtool"):
        assert not os.environ.get("CI"), "promtool (Debian: prometheus) is not installed"
        pytest.skip("promtool (Debian: prometheus) is not installed")


def complaints(text: str) -> bytes:
    checked = subprocess.run(["promtool", "check", "metrics"], check=False, input=text.encode(), capture_output=True)
    return checked.stdout + checked.stderr


def test_promtool_finds_nothing_to_complain_about(serve, follow) -> None:
    server = serve()
    pod = follow(server)
    for number in range(2):
        pod.runs(server.deploy({"dag.py": b"n = %d\n" % number})["version"])
    assert server.request("/default/dags/upload", b"no archive\n")[0] == 422
    assert complaints(server.get("/metrics")[1].decode()) == b""
    assert complaints(pod.probe("/metrics")[1]) == b""


def test_the_metrics_show_what_happened(serve, follow) -> None:
    server = serve()
    pod = follow(server)
    version = server.deploy({"dag.py": b"n = 1\n"})["version"]
    pod.runs(version)
    server.deploy({"dag.py": b"n = 1\n"})
    server.request("/default/dags/upload", b"no archive\n")
    text = server.get("/metrics")[1].decode()
    for outcome in ("ok", "unchanged", "archive_not_recognized"):
        assert f'dagferry_server_uploads_total{{deployment="default",outcome="{outcome}"}} 1.0' in text
    assert 'dagferry_server_current_sequence{deployment="default"} 1.0' in text
    eventually("the sync", lambda: pod.metric('dagferry_sidecar_syncs_total{outcome="ok"}') == 1)
    assert pod.metric("dagferry_sidecar_live_sequence") == 1
