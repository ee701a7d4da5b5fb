"""Renders the Helm chart.

Helm is the program in HELM, the one that ``tests/cluster`` has built, or the one in PATH; without any the test is
skipped, or fails in CI. No cluster is asked: what Helm takes from one (its version and APIs) is given.
"""

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.programs import NotBuilt, find

HOME = Path(__file__).parent.parent
CHART = HOME / "deploy" / "chart" / "dagferry"
RELEASE, NAMESPACE, KUBERNETES = "dagferry", "airflow", "1.29.0"

Document = dict[str, Any]


def helm() -> str:
    """The path of Helm."""
    if given := os.environ.get("HELM"):
        return given
    try:
        return str(find("helm"))
    except NotBuilt as reason:
        if found := shutil.which("helm"):
            return found
        if os.environ.get("CI"):
            pytest.fail(f"CI needs Helm: {reason}")
        pytest.skip(f"needs Helm, in PATH or in HELM: {reason}")


def template(
    values: object,
    *arguments: str,
    release: str = RELEASE,
    namespace: str = NAMESPACE,
    kubernetes: str = KUBERNETES,
    chart: Path = CHART,
) -> subprocess.CompletedProcess[str]:
    """What ``helm template`` says to ``values``."""
    command = [helm(), "template", release, chart, "-n", namespace, "--kube-version", kubernetes, "-f", "-", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, input=json.dumps(values))


def render(values: object = None, *arguments: str, **options: Any) -> dict[str, Document]:
    """The objects that the chart makes of ``values``, by kind and name, such as ``Service/dagferry-server``."""
    done = template(values or {}, *arguments, **options)
    assert done.returncode == 0, done.stderr
    documents = [document for document in yaml.safe_load_all(done.stdout) if document]
    named = {f"{document['kind']}/{document['metadata']['name']}": document for document in documents}
    assert len(named) == len(documents)
    return named


def refusal(values: object, **options: Any) -> str:
    """Why Helm refuses ``values``."""
    done = template(values, **options)
    assert done.returncode != 0, done.stdout
    return done.stderr


@functools.cache
def default() -> dict[str, Document]:
    """The objects of a chart without any values. Not to be changed."""
    return render()


def pod(rendered: dict[str, Document], name: str = f"{RELEASE}-server") -> Document:
    """The server's pod: of a StatefulSet, or with an object store of a Deployment."""
    [found] = [rendered[key] for kind in ("StatefulSet", "Deployment") if (key := f"{kind}/{name}") in rendered]
    spec: Document = found["spec"]["template"]["spec"]
    return spec


def server(rendered: dict[str, Document]) -> Document:
    """The container of the server."""
    found: Document = pod(rendered)["containers"][0]
    return found


def arguments(rendered: dict[str, Document]) -> list[str]:
    """The command line of the server."""
    found: list[str] = server(rendered)["args"]
    return found
