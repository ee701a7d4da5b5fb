"""``dagferry check --import``: what would be deployed is imported elsewhere, and what that says is reported."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from dagferry_client.local.errors import DagsNotImported, ImportCheckUnavailable
from dagferry_client.local.import_check import Imported, import_dags
from localtrees import read, write

REPORT: dict[str, Any] = {
    "problems": [], "problem_count": 0, "unjudged": [], "files": 1, "dags": 2, "airflow": "3.3.2", "python": "3.11.7",
}  # fmt: skip
PROBLEM = {"path": "a.py", "line": 3, "message": "ModuleNotFoundError: No module named 'x'", "kind": "import"}


@pytest.fixture
def python(tmp_path):
    """Make a program in the place of a Python: it keeps its arguments and the folder, and says this."""

    def make(out: str, code: int = 0, err: str = "") -> str:
        program = tmp_path / "python"
        program.write_text(
            f"#!{sys.executable}\nimport os, json, sys\nfolder = sys.argv[sys.argv.index('--path') + 1]\n"
            "files = {os.path.relpath(os.path.join(p, n), folder): open(os.path.join(p, n)).read()"
            " for p, _, ns in os.walk(folder) for n in ns}\n"
            f"json.dump([sys.argv[1:], files], open({str(tmp_path / 'seen')!r}, 'w'))\n"
            f"sys.stdout.write({out!r})\nsys.stderr.write({err!r})\nsys.exit({code})\n"
        )
        program.chmod(0o755)
        return str(program)

    return make


@pytest.fixture
def tree(tmp_path):
    files = {"a.py": b"import airflow", "team/b.py": b"", "junk.tmp": b"", ".dagferryignore": b"*.tmp\n"}
    return read(write(tmp_path / "dags", files))


def test_the_folder_is_what_a_deploy_would_pack(tree, python, tmp_path) -> None:
    assert import_dags(tree, python(json.dumps(REPORT))) == (Imported(1, 2, "3.3.2", "3.11.7"), [])
    words, files = json.loads((tmp_path / "seen").read_text())
    assert words[:2] == ["-m", "dagferry_checker"]
    assert words[-1] == "--json"
    assert {path for path in files if path.endswith((".py", ".tmp"))} == {"a.py", "team/b.py"}
    assert not Path(words[3]).exists(), "the copy is removed"


def test_problems_are_listed(tree, python) -> None:
    out = json.dumps({**REPORT, "problems": [PROBLEM], "problem_count": 1})
    with pytest.raises(
        DagsNotImported, match=r"Airflow 3\.3\.2 on Python 3\.11\.7 cannot load all DAG files: 1 error"
    ) as e:
        import_dags(tree, python(out, 3))
    assert e.value.exit_code == 3
    assert e.value.as_dict()["problems"] == [PROBLEM]


def test_what_cannot_be_judged_is_a_warning(tree, python) -> None:
    unjudged = [{"path": "a.py", "message": "ValueError: x", "names": ["variable:size"]}]
    _, [warning] = import_dags(tree, python(json.dumps({**REPORT, "unjudged": unjudged})))
    assert "a.py" in warning
    assert "variable:size" in warning


def test_a_python_that_is_not_there_is_an_error(tree) -> None:
    with pytest.raises(ImportCheckUnavailable, match="cannot be started"):
        import_dags(tree, "/nonexistent/python")


def test_what_is_missing_is_named(tree, python) -> None:
    missing = python("", 1, "/usr/bin/python: No module named dagferry_checker")
    with pytest.raises(ImportCheckUnavailable, match="has no dagferry-checker") as e:
        import_dags(tree, missing)
    assert "pip install" in e.value.hint
    no_airflow = python(
        "", 2, "dagferry-checker: Airflow cannot be imported: no. Run the checker in Airflow's own image."
    )
    with pytest.raises(ImportCheckUnavailable, match="Airflow cannot be imported") as e:
        import_dags(tree, no_airflow)
    assert e.value.exit_code == 2


@pytest.mark.parametrize("out", ["", "no JSON", "[]", "{}", '{"problems": {}, "unjudged": []}'])
def test_an_answer_of_another_form_is_an_error(tree, python, out) -> None:
    with pytest.raises(ImportCheckUnavailable, match="no result"):
        import_dags(tree, python(out))


def test_a_check_that_failed_is_an_error(tree, python) -> None:
    with pytest.raises(ImportCheckUnavailable, match="failed"):
        import_dags(tree, python("", 5, "dagferry-checker: The engine ended."))


def test_the_command_prints_both(dagferry, project, python) -> None:
    write(project, {"dags/a.py": b"from airflow import DAG\n"})
    good = python(json.dumps(REPORT))
    done = dagferry("check", "--import", "--import-python", good)
    assert done.code == 0, done.err
    assert "Airflow 3.3.2 on Python 3.11.7 loads 2 DAGs." in done.out
    done = dagferry("check", "--import", "--import-python", good, "--json")
    assert done.json["imported"] == {"files": 1, "dags": 2, "airflow": "3.3.2", "python": "3.11.7"}
    assert dagferry("check", "--json").json["imported"] is None


def test_the_command_lists_problems_with_file_line_and_message(dagferry, project, python) -> None:
    write(project, {"dags/a.py": b"from airflow import DAG\n"})
    bad = python(json.dumps({**REPORT, "problems": [PROBLEM], "problem_count": 1}), 3)
    done = dagferry("check", "--import", "--import-python", bad)
    assert done.code == 3
    assert "a.py:3: ModuleNotFoundError: No module named 'x'" in done.err


def test_a_python_alone_is_a_mistake(dagferry, project) -> None:
    write(project, {"dags/a.py": b""})
    assert dagferry("check", "--import-python", "python3").code == 2
