"""The triggerer beside a sidecar runs triggers from the DAG folder; Airflow 3 needs to be told where they are."""

import pytest

from harness import eventually

pytestmark = pytest.mark.airflow

RUN_SECONDS = 300
"""For what takes up to 30 s on two idle cores."""

TRIGGER = b"""
import asyncio
from airflow.triggers.base import BaseTrigger, TriggerEvent

class Nap(BaseTrigger):
    def serialize(self):
        return "naps.Nap", {}

    async def run(self):
        await asyncio.sleep(1)
        yield TriggerEvent("rested")
"""
DAG = b"""
from datetime import datetime
from airflow import DAG
try:
    from airflow.sdk import BaseOperator
except ImportError:
    from airflow.models import BaseOperator
from naps import Nap

class Sleeper(BaseOperator):
    def execute(self, context):
        self.defer(trigger=Nap(), method_name="wake")

    def wake(self, context, event):
        assert event == "rested"

with DAG("sleeps", start_date=datetime(2026, 1, 1), schedule=None, is_paused_upon_creation=False):
    Sleeper(task_id="sleep")
"""


@pytest.mark.parametrize("major", [3, 2])
def test_a_task_is_deferred_to_a_trigger_of_its_own_dag_folder(make_site, major) -> None:
    site = make_site(
        major, AIRFLOW__CORE__EXECUTOR="LocalExecutor", AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME="0.2"
    )
    airflow = site.airflow.plug_in()
    site.deploy({"sleeps.py": DAG, "naps.py": TRIGGER})
    # As in deploy/kubernetes; Airflow 2 has the DAG folder on the path of every process.
    path = airflow.variables["PYTHONPATH"]
    if major >= 3:
        path += f":{airflow.variables['AIRFLOW__CORE__DAGS_FOLDER']}"
        airflow.start_api()
    airflow.start("dag-processor")
    airflow.start("triggerer", "--skip-serve-logs", PYTHONPATH=path)
    airflow.start("scheduler", "--skip-serve-logs")
    eventually("the DAG to be listed", lambda: "sleeps" in airflow.dags(), RUN_SECONDS)
    airflow.command("dags", "trigger", "sleeps", "--run-id", "one")

    def state() -> str:
        airflow.check_alive()
        return airflow.sql("select state from dag_run where run_id = 'one'")[0][0]

    found = eventually("the run to end", lambda: state() in {"success", "failed"} and state(), RUN_SECONDS)
    assert found == "success", airflow.log("triggerer")[-4000:]
