"""Reads what lies in deploy/, and finds the outside tools that judge it."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

HOME = Path(__file__).parent.parent
COMPOSE = HOME / "deploy" / "compose.yaml"
COMPOSE_LOADER = "github.com/compose-spec/compose-go/v2/cmd@v2.16.2"
"""The same code that ``docker compose`` loads files with, for ``go run``."""
KUBERNETES = HOME / "deploy" / "kubernetes"
AIRFLOW = HOME / "deploy" / "airflow"
TEMPLATES = {HOME / "deploy" / "chart", HOME / "deploy" / "ci"}
"""Folders with files that are not plain YAML; they have tests of their own."""
FILES = sorted(path for path in (HOME / "deploy").rglob("*.yaml") if not TEMPLATES & set(path.parents))


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text()))


WAYS = {
    "sidecar": ("sidecar.yaml",),
    "seeded": ("sidecar.yaml", "image-dags.yaml"),
    "bundle": ("bundle.yaml",),
}
"""Which of the values for Airflow's chart are given together, in this order."""
IMAGES = ("airflow_image", "pod_template_image")
"""The templates of Airflow's chart that our values use."""


def airflow_values(*names: str, **ours: str) -> Any:
    """Values for Airflow's chart, merged as Helm does, with their templates filled in; ``ours`` replace dagferry's.

    Only what these files use of templates is known here; tests with the chart itself have Helm do it.
    """
    merged: Any = {}
    for name in names:
        merged = _merge(merged, yaml.safe_load((AIRFLOW / name).read_text()))
    known = {f"{{{{ .Values.dagferry.{key} }}}}": value for key, value in {**merged.pop("dagferry"), **ours}.items()}
    known |= {text.replace(" }}", " | toJson }}"): json.dumps(value) for text, value in known.items()}
    known |= {f'{{{{ template "{name}" . }}}}': "apache/airflow:3.2.1" for name in IMAGES}
    return _filled(merged, known)


def _merge(below: Any, above: Any) -> Any:
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return {**below, **{key: _merge(below.get(key), value) for key, value in above.items()}}


def _filled(part: Any, known: Mapping[str, str]) -> Any:
    if isinstance(part, dict):
        return {key: _filled(value, known) for key, value in part.items()}
    if isinstance(part, list):
        return [_filled(value, known) for value in part]
    if isinstance(part, str):
        for template, value in known.items():
            part = part.replace(template, value)
        assert "{{" not in part, part
    return part


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
