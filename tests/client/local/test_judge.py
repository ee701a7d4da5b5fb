"""The gate on this machine: what does not parse is found before anything is sent."""

import pytest

from dagferry_client.local.errors import FolderChanged
from dagferry_client.local.judge import broken, judge
from dagferry_gate.rules import Rules
from localtrees import read, write

GOOD = b"from airflow import DAG\n"
BAD = b"from airflow import DAG\ndef (\n"
FILES = {"good.py": GOOD, "old/bad.py": BAD, "sql/x.sql": b"select ("}
RULES = Rules("3.12", "3")


def test_a_dag_file_that_does_not_parse_is_found_with_its_place(tmp_path) -> None:
    verdict = judge(read(write(tmp_path / "dags", FILES)), RULES)
    assert not verdict.passed
    error = broken(verdict)
    assert error.exit_code == 3
    assert error.as_dict()["problems"][0] == {
        "path": "old/bad.py",
        "line": 2,
        "column": 5,
        "message": "Expected an identifier",
    }


def test_what_the_server_has_accepted_is_not_judged_again(tmp_path) -> None:
    tree = read(write(tmp_path / "dags", {**FILES, "new.py": GOOD}))
    assert judge(tree, RULES, ["new.py"]).passed
    assert judge(tree, RULES, ["sql/x.sql"]).passed
    assert judge(tree, RULES, []).passed
    assert not judge(tree, RULES, ["new.py", "old/bad.py"]).passed


def test_with_another_airflowignore_everything_is_judged(tmp_path) -> None:
    tree = read(write(tmp_path / "dags", {**FILES, ".airflowignore": b"nothing\n"}))
    assert not judge(tree, RULES, [".airflowignore"]).passed


def test_what_airflow_does_not_read_may_be_broken(tmp_path) -> None:
    tree = read(write(tmp_path / "dags", {**FILES, ".airflowignore": b"old\n"}))
    for changed in (None, ["old/bad.py"]):
        verdict = judge(tree, RULES, changed)
        assert verdict.passed
        assert len(verdict.warnings) == 1


def test_ruff_is_not_started_if_there_is_nothing_for_it(tmp_path, monkeypatch) -> None:
    from dagferry_gate import ruff

    monkeypatch.setattr(ruff, "find_ruff", None)
    assert judge(read(write(tmp_path / "dags", FILES)), RULES, ["sql/x.sql"]).passed


@pytest.mark.parametrize("now", [None, b"fr"])
def test_a_file_that_changes_meanwhile_stops_it(tmp_path, now) -> None:
    folder = write(tmp_path / "dags", FILES)
    tree = read(folder)
    (folder / "good.py").unlink() if now is None else (folder / "good.py").write_bytes(now)
    with pytest.raises(FolderChanged, match=r"good\.py"):
        judge(tree, RULES)
