"""The compose file is valid, keeps the open port to this machine, and gives Airflow the whole volume."""

import re
import subprocess
from typing import Any

import pytest
import yaml

from deployfiles import COMPOSE, COMPOSE_LOADER, HOME, documents, run, tool

[PROJECT] = documents(COMPOSE)
SERVICES: dict[str, Any] = PROJECT["services"]


def test_it_is_a_valid_compose_file() -> None:
    if subprocess.run(["docker", "compose", "version"], check=False, capture_output=True).returncode == 0:
        run("docker", "compose", "-f", COMPOSE, "--profile", "airflow", "config", "--quiet")
    else:
        run(*tool(["go", "run", COMPOSE_LOADER]), COMPOSE)


def test_no_port_is_published_beyond_this_machine() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


@pytest.mark.parametrize("name", ["server", "sidecar", "checker"])
def test_our_services_are_locked_down(name: str) -> None:
    assert SERVICES[name]["read_only"] is True
    assert SERVICES[name]["cap_drop"] == ["ALL"]
    assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]


def test_the_sidecar_publishes_into_the_volume_that_airflow_mounts_whole_and_read_only() -> None:
    assert SERVICES["sidecar"]["volumes"] == ["dags:/dags"]
    assert "--root=/dags" in SERVICES["sidecar"]["command"]
    assert SERVICES["airflow"]["volumes"] == ["dags:/dags:ro"]
    assert SERVICES["airflow"]["environment"]["AIRFLOW__CORE__DAGS_FOLDER"] == "/dags/current"


def test_the_docs_give_each_service_of_another_airflow_what_ours_has() -> None:
    page = (HOME / "docs" / "how-to" / "run-without-kubernetes.md").read_text()
    [shown] = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    ours = SERVICES["airflow"]
    assert shown["environment"].items() <= ours["environment"].items()
    assert {name: shown[name] for name in ("volumes", "depends_on")} == {
        name: ours[name] for name in ("volumes", "depends_on")
    }


def test_airflow_starts_only_when_asked_for() -> None:
    assert SERVICES["airflow"]["profiles"] == ["airflow"]


def test_a_checker_starts_only_when_asked_for_and_reaches_the_server_alone() -> None:
    checker = SERVICES["checker"]
    assert checker["profiles"] == ["checker"]
    [network] = checker["networks"]
    assert PROJECT["networks"][network] == {"internal": True}
    assert [name for name, service in SERVICES.items() if network in service.get("networks", ())] == [
        "server",
        "checker",
    ]
    assert checker["secrets"] == ["checker-token"]
    assert not [text for text in checker["environment"] if text.startswith("AIRFLOW")]
    assert "volumes" not in checker
    assert "ports" not in checker
