"""Fixtures of the tests of ``dagferry``: a scripted server, and the command, run in this process."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dagferry_client import app
from scripted_server import ScriptedServer

FOREIGN = ("DAGFERRY_", "GITHUB_", "GITLAB_", "CI", "ACTIONS_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
"""How the names of variables begin that change what the command does."""


class Done(NamedTuple):
    """What a command did: its exit code, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    yield scripted
    scripted.stop()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The folder in which the commands run, the root of a git repository without a commit."""
    (tmp_path / "project" / ".git").mkdir(parents=True)
    return tmp_path / "project"


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of this machine changes what a command does, and none of its caches."""
    import os

    for name in list(os.environ):
        if name.upper().startswith(FOREIGN):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def dagferry(
    clean_environment: None,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Done]:
    """Run ``dagferry ARGUMENTS`` in ``project`` with the variables that are given; ``NAME=None`` removes one."""

    def run(*arguments: str, **environment: str | None) -> Done:
        with monkeypatch.context() as patch:
            patch.chdir(project)
            patch.setattr(sys, "unraisablehook", sys.unraisablehook)  # an interrupt replaces it for good
            for name, value in environment.items():
                patch.delenv(name, raising=False) if value is None else patch.setenv(name, value)
            capsys.readouterr()
            code = app.main(arguments)
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err)

    return run


@pytest.fixture
def at(dagferry: Callable[..., Done], server: ScriptedServer) -> Callable[..., Done]:
    """``dagferry`` against the scripted server, for the deployment ``prod``."""

    def run(*arguments: str, **environment: str | None) -> Done:
        return dagferry(*arguments, **{"DAGFERRY_SERVER": server.url, "DAGFERRY_DEPLOYMENT": "prod", **environment})

    return run


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client waited before each further attempt, without waiting."""
    import dagferry_client.http

    waited: list[float] = []

    class Clock:
        """Time that passes only while somebody sleeps."""

        now = 0.0

        @classmethod
        def monotonic(cls) -> float:
            return cls.now

        @classmethod
        def sleep(cls, seconds: float) -> None:
            waited.append(seconds)
            cls.now += seconds

    monkeypatch.setattr(dagferry_client.http, "time", Clock)
    return waited
