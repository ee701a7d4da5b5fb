"""Airflow itself, in a real cluster with its official chart: three commands, and a deploy is live, run, and changed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_charts import airflow_chart
from cluster.images import REAL_AIRFLOWS, WITH_PLUGIN, is_built
from cluster.outside import Cluster
from cluster.real_airflow import RealAirflow

pytestmark = pytest.mark.slow
DAG = """
try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

@dag(schedule=None, is_paused_upon_creation=False)
def hello():
    @task(task_id="{content}")
    def say():
        print("the task says {content}")
        return "{content}"

    say()

hello()
"""


def write(folder: Path, content: str) -> Path:
    """A folder with a DAG whose only task has this id, and returns it."""
    (folder / "dags").mkdir(exist_ok=True)
    (folder / "dags" / "hello.py").write_text(DAG.format(content=content))
    return folder / "dags"


KINDS = {
    "3-sidecar": ("3.3.2", "sidecar.yaml", REAL_AIRFLOWS["3.3.2"]),
    "3-bundle": ("3.3.2", "bundle.yaml", WITH_PLUGIN),
    "2-sidecar": ("2.11.2", "sidecar.yaml", REAL_AIRFLOWS["2.11.2"]),
}
"""The version, our values, and the image of Airflow."""


@pytest.fixture(scope="module", params=KINDS)
def airflow(
    request: pytest.FixtureRequest, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealAirflow]:
    version, values, image = KINDS[request.param]
    if not is_built(image):
        pytest.skip("needs an image of Airflow, which takes minutes and 1 GB: `make real-airflow` builds it")
    airflow_chart(version)  # or it is skipped
    folder = tmp_path_factory.mktemp("airflow")
    namespace = f"real-airflow-{request.param}"
    real = RealAirflow(cluster, folder, namespace, version, image)
    took = real.install(values, {"executor": "LocalExecutor"}, write(folder, "one"))
    took["then until Airflow knows the DAG"] = real.wait_until_listed("hello", "one")
    took["then until every component is ready"] = real.wait_until_started()
    print(f"{request.param}:", {what: round(seconds, 1) for what, seconds in took.items()})  # noqa: T201
    yield real
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def test_the_page_s_three_commands_make_airflow_list_and_run_what_is_deployed(airflow: RealAirflow) -> None:
    assert "hello" in airflow.airflow("dags", "list", "--output", "plain")
    assert airflow.run("hello", "first") == "one"


def test_the_next_deploy_is_run_without_a_restart_of_any_pod(airflow: RealAirflow, tmp_path: Path) -> None:
    before = airflow.restarts()
    airflow.deploy(write(tmp_path, "two"))
    print("the change:", round(airflow.wait_until_listed("hello", "two"), 1))  # noqa: T201
    assert airflow.run("hello", "second") == "two"
    assert airflow.restarts() == before
