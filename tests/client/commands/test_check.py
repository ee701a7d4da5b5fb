"""``dagferry check`` finds offline what deploy would refuse."""

import os

import pytest

from localtrees import read, write

GOOD = b"from airflow import DAG\n"
NEW = b"from airflow import DAG\ntype X = int\n"


def test_what_can_be_deployed_is_said_with_its_size(dagferry, project) -> None:
    write(project, {"dags/a.py": GOOD, "dags/sql/b.sql": b"select 1"})
    done = dagferry("check")
    assert (done.code, done.out, done.err) == (0, "dags: 2 files, 32 B. Nothing that deploy would refuse.\n", "")


def test_json_has_the_digest_that_a_deploy_would_have(dagferry, project) -> None:
    write(project, {"dags/a.py": GOOD, "dags/.env": b"KEY=1"})
    done = dagferry("check", "--json")
    assert done.json["digest"] == read(project / "dags").manifest.digest
    assert (done.json["files"], done.json["bytes"]) == (2, 29)
    [warning] = done.json["warnings"]
    assert ".env" in warning
    assert ".env" in done.err


def test_dag_files_that_do_not_parse_are_listed_with_their_places(dagferry, project) -> None:
    write(project, {"dags/a.py": GOOD + b"def (\n", "dags/b.py": GOOD})
    done = dagferry("check")
    assert done.code == 3
    assert "a.py:2:5: Expected an identifier" in done.err
    assert "sent" not in done.err  # it never sends anything


@pytest.mark.parametrize("how", ["option", "target", "default", "branch"])
def test_the_python_of_airflow_decides(dagferry, project, how) -> None:
    write(project, {"dags/a.py": NEW})
    assert dagferry("check").code == 0
    toml = {
        "option": "",
        "target": '[targets.p]\nairflow-python = "3.11"\n[targets.q]\nairflow-python = "3.12"\n',
        "default": 'airflow-python = "3.11"\n',
        "branch": '[targets.p]\nbranch = "x"\nairflow-python = "3.11"\n[targets.q]\nairflow-python = "3.12"\n',
    }[how]
    (project / "dagferry.toml").write_text(toml)
    arguments = {"option": ["--airflow-python", "3.11"], "target": ["--target", "p"]}.get(how, [])
    ci = {"GITHUB_ACTIONS": "true", "GITHUB_REF_NAME": "x", "GITHUB_REF_TYPE": "branch"} if how == "branch" else {}
    done = dagferry("check", *arguments, **ci)
    assert done.code == 3
    assert "a.py:2:1" in done.err


def test_an_unknown_target_is_a_mistake(dagferry, project) -> None:
    write(project, {"dags/a.py": GOOD})
    done = dagferry("check", "--target", "p")
    assert done.code == 2
    assert "no target 'p'" in done.err


def test_names_and_links_that_no_server_accepts_are_refused_all_at_once(dagferry, project) -> None:
    write(project, {"dags/a.py": GOOD, "dags/b\\c.py": b""})
    os.symlink("/nowhere", project / "dags" / "link")
    done = dagferry("check")
    assert done.code == 3
    assert "'link' points at nothing" in done.err
    assert "b\\\\c.py" in done.err


def test_a_folder_that_is_not_there_is_a_mistake(dagferry) -> None:
    assert dagferry("check").code == 2
    assert dagferry("check", "nowhere").code == 2


def test_it_needs_no_server_and_has_no_options_for_one(dagferry, project) -> None:
    write(project, {"dags/a.py": GOOD})
    assert dagferry("check", DAGFERRY_SERVER="not a url").code == 0
    assert dagferry("check", "--server", "https://dags.example.com").code == 2
