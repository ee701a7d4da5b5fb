"""Renders Airflow's official chart, which is in no registry.

``AIRFLOW_CHART`` names its folder, or several with ``:`` between them: one of each version, the newest first. Without
it the tests are skipped, in CI too.
"""

import functools
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts import Document, render, template
from deployfiles import AIRFLOW, HOME, WAYS

PAGE = HOME / "docs" / "how-to" / "connect-the-airflow-chart.md"
EXECUTORS = ("CeleryExecutor", "LocalExecutor", "KubernetesExecutor", "CeleryExecutor,KubernetesExecutor")
DATABASE = {
    "postgresql": {"enabled": False},
    "data": {"metadataConnection": {"user": "u", "pass": "p", "protocol": "postgresql", "host": "db", "db": "a"}},
}
"""What is no concern of ours, and would need another chart."""
_SECURITY = {"runAsUser": 50000, "fsGroup": 0, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
RESTRICTED = {"securityContexts": {"pod": _SECURITY}}
"""What the chart needs so that Airflow's own containers keep to the Pod Security Standard "restricted"."""
READERS = {"dag-processor", "scheduler", "triggerer", "worker"}
RELEASE = "airflow"


@functools.cache
def airflow_charts() -> dict[tuple[int, int], Path]:
    """The folders of the chart that are here, by its version."""
    folders = [Path(folder) for folder in os.environ.get("AIRFLOW_CHART", "").split(os.pathsep) if folder]
    found = {}
    for folder in folders:
        major, minor = yaml.safe_load((folder / "Chart.yaml").read_text())["version"].split(".")[:2]
        found[int(major), int(minor)] = folder
    return found


def airflow_chart(version: str = "") -> Path:
    """The folder of the first chart, or of the first that takes this version of Airflow; or the test is skipped."""
    if not (charts := airflow_charts()):
        pytest.skip("needs Airflow's official chart: AIRFLOW_CHART names its folder")
    for folder in charts.values():
        if not (version and refuses_airflow(version, folder)):
            return folder
    pytest.skip(
        f"needs a chart that takes Airflow {version}: AIRFLOW_CHART names its folder, after the others and a colon"
    )


def page_values() -> dict[str, str]:
    """The values that the page shows, by the file of ours that they are for."""
    blocks = re.findall(r"```yaml\n# mine\.yaml, after (\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return dict(blocks)


@functools.cache
def rendered(way: str, executor: str) -> dict[str, Document]:
    """The objects of the chart, with our files, the values that the page shows, and another executor."""
    files = [argument for name in WAYS[way] for argument in ("-f", str(AIRFLOW / name))]
    mine = yaml.safe_load(page_values()[WAYS[way][0]])
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:  # the last file wins, so it is not given on stdin
        yaml.safe_dump({**mine, **DATABASE, **RESTRICTED, "executor": executor}, file)
        file.flush()
        return render({}, *files, "-f", file.name, release=RELEASE, chart=airflow_chart())


def refuses_airflow(version: str, chart: Path) -> str:
    """Why a chart takes no such version of Airflow, if so."""
    done = template({**DATABASE, "airflowVersion": version}, release=RELEASE, chart=chart)
    return "" if done.returncode == 0 else done.stderr


def pods(objects: dict[str, Document]) -> dict[str, Document]:
    """The pods by the name of their component; ``task`` is what KubernetesExecutor starts."""
    found = {}
    for document in objects.values():
        if document["kind"] in ("Deployment", "StatefulSet"):
            found[document["metadata"]["labels"]["component"]] = document["spec"]["template"]
        if document["kind"] == "ConfigMap" and "pod_template_file.yaml" in document["data"]:
            found["task"] = yaml.safe_load(document["data"]["pod_template_file.yaml"])
    return found


def settings(objects: dict[str, Document]) -> str:
    """Airflow's settings, as a file."""
    [found] = [o["data"]["airflow.cfg"] for o in objects.values() if "airflow.cfg" in o.get("data", {})]
    return str(found)


def ours(pod: Document) -> list[dict[str, Any]]:
    """The init containers of a pod that are ours, in their order."""
    return [each for each in pod["spec"].get("initContainers") or [] if each["name"].startswith("dagferry-")]
