"""Dagferry as the previous release has it: built from a revision of this repository, in an environment of its own."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness import Server, Sidecar

HOME = Path(__file__).parents[1]
REVISION_FILE = HOME / "tests" / "compat" / "revision.txt"
ENVIRONMENTS = HOME / ".venv-previous"
BUILD_SECONDS = 600
"""For the installation of the previous release, which downloads what it needs."""


def previous_python() -> Path:
    """The Python of an environment with the previous release; made by the first who asks, and kept.

    Where the clone lacks the revision, the test is skipped; in CI it fails, unless the clone is known to lack history.
    """
    revision = REVISION_FILE.read_text().strip()
    if subprocess.run(["git", "cat-file", "-e", f"{revision}^{{commit}}"], cwd=HOME, check=False).returncode:
        text = f"This clone lacks the previous release, {revision}: git fetch --unshallow (CI: fetch-depth: 0)"
        shallow = subprocess.run(
            ["git", "rev-parse", "--is-shallow-repository"], cwd=HOME, check=False, capture_output=True, text=True
        )
        if os.environ.get("CI") and shallow.stdout.strip() == "false":
            pytest.fail(text)
        pytest.skip(text)
    environment = ENVIRONMENTS / "{}-{}.{}".format(revision[:12], *sys.version_info)
    ENVIRONMENTS.mkdir(exist_ok=True)
    with (ENVIRONMENTS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the tests run in several processes
        if not (environment / ".complete").exists():
            _build(revision, environment)
    return environment / "bin" / "python"


def packages_of(release: str) -> list[Path]:
    """The folders to put on the path for the packages of ``this`` release or the ``previous`` one."""
    source = HOME if release == "this" else previous_python().parents[1] / "source"
    return sorted({package.parents[1] for package in source.glob("*/dagferry_*/__init__.py")})


def _build(revision: str, environment: Path) -> None:
    """Install that revision with what it pins itself."""
    shutil.rmtree(environment, ignore_errors=True)
    _run(sys.executable, "-m", "venv", environment)
    source = environment / "source"
    archive = environment / "source.tar"
    _run("git", "archive", "--output", archive, revision)
    source.mkdir()
    _run("tar", "-xf", archive, "-C", source)
    pip = (environment / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    pins = [word for name in ("build", "server", "sidecar") for word in ("-r", source / f"requirements/{name}.txt")]
    _run(*pip, "--require-hashes", *pins)
    _run(*pip, "--no-deps", "--no-build-isolation", source)
    (environment / ".complete").touch()


def _run(*command: object) -> None:
    done = subprocess.run(
        [str(word) for word in command], cwd=HOME, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"


class PreviousServer(Server):
    """``dagferry-server`` of the previous release."""

    def _launch(self, *how):
        self.python = previous_python()
        return super()._launch(*how)


class PreviousSidecar(Sidecar):
    """``dagferry-sidecar`` of the previous release."""

    def _launch(self, *how):
        self.python = previous_python()
        return super()._launch(*how)
