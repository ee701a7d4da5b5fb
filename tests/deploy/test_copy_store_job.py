"""The Job that copies the chart's volume to a bucket, with what a real server left: others go on from there."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from charts import default
from deployfiles import KUBERNETES, documents
from harness import Server
from object_stores import BUCKET, SERVICES

pytestmark = pytest.mark.slow

[JOB] = documents(KUBERNETES / "copy-store.yaml")
POD = JOB["spec"]["template"]["spec"]
[CONTAINER] = POD["containers"]
VARIABLES = {entry["name"]: entry["value"] for entry in CONTAINER["env"]}
PROGRAM = "/opt/dagferry/bin/dagferry-server"


def run(environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    shell, flags, script = CONTAINER["command"]
    assert PROGRAM in script
    command = [shell, flags, script.replace(PROGRAM, f"{sys.executable} -m dagferry_server")]
    return subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **environment})


def entries(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(server.get("/prod/dags/deploys")[1])["deploys"]
    return found


def test_it_copies_all_deploys_and_may_be_run_again(tmp_path: Path, serve: Any) -> None:
    service = SERVICES["versitygw"]()
    store = f"s3://{BUCKET}/{tmp_path.name}"
    keys = service.variables(service.ports[0])
    before = serve("--deployments", "prod")
    for number in range(3):
        last = before.deploy({"dag.py": f"a = {number}\n".encode()}, "prod")
    history = entries(before)
    before.stop()
    assert VARIABLES.keys() >= {"FROM", "TO", "AWS_REGION"}
    environment = {**VARIABLES, **keys, "FROM": f"file://{before.data}", "TO": store}
    for _ in range(2):
        done = run(environment)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "complete" in done.stdout
    after = serve("--deployments", "prod", "--store", store, data="empty", **keys)
    assert entries(after) == history
    assert after.current("prod")["version"] == last["version"]
    assert after.deploy({"dag.py": b"a = 2\n"}, "prod")["unchanged"]
    assert after.deploy({"dag.py": b"a = 3\n"}, "prod")["sequence"] == len(history) + 1


def test_it_reads_the_volume_and_is_the_account_of_the_chart_s_server() -> None:
    [volume] = [volume for volume in POD["volumes"] if "persistentVolumeClaim" in volume]
    claims = default()["StatefulSet/dagferry-server"]["spec"]["volumeClaimTemplates"]
    assert volume["persistentVolumeClaim"]["claimName"] == f"{claims[0]['metadata']['name']}-dagferry-server-0"
    assert f"ServiceAccount/{POD['serviceAccountName']}" in default()
    mounts = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    assert VARIABLES["FROM"] == f"file://{mounts[volume['name']]}"
