"""Runs a composite action as the runner of GitHub Actions does: its environment, its files, its commands in the log.

What the real runner would let pass with a warning (an input that the action does not have, an expression that is empty)
fails the test here.
"""

import os
import re
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

PATIENCE_SECONDS = 120
COMMANDS = {
    "add-mask", "add-matcher", "add-path", "debug", "echo", "endgroup", "error", "group", "notice", "remove-matcher",
    "save-state", "set-env", "set-output", "stop-commands", "warning",
}  # fmt: skip
"""What the runner takes for a command; everything else that looks like one is a line of the log."""
MASKED = "***"
_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_OLD_STYLE = re.compile(r"##\[([^\s\]]+)[^\]]*\](.*)")


class Annotation(NamedTuple):
    """An error or a warning that GitHub shows. ``properties`` are file, line, col and title."""

    kind: str
    message: str
    properties: dict[str, str]


class Done(NamedTuple):
    """What became of the action. ``commands`` are the names of those that the runner took."""

    code: int
    log: str
    outputs: dict[str, str]
    summary: str
    annotations: list[Annotation]
    commands: list[str]

    @property
    def is_green(self) -> bool:
        return self.code == 0

    def errors(self) -> list[str]:
        return [one.message for one in self.annotations if one.kind == "error"]

    def warnings(self) -> list[str]:
        return [one.message for one in self.annotations if one.kind == "warning"]


class Runner:
    """Runs the action in ``folder`` in a ``workspace``; ``environment`` is what a job's steps have in it."""

    def __init__(self, folder: Path, workspace: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.workspace = workspace
        self.environment = dict(environment)
        self.github_token = "ghs_thetokenofthejob"
        self.temp = workspace.parent / "temp"
        self.temp.mkdir(exist_ok=True)

    def run(self, given: Mapping[str, str], **environment: str) -> Done:
        """Run all steps of the action with these inputs, and more variables of the job."""
        action = yaml.safe_load((self.folder / "action.yml").read_text())
        unknown = set(given) - set(action["inputs"])
        assert not unknown, f"the action has no input {unknown}"
        contexts: dict[str, Any] = {"github": {"token": self.github_token}, "inputs": {}, "steps": {}}
        for name, one in action["inputs"].items():
            contexts["inputs"][name] = given[name] if name in given else _evaluate(one["default"], contexts)
        assert action["runs"]["using"] == "composite"
        log = _Log()
        code, summary = 0, ""
        for step in action["runs"]["steps"]:
            if code == 0:
                code, outputs, said = self._step(step, contexts, environment, log)
                contexts["steps"][step["id"]] = {"outputs": outputs}
                summary += said
        values = {name: _evaluate(one["value"], contexts) for name, one in action["outputs"].items()}
        assert not list(self.temp.iterdir()), "a step cleans up"
        return Done(code, "\n".join(log.lines), values, summary, log.annotations, log.commands)

    def _step(
        self, step: Mapping[str, Any], contexts: Mapping[str, Any], more: Mapping[str, str], log: "_Log"
    ) -> tuple[int, dict[str, str], str]:
        assert set(step) <= {"id", "name", "shell", "env", "run"}, "write what else a step may have into this runner"
        assert step["shell"] == "bash"
        assert not _EXPRESSION.search(step["run"]), "an expression in a script is how texts of others get executed"
        files = self.workspace.parent / f"runner-{uuid.uuid4()}"
        files.mkdir()
        names = {
            "GITHUB_OUTPUT": "output",
            "GITHUB_STEP_SUMMARY": "summary",
            "GITHUB_ENV": "env",
            "GITHUB_PATH": "path",
        }
        for name in names.values():
            (files / name).touch()
        script = files / "script.sh"
        script.write_text(step["run"])
        environment = {
            **self.environment,
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(self.folder),
            "GITHUB_WORKSPACE": str(self.workspace),
            "RUNNER_TEMP": str(self.temp),
            **{variable: str(files / name) for variable, name in names.items()},
            **more,
            **{name: _evaluate(value, contexts) for name, value in step.get("env", {}).items()},
        }
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", script],
            cwd=self.workspace,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        for line in done.stdout.decode(errors="replace").splitlines():
            log.add(line)
        assert log.is_listening, "a step that stops commands resumes them"
        assert (files / "env").read_bytes() == (files / "path").read_bytes() == b"", "later steps are not changed"
        return done.returncode, read_outputs((files / "output").read_text()), (files / "summary").read_text()


class _Log:
    """Reads the log as the runner does: takes commands out of it, and masks secrets."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.annotations: list[Annotation] = []
        self.commands: list[str] = []
        self._masks: list[str] = []
        self._stopped = ""

    @property
    def is_listening(self) -> bool:
        return not self._stopped

    def add(self, line: str) -> None:
        found = self._command(line)
        if found is None:
            self.lines.append(self._masked(line))
            return
        name, message, properties = found
        self.commands.append(name)
        if name == "add-mask":
            assert message, "the runner refuses an empty secret"
            self._masks += [message, *message.splitlines()]
        elif name == "stop-commands":
            assert message not in COMMANDS
            assert len(message) > 20, "nobody may know the word"
            self._stopped = message
        elif name in {"error", "warning", "notice"}:
            self.annotations.append(Annotation(name, self._masked(message), properties))
            self.lines.append(self._masked(f"{name.title()}: {message}"))

    def _command(self, line: str) -> tuple[str, str, dict[str, str]] | None:
        stripped = line.lstrip()
        if self._stopped:
            if stripped != f"::{self._stopped}::":
                return None
            self._stopped = ""
            return "resume", "", {}
        if stripped.startswith("::") and "::" in stripped[2:]:
            head, _, message = stripped[2:].partition("::")
            name, _, rest = head.partition(" ")
            if name in COMMANDS:
                pairs = (one.partition("=") for one in rest.split(",") if one)
                return name, unescaped(message), {key.strip(): unescaped(value) for key, _, value in pairs}
        if (old := _OLD_STYLE.search(line)) and old[1] in COMMANDS:
            return old[1], old[2], {}
        return None

    def _masked(self, text: str) -> str:
        for mask in self._masks:
            text = text.replace(mask, MASKED)
        return text


def unescaped(text: str) -> str:
    """A value in a command, as the runner reads it."""
    for written, meant in (("%3A", ":"), ("%2C", ","), ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
        text = text.replace(written, meant)
    return text


def read_outputs(text: str) -> dict[str, str]:
    """What a file of outputs sets, by the rules of the runner; what it would refuse is an error."""
    found: dict[str, str] = {}
    lines = iter(text.split("\n"))
    for line in lines:
        if not line:
            continue
        name, _, end = line.partition("<<")
        if "=" in name or not end:
            name, equals, value = line.partition("=")
            assert equals, f"invalid format: {line!r}"
            found[name] = value
            continue
        value = []
        while (one := next(lines, None)) != end:
            assert one is not None, f"no end {end!r}"
            value.append(one)
        found[name] = "\n".join(value)
    return found


def _evaluate(text: object, contexts: Mapping[str, Any]) -> str:
    """Evaluate the expressions in a value: names of contexts alone, which must be known."""

    def value(match: re.Match[str]) -> str:
        found: Any = contexts
        *path, last = match[1].strip().split(".")
        for name in path:
            found = found[name]
        # A step that failed may have set no output.
        return str(found.get(last, "") if path[:1] == ["steps"] else found[last])

    return _EXPRESSION.sub(value, str(text))


def clean_environment(home: Path, programs: Path) -> dict[str, str]:
    """What a job has in its environment before GitHub's variables; ``programs`` has dagferry and python3."""
    home.mkdir(exist_ok=True)
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_REPOSITORY": "acme/dags",
        "GITHUB_RUN_ID": "77",
        "GITHUB_ACTOR": "ann",
    }
