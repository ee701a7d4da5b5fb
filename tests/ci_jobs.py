"""Jobs of CI systems: their shell steps, taken out of their files and run as their runners run them.

Each runner has its own shell, and its own idea of when a step has failed. What only a service evaluates (rules,
environments, locks) is not run.
"""

import functools
import json
import re
import subprocess
import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from deployfiles import HOME, run, tool

STEP_SECONDS = 120
READER = HOME / "tests" / "jenkinsfile.groovy"
_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)


class Step(NamedTuple):
    """A script, the shell and its options that run it, and the variables that the file gives it."""

    shell: tuple[str, ...]
    script: str
    variables: Mapping[str, str] = {}


class Done(NamedTuple):
    """How a job ended. ``kept`` are the files that Jenkins archived."""

    code: int
    log: str
    kept: Mapping[str, bytes] = {}


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page in this language, also those in lists."""
    return [textwrap.dedent(text) for _, name, text in _BLOCK.findall(page.read_text()) if name == language]


def run_steps(steps: Sequence[Step], checkout: Path, environment: Mapping[str, str]) -> Done:
    """Run steps in a checkout until one fails. ``environment`` wins over the variables of the file, as secrets do."""
    log = ""
    for step in steps:
        script = checkout.parent / "step.sh"
        script.write_text(step.script)
        done = subprocess.run(
            [*tool(list(step.shell)), script],
            cwd=checkout,
            env={**step.variables, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=STEP_SECONDS,
        )
        log += done.stdout
        if done.returncode:
            return Done(done.returncode, log)
    return Done(0, log)


def _texts(variables: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in variables.items()}


def gitlab(text: str, job: str, shell: str = "bash") -> list[Step]:
    """One shell for all lines, which stops at the first failure: bash if the image has it, else sh."""
    config = yaml.safe_load(text)
    found = dict(config[job])
    while base := found.pop("extends", None):
        found = {**config[base], **found}
    variables = {**_texts(config.get("variables", {})), **_texts(found.get("variables", {}))}
    stop = "set -eo pipefail\n" if shell == "bash" else "set -e\n"
    return [Step((shell,), stop + "\n".join(found["script"]), variables)]


def circleci(text: str, job: str) -> Iterator[Step]:
    """A bash of its own for each step."""
    found = yaml.safe_load(text)["jobs"][job]
    for step in found["steps"]:
        if step != "checkout":
            command = step["run"] if isinstance(step["run"], str) else step["run"]["command"]
            yield Step(("bash", "-eo", "pipefail"), command, _texts(found.get("environment", {})))


def azure(text: str, variables: Mapping[str, str]) -> Iterator[Step]:
    """A bash of its own for each step, which does not stop at a failure: the last command decides.

    ``$(NAME)`` is a variable of the pipeline, and stays as it is if there is no such variable.
    """
    [job] = yaml.safe_load(text)["jobs"]
    for step in job["strategy"]["runOnce"]["deploy"]["steps"]:
        if "script" in step:
            filled = {
                name: re.sub(r"\$\((\w+)\)", lambda match: variables.get(match[1], match[0]), value)
                for name, value in _texts(step.get("env", {})).items()
            }
            yield Step(("bash", "--noprofile", "--norc"), step["script"], filled)


def bitbucket(text: str, branch: str, shell: str = "bash") -> list[Step]:
    """One shell for all commands of a step."""
    steps = [one["step"] for one in yaml.safe_load(text)["pipelines"]["branches"][branch]]
    return [Step((shell, "-e"), "\n".join(step["script"])) for step in steps]


def codebuild(text: str) -> list[Step]:
    """One sh for the commands of all phases (version 0.2). A build that failed goes on to ``post_build``."""
    spec = yaml.safe_load(text)
    assert "post_build" not in spec["phases"], "it runs after a failed build too, so nothing can be done there"
    lines = [
        line
        for phase in ("install", "pre_build", "build")
        for line in spec["phases"].get(phase, {}).get("commands", [])
    ]
    return [Step(("sh", "-e"), "\n".join(lines), _texts(spec["env"]["variables"]))]


# --- Jenkins


_STEPS = {"sh", "withCredentials", "archiveArtifacts"}
_INSIDE: Mapping[str, set[str]] = {
    "": {"pipeline"},
    "pipeline": {"agent", "options", "environment", "stages"},
    "agent": {"docker"},
    "docker": {"image"},
    "options": {"disableConcurrentBuilds", "timeout"},
    "environment": set(),
    "stages": {"stage"},
    "stage": {"when", "steps", "post", "options"},
    "when": {"branch", "expression", "anyOf"},
    "anyOf": {"branch", "expression"},
    "steps": _STEPS,
    "withCredentials": _STEPS,
    "post": {"always"},
    "always": _STEPS,
}
"""What may be inside which block of a declarative pipeline, as far as our file uses it. Other calls have no block."""


def read_jenkinsfile(text: str, **variables: str) -> dict[str, Any]:
    """Parse a Jenkinsfile with Groovy; return its calls. ``variables`` are those of the build."""
    return json.loads(_read(text, json.dumps(variables)))


@functools.cache
def _read(text: str, variables: str) -> str:
    with tempfile.NamedTemporaryFile("w", suffix=".groovy") as file:  # Groovy starts in seconds
        file.write(text)
        file.flush()
        return run(*tool(["groovy"]), READER, file.name, variables)


class _Failed(Exception):
    pass


class Jenkins:
    """Runs a declarative pipeline: its stages in their order, with their conditions, credentials and ``post``."""

    def __init__(self, pipeline: Path, checkout: Path, environment: Mapping[str, str]) -> None:
        self.path = pipeline
        self.checkout = checkout
        self.environment = dict(environment)
        self.credentials: dict[str, str] = {}
        """The secret texts that Jenkins has, by their ids."""
        self.log = ""
        self.stages: list[str] = []
        self.kept: dict[str, bytes] = {}

    def build(self, **variables: str) -> Done:
        """Run a build with these variables, such as BRANCH_NAME."""
        self.log, self.stages, self.kept = "", [], {}
        file = read_jenkinsfile(self.path.read_text(), **variables)
        _check(file)
        [pipeline] = file["children"]
        parts = {part["name"]: part for part in pipeline["children"]}
        assert {"agent", "stages"} <= set(parts)
        environment = {**_texts(parts["environment"]["assigned"]), **self.environment, **variables}
        failed = False
        for stage in parts["stages"]["children"]:
            failed = failed or not self._stage(stage, environment)
        return Done(int(failed), self.log, self.kept)

    def _stage(self, stage: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
        parts = {part["name"]: part for part in stage["children"]}
        if not all(_holds(one, environment) for one in parts.get("when", {"children": []})["children"]):
            return True
        self.stages.append(stage["arguments"][0])
        passed = self._passes(parts["steps"], environment)
        for part in parts.get("post", {"children": []})["children"]:
            passed = self._passes(part, environment) and passed
        return passed

    def _passes(self, block: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
        try:
            for step in block["children"]:
                self._step(step, environment)
        except _Failed:
            return False
        return True

    def _step(self, step: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        if step["name"] == "sh":
            # A script without a first line of its own, in the sh of the image.
            done = run_steps([Step(("sh", "-xe"), step["arguments"][0])], self.checkout, environment)
            self.log += done.log
            if done.code:
                raise _Failed
        elif step["name"] == "withCredentials":
            bound = dict(environment)
            for binding in step["arguments"][0]:
                assert binding["name"] == "string"
                if binding["named"]["credentialsId"] not in self.credentials:
                    raise _Failed
                bound[binding["named"]["variable"]] = self.credentials[binding["named"]["credentialsId"]]
            for one in step["children"]:
                self._step(one, bound)
        else:
            path = self.checkout / step["named"]["artifacts"]
            if path.exists():
                self.kept[path.name] = path.read_bytes()
            elif not step["named"].get("allowEmptyArchive"):
                raise _Failed


def _holds(condition: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
    if condition["name"] == "branch":
        return environment.get("BRANCH_NAME") == condition["arguments"][0]
    if condition["name"] == "expression":
        return bool(condition["value"])
    return any(_holds(one, environment) for one in condition["children"])


def _check(call: Mapping[str, Any]) -> None:
    for inner in call["children"]:
        assert inner["name"] in _INSIDE.get(call["name"], set()), f"{inner['name']} is not known in {call['name']}"
        _check(inner)
