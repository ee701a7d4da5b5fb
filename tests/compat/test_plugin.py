"""The DAG bundle of one release, in a real Airflow 3, follows a server of the other one."""

import json
import os
import subprocess

import pytest

from airflows import environment_of
from previous import packages_of

pytestmark = pytest.mark.airflow

SECONDS = 120
A = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n", "plain.py": b"pass\n"}
B = {**A, "shop.py": b"rate = 2\n"}
OTHER = {"this": "previous", "previous": "this"}

FOLLOW = """
import json, sys
from dagferry_airflow import DagferryBundle

def say(bundle):
    files = {path.name: path.read_text() for path in bundle.path.glob("*.py")}
    print("SAID " + json.dumps([bundle.get_current_version().version, files]), flush=True)

server = sys.argv[1]
live = DagferryBundle(name="prod", refresh_interval=5, server=server)
live.initialize()
say(live)
version = sys.stdin.readline().strip()
live.refresh()
say(live)
task = DagferryBundle(name="prod", refresh_interval=5, server=server, version=version)
task.initialize()
say(task)
"""


def text(files: dict[str, bytes]) -> dict[str, str]:
    return {path: content.decode() for path, content in files.items()}


@pytest.mark.parametrize("release", ["this", "previous"])
def test_a_bundle_follows_a_server_of_the_other_release(serving, tmp_path, release) -> None:
    environment = environment_of(3)
    server = serving(release)
    old = server.deploy(A)["version"]
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON"))},
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(tmp_path / "bundles"),
        "PYTHONPATH": os.pathsep.join(map(str, [*packages_of(OTHER[release]), environment / "plugin"])),
    }
    command = [environment / "bin/python", "-c", FOLLOW, server.url]
    errors = tmp_path / "errors"
    with (
        errors.open("w") as log,
        subprocess.Popen(command, env=variables, text=True, stdin=-1, stdout=-1, stderr=log) as process,
    ):
        first = ""
        while not first.startswith("SAID "):
            first = process.stdout.readline()
            assert first, errors.read_text()
        new = server.deploy(B)["version"]
        out, _ = process.communicate(f"{old}\n", timeout=SECONDS)
        assert process.returncode == 0, errors.read_text()
    said = [json.loads(line[5:]) for line in (first + out).splitlines() if line.startswith("SAID ")]
    assert said == [[old, text(A)], [new, text(B)], [old, text(A)]]
