"""Reads what lies in deploy/, and finds the outside tools that judge it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

HOME = Path(__file__).parent.parent
COMPOSE = HOME / "deploy" / "compose.yaml"
COMPOSE_LOADER = "github.com/compose-spec/compose-go/v2/cmd@v2.16.2"
"""The same code that ``docker compose`` loads files with, for ``go run``."""
KUBERNETES = HOME / "deploy" / "kubernetes"
TEMPLATES = {HOME / "deploy" / "chart", HOME / "deploy" / "ci"}
"""Folders with files that are not plain YAML; they have tests of their own."""
FILES = sorted(path for path in (HOME / "deploy").rglob("*.yaml") if not TEMPLATES & set(path.parents))


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text()))


def containers(part: Any) -> Iterator[dict[str, Any]]:
    """Everything in a file that runs one of our images: a mapping with a key ``image`` that starts with dagferry-."""
    if isinstance(part, dict):
        if str(part.get("image", "")).startswith("dagferry-"):
            yield part
        for value in part.values():
            yield from containers(value)
    elif isinstance(part, list):
        for value in part:
            yield from containers(value)


def tool(*candidates: list[str]) -> list[str]:
    """The first command of which the machine has the program; without any the test is skipped, but fails in CI."""
    for command in candidates:
        if shutil.which(command[0]):
            return command
    names = ", ".join(command[0] for command in candidates)
    if os.environ.get("CI"):
        pytest.fail(f"CI needs one of: {names}")
    pytest.skip(f"needs one of: {names}")


def run(*command: str | Path) -> str:
    """What a command prints; its complaint is the failure."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
