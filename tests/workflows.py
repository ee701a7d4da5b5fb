"""Workflows of GitHub Actions as the runner reads them: their jobs, and their shell steps run as it runs them."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

HOME = Path(__file__).parent.parent
EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
STEP_SECONDS = 120


class Step(NamedTuple):
    """A step of a job; ``env`` has the variables of the workflow, of the job and of the step."""

    name: str
    run: str
    uses: str
    inputs: Mapping[str, str]
    env: Mapping[str, str]


class Done(NamedTuple):
    """What a shell step left: its exit code, what it printed, its outputs and the folders that it added to PATH."""

    code: int
    out: str
    err: str
    outputs: dict[str, str]
    path: list[str]


def read(path: Path) -> dict[str, Any]:
    """Return a workflow; YAML 1.1 reads its key ``on`` as true."""
    workflow = yaml.safe_load(path.read_text())
    workflow["on"] = workflow.pop(True)
    return workflow


def steps(workflow: Mapping[str, Any], job: str) -> Iterator[Step]:
    """Yield the steps of a job."""
    for step in workflow["jobs"][job]["steps"]:
        levels = (workflow, workflow["jobs"][job], step)
        env = {name: str(value) for level in levels for name, value in level.get("env", {}).items()}
        inputs = {name: str(value) for name, value in step.get("with", {}).items()}
        yield Step(step.get("name", ""), step.get("run", ""), step.get("uses", ""), inputs, env)


def shell_steps(path: Path, job: str) -> dict[str, Step]:
    """Return the steps of a job that run a shell, by name."""
    return {step.name: step for step in steps(read(path), job) if step.run}


def filled(text: str, values: Mapping[str, str]) -> str:
    """Replace each expression by its value, as the runner does; one without a value is a ``KeyError``."""
    return EXPRESSION.sub(lambda match: values[match[1]], text)


def run_step(step: Step, folder: Path, values: Mapping[str, str], path: str, **variables: str) -> Done:
    """Run a shell step in ``folder`` as the runner does: its variables, then ``bash -e``, here with pipefail.

    ``values`` are those of the expressions, ``path`` is PATH, ``variables`` are those that the runner sets.
    """
    files = {name: folder.parent / name for name in ("GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STEP_SUMMARY")}
    for file in files.values():
        file.write_text("")
    temp = folder.parent / "temp"
    temp.mkdir(exist_ok=True)
    script = folder.parent / "script.sh"
    script.write_text(filled(step.run, values))
    ran = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", script],
        cwd=folder,
        env={
            "PATH": path,
            "HOME": str(folder.parent),
            "LANG": "C.UTF-8",
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "RUNNER_TEMP": str(temp),
            **{name: str(file) for name, file in files.items()},
            **{name: filled(value, values) for name, value in step.env.items()},
            **variables,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=STEP_SECONDS,
    )
    outputs = dict(line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text().splitlines())
    return Done(ran.returncode, ran.stdout, ran.stderr, outputs, files["GITHUB_PATH"].read_text().split())


def stand_in(folder: Path, name: str, script: str) -> str:
    """Write a command that takes the place of a real one; return ``folder``, for PATH."""
    folder.mkdir(exist_ok=True)
    command = folder / name
    command.write_text(f"#!/usr/bin/env bash\nset -euo pipefail\n{script}")
    command.chmod(0o755)
    return str(folder)


def search_path(*folders: str | Path) -> str:
    """Return a PATH of these folders and that of the tests."""
    return os.pathsep.join([*map(str, folders), os.environ["PATH"]])
