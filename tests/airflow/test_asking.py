"""With ``--airflow-url`` new and removed DAGs of Airflow 3 show at once, with Airflow's default settings."""

import json

import pytest

from airflows import START_SECONDS, dag_file
from harness import PATIENCE_SECONDS, eventually

pytestmark = pytest.mark.airflow

LISTED_SECONDS = 90
"""Unasked, Airflow lists the folder every 300 s."""


@pytest.fixture(scope="module")
def site(make_site):
    site = make_site(
        3,
        *("--airflow-url", "http://127.0.0.1:{airflow.api}", "--airflow-credentials", "{airflow.home}/credentials"),
        AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS="False",
        AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS="dagferry:user",
    )
    home = site.airflow.home
    site.airflow.variables["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"] = str(home / "passwords")
    (home / "passwords").write_text(json.dumps({"dagferry": "a-canary"}))
    (home / "credentials").write_text("dagferry:a-canary\n")
    site.deploy({"first.py": dag_file("first", "1")})
    site.airflow.start("dag-processor")
    site.airflow.start_api()
    eventually("the first DAG to be listed", lambda: site.airflow.dags() == {"first"}, START_SECONDS)
    return site


def test_new_and_removed_dags_show(site, measured) -> None:
    swap = site.deploy({"new.py": dag_file("new", "1"), "sub/deep.py": dag_file("deep", "1")})
    new = site.known_after(swap, "the new", lambda: site.airflow.dags() == {"first", "new", "deep"}, LISTED_SECONDS)
    measured("new DAGs listed", new)
    swap = site.deploy({"new.py": None})
    gone = site.known_after(swap, "gone", lambda: "new" not in site.airflow.dags(), LISTED_SECONDS)
    measured("removed DAG gone", gone)
    assert site.airflow.import_errors() == []


def test_an_airflow_that_is_away_hinders_no_swap_and_is_asked_when_it_is_back(site) -> None:
    api = site.airflow.processes.pop("api-server")
    api.terminate()
    api.wait(PATIENCE_SECONDS)
    site.deploy({"first.py": dag_file("first", "3")})
    site.deploy({"later.py": dag_file("later", "1")})
    assert site.sidecar.probe("/readyz")[0] == 200
    eventually(
        "a failure to be counted",
        lambda: site.sidecar.metric('dagferry_sidecar_hooks_total{hook="airflow",outcome="hook_failed"}'),
    )
    site.airflow.start_api()
    eventually("the DAG to be listed", lambda: "later" in site.airflow.dags(), LISTED_SECONDS)
    assert "a-canary" not in site.sidecar.log.read_text()
