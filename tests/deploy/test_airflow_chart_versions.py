"""What each version of Airflow's official chart makes of our values, as the page says it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from airflow_charts import DATABASE, EXECUTORS, PAGE, READERS, RELEASE, airflow_charts, ours, pods
from charts import render, template
from dagferry_client.airflow_chart import Setup, read_values
from dagferry_client.airflow_doctor import examine
from deployfiles import AIRFLOW, WAYS

pytestmark = pytest.mark.slow
FOLLOWING, ONCE = ["dagferry-once", "dagferry-sidecar"], ["dagferry-once"]
SILENT = [(1, 19), (1, 20)]
"""Charts that ignore what we give the pods of tasks."""
WORKING = [(1, 22), (1, 21), *SILENT]
AIRFLOWS = {
    (1, 22): ["3.1.8", "3.3.2"],
    (1, 21): ["2.11.2", "3.3.2"],
    (1, 20): ["2.11.2", "3.3.2"],
    (1, 19): ["2.10.5", "2.11.2", "3.3.2"],
}
REFUSED = {(1, 22): "3.0.6", (1, 21): "2.10.5", (1, 20): "2.10.5"}
ROWS = [(chart, airflow) for chart in WORKING for airflow in AIRFLOWS[chart]]
LINE = "extraInitContainers: [*once]"
"""The line that is a comment at the end of our values."""


def chart_of(version: tuple[int, int]) -> Path:
    """The folder of this version of the chart; without it the test is skipped."""
    if found := airflow_charts().get(version):
        return found
    pytest.skip(
        f"needs the official chart {version[0]}.{version[1]}: AIRFLOW_CHART names its folder too, after a colon"
    )


def with_the_line(folder: Path) -> Path:
    """Our values with the line that old charts need."""
    text = (AIRFLOW / "sidecar.yaml").read_text()
    assert text.endswith(f"  # {LINE}\n")
    (folder / "sidecar.yaml").write_text(text.replace(f"  # {LINE}\n", f"  {LINE}\n"))
    return folder / "sidecar.yaml"


def found_in(chart: tuple[int, int], airflow: str, executor: str, *files: Path) -> dict[str, list[str]]:
    """The names of our containers in each pod that has some."""
    given = [argument for path in files for argument in ("-f", str(path))]
    mine: Mapping[str, Any] = {
        **DATABASE,
        "executor": executor,
        "airflowVersion": airflow,
        "defaultAirflowTag": airflow,
    }
    made = pods(render(mine, *given, release=RELEASE, chart=chart_of(chart), kubernetes="1.30.0"))
    named = {component: [each["name"] for each in ours(pod)] for component, pod in made.items()}
    return {component: names for component, names in named.items() if names}


def expected_in(airflow: str, executor: str, task: list[str]) -> dict[str, list[str]]:
    """Who follows, and who only starts with it, by the page's table of components."""
    follow = READERS - (set() if "Celery" in executor else {"worker"}) - ({"dag-processor"} if airflow < "3" else set())
    return dict.fromkeys(follow, FOLLOWING) | ({"task": task} if "Kubernetes" in executor and task else {})


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize(("chart", "airflow"), ROWS)
def test_every_pod_that_reads_dags_has_the_sidecar(chart: tuple[int, int], airflow: str, executor: str) -> None:
    found = found_in(chart, airflow, executor, AIRFLOW / "sidecar.yaml")
    assert found == expected_in(airflow, executor, [] if chart in SILENT else ONCE)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize(("chart", "airflow"), [row for row in ROWS if row[0] in SILENT])
def test_on_old_charts_the_line_at_the_end_of_our_values_gives_the_pods_of_tasks_theirs(
    chart: tuple[int, int], airflow: str, executor: str, tmp_path: Path
) -> None:
    assert found_in(chart, airflow, executor, with_the_line(tmp_path)) == expected_in(airflow, executor, ONCE)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("chart", [*WORKING, (1, 18)])
def test_with_the_bundle_every_chart_needs_the_sidecar_in_the_triggerer_only(
    chart: tuple[int, int], executor: str
) -> None:
    assert found_in(chart, "3.3.2", executor, AIRFLOW / "bundle.yaml") == {"triggerer": FOLLOWING}


@pytest.mark.parametrize("chart", REFUSED)
def test_a_chart_refuses_an_airflow_that_is_too_old_for_it(chart: tuple[int, int]) -> None:
    done = template({**DATABASE, "airflowVersion": REFUSED[chart]}, release=RELEASE, chart=chart_of(chart))
    assert "This chart only supports Apache Airflow version" in done.stderr


def test_chart_1_18_refuses_our_values() -> None:
    files = ["-f", str(AIRFLOW / "sidecar.yaml")]
    done = template(DATABASE, *files, release=RELEASE, chart=chart_of((1, 18)))
    assert "at '/workers': additional properties" in done.stderr


@pytest.mark.parametrize("airflow", ["2.11.2", "3.3.2"])
@pytest.mark.parametrize(("executor", "anchor"), [("CeleryExecutor", "*following"), ("KubernetesExecutor", "[*once]")])
def test_chart_1_18_takes_the_line_of_the_page_in_place_of_our_workers(
    executor: str, anchor: str, airflow: str, tmp_path: Path
) -> None:
    line = f"workers: {{extraInitContainers: {anchor}}}"
    assert f"`{line}`" in PAGE.read_text()
    above, workers, _ = (AIRFLOW / "sidecar.yaml").read_text().partition("workers:")
    assert workers
    (tmp_path / "sidecar.yaml").write_text(above + line)
    found = found_in((1, 18), airflow, executor, tmp_path / "sidecar.yaml")
    assert found == expected_in(airflow, executor, ONCE)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("chart", WORKING)
def test_the_doctor_names_just_the_charts_whose_pods_of_tasks_have_nothing(chart: tuple[int, int], way: str) -> None:
    files = [AIRFLOW / name for name in WAYS[way]]
    values = {**read_values([str(path) for path in files]), "executor": "KubernetesExecutor"}
    failed = {check.name for check in examine(Setup(values, chart)) if check.state == "failed"}
    found = found_in(chart, "3.3.2", "KubernetesExecutor", *files)
    assert failed == (set() if way == "bundle" or "task" in found else {"task-pods"})
