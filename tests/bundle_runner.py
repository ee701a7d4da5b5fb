"""Runs code that uses the DAG bundle in Airflow's environment, without any process of Airflow."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflows import HOME, START_SECONDS, environment_of
from harness import Server

A = {"etl.py": b"import shop\n", "shop.py": b"rate = 1\n"}
B = {**A, "shop.py": b"rate = 2\n"}
C = {**A, "shop.py": b"rate = 3\n"}

HEAD = """
import json, sys
from airflow.exceptions import AirflowException
from dagferry_airflow import DagferryBundle, pin
from dagferry_follow.remote import server as fetch

def made(version=None, name="prod", **kwargs):
    return DagferryBundle(name=name, version=version, refresh_interval=5, **kwargs)

def raised(call):
    try:
        call()
    except AirflowException as error:  # all that Airflow 3.0 to 3.2 survive
        return type(error).__name__, str(error)
    return "", ""

def say(what):
    print("\\n" + json.dumps(what), flush=True)
"""


def run_in(folder: Path, code: str, during: Callable[[], None] = lambda: None) -> Any:
    """Run code in Airflow's environment, and return its last output; ``during`` is called after its first output."""
    environment = environment_of(3)
    folders = [HOME / "core", HOME / "follow", HOME / "airflow_plugin", environment / "plugin"]
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON"))},
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(folder / "bundles"),
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
    }

    with subprocess.Popen(
        [environment / "bin/python", "-c", HEAD + code], env=variables, text=True, stdin=-1, stdout=-1, stderr=-1
    ) as process:
        first = ""
        while process.stdout and not first.startswith(("[", "{", '"')):
            first = process.stdout.readline()
            assert first, process.communicate()
        during()
        out, errors = process.communicate("go on\n", timeout=START_SECONDS)
        assert process.returncode == 0, errors
        return json.loads((first + out).strip().splitlines()[-1])


def of_a_task(server: Server, version: str | None) -> str:
    """Code that says what a task of that version gets, or what is raised."""
    return f"""
import pathlib
pin.note_task()
bundle = made({version!r}, server={server.url!r})
kind, text = raised(bundle.initialize)
say([kind, text, kind or {{path.name: path.read_text() for path in sorted(bundle.path.glob("*"))}}])
"""


def as_text(files: dict[str, bytes]) -> dict[str, str]:
    return {path: content.decode() for path, content in files.items()}
