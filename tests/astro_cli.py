"""The released ``astro`` CLI, unmodified: a project of its own, a home of its own, and no network but the server."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "astro-cli.md"
PATIENCE_SECONDS = 60
_COLOR = re.compile(r"\x1b\[[0-9;]*m")


class Done(NamedTuple):
    """What a command printed, without colors, and how it ended."""

    code: int
    text: str


class AstroCli:
    """The CLI in the project ``folder/project``, which has ``dags`` and a ``Dockerfile``."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self._program = program()
        self.project = folder / "project"
        self.home = folder / "astro-home"
        for made in (self.home, self.project / ".astro", self.project / "dags"):
            made.mkdir(parents=True)
        (self.project / ".astro" / "config.yaml").write_text("project:\n  name: shop\n")
        (self.project / "Dockerfile").write_text("FROM quay.io/astronomer/astro-runtime:12.1.1\n")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ASTRO", "SSL_"))}
        self._environment = {
            **kept,
            "HOME": str(folder),
            "ASTRO_HOME": str(self.home),
            "ASTRO_TELEMETRY_DISABLED": "1",
            "NO_PROXY": "*",
            **environment,
        }
        self("config", "set", "-g", "upgrade_message", "false")

    def write(self, files: Mapping[str, str]) -> None:
        """Write files of the dags folder."""
        for path, text in files.items():
            (self.project / "dags" / path).write_text(text)

    def __call__(self, *arguments: str, typed: str = "") -> Done:
        """Run ``astro ARGUMENTS`` in the project; ``typed`` is its standard input."""
        return self._run([self._program, *arguments], typed)

    def _run(self, command: list[str], typed: str = "", **environment: str) -> Done:
        done = subprocess.run(
            command,
            cwd=self.project,
            env={**self._environment, **environment},
            input=typed.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        return Done(done.returncode, _COLOR.sub("", done.stdout.decode()))

    def point_to(self, url: str) -> None:
        """Have it take ``url`` for its control plane."""
        assert self("config", "set", "-g", "local.houston", url).code == 0

    def is_configured_for(self, url: str, token: str) -> None:
        """Write what the docs have CI write instead of logging in."""
        (self.home / ".astro").mkdir(exist_ok=True)
        text = documented_configuration().replace("https://dags.example.com/astro", url)
        (self.home / ".astro" / "config.yaml").write_text(text.replace("$DAGFERRY_TOKEN", token))

    def job(self, url: str, token: str) -> Done:
        """Run in the project what the docs have CI run instead of logging in."""
        (self.home / "bin").mkdir()
        (self.home / "bin" / "astro").symlink_to(self._program)
        path = f"{self.home / 'bin'}:{os.environ['PATH']}"
        script = documented_job().replace("https://dags.example.com/astro", url)
        return self._run(["sh", "-euc", script], PATH=path, TMPDIR=str(self.home), DAGFERRY_TOKEN=token)


def documented_job() -> str:
    """What docs/how-to/astro-cli.md has CI run instead of logging in."""
    [found] = re.findall(r"```sh\n(export ASTRO_HOME=.*?)```", PAGE.read_text(), re.DOTALL)
    return str(found)


def documented_configuration() -> str:
    """The CLI's configuration that it writes."""
    [found] = re.findall(r"<<END\n(.*?)^END$", documented_job(), re.DOTALL | re.MULTILINE)
    return str(found)


def program() -> str:
    """The CLI that the variable ``ASTRO_CLI`` names; without it the test is skipped."""
    found = os.environ.get("ASTRO_CLI", "")
    if not found:
        pytest.skip("ASTRO_CLI does not name the astro CLI: the real one is NOT tested here (docs/how-to/astro-cli.md)")
    assert os.access(found, os.X_OK), f"ASTRO_CLI={found} is no program"
    return found
