"""Tests run before a deploy, and only their success lets it go on."""

import subprocess

import pytest

from dagferry_client.local import precheck
from dagferry_client.local.errors import PytestFailed
from dagferry_client.local.folder import DagsFolder
from dagferry_client.local.precheck import run_pytest


@pytest.fixture
def folder(tmp_path, monkeypatch) -> DagsFolder:
    """A project with a program ``pytest`` that notes how it was run, and ends with what ``exit`` has."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "pytest"
    program.write_text(f'#!/bin/sh\necho "$PWD|$*" | tee {tmp_path}/ran\nexit $(cat {tmp_path}/exit)\n')
    program.chmod(0o755)
    (tmp_path / "exit").write_text("0")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    (tmp_path / "project" / "dags").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return DagsFolder(str(tmp_path / "project" / "dags"), "project/dags", str(tmp_path / "project"), "dags")


def test_it_runs_in_the_project_and_prints_on_stderr(folder, tmp_path, capfd) -> None:
    run_pytest(folder, "")
    assert capfd.readouterr() == ("", f"{tmp_path}/project|\n")


def test_a_path_is_relative_to_the_current_folder(folder, tmp_path) -> None:
    (tmp_path / "tests.py").touch()
    run_pytest(folder, "tests.py::test_one")
    assert (tmp_path / "ran").read_text() == f"{tmp_path}|tests.py::test_one\n"


@pytest.mark.parametrize(("code", "why"), [(1, "tests failed"), (5, "no tests were found"), (77, "exit code 77")])
def test_anything_but_success_stops_the_deploy(folder, tmp_path, code, why) -> None:
    (tmp_path / "exit").write_text(str(code))
    with pytest.raises(PytestFailed, match=why) as caught:
        run_pytest(folder, "")
    assert caught.value.exit_code == 3


def test_tests_that_are_not_there_are_not_a_success(folder) -> None:
    with pytest.raises(PytestFailed, match="There are no tests at"):
        run_pytest(folder, "nowhere")


def test_without_pytest_nothing_is_deployed(folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PytestFailed, match="not installed"):
        run_pytest(folder, "")


def test_tests_that_do_not_end_are_a_failure(folder, monkeypatch) -> None:
    def forever(*arguments: object, **options: object) -> None:
        raise subprocess.TimeoutExpired("pytest", precheck.MAX_PYTEST_SECONDS)

    monkeypatch.setattr(subprocess, "run", forever)
    with pytest.raises(PytestFailed, match="3600 s"):
        run_pytest(folder, "")


def test_a_program_that_cannot_be_run_is_a_failure(folder, tmp_path) -> None:
    (tmp_path / "bin" / "pytest").write_text("#!/nowhere\n")
    with pytest.raises(PytestFailed, match="cannot be run"):
        run_pytest(folder, "")
