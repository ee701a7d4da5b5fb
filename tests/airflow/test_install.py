"""Installed beside Airflow, Dagferry changes nothing of what Airflow pins, and Airflow finds its plugin."""

import json
import subprocess

import pytest

from airflows import HOME, Airflow, environment_of

pytestmark = pytest.mark.airflow


@pytest.mark.parametrize("major", [3, 2])
def test_it_adds_zstandard_and_itself_and_changes_nothing(major, tmp_path) -> None:
    report = tmp_path / "report.json"
    command = ["-m", "pip", "install", "--quiet", "--dry-run", "--report", report, f"{HOME}[airflow]"]
    subprocess.run([environment_of(major) / "bin/python", *command], check=True)
    added = {package["metadata"]["name"].lower() for package in json.loads(report.read_text())["install"]}
    assert added <= {"dagferry", "zstandard"}
    assert "dagferry" in added


@pytest.mark.parametrize("major", [3, 2])
def test_airflow_finds_the_plugin(major, postgres, tmp_path) -> None:
    airflow = Airflow(postgres, major, tmp_path / "airflow", str(tmp_path)).plug_in()
    plugins = json.loads(airflow.command("plugins", "--output", "json").partition("[")[2].join(["[", ""]))
    assert [plugin["name"] for plugin in plugins] == ["dagferry"]
