"""deploy/ci/import_dags.py in both majors of Airflow: what would be an import error is one, and nothing else is."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from airflows import HOME, START_SECONDS, environment_of

pytestmark = [pytest.mark.airflow, pytest.mark.parametrize("major", [2, 3])]

SCRIPT = HOME / "deploy" / "ci" / "import_dags.py"
GOOD = """
from airflow import DAG
try:
    from airflow.providers.standard.operators.empty import EmptyOperator
except ImportError:
    from airflow.operators.empty import EmptyOperator
import shop
with DAG("{name}", schedule=None, tags=[shop.NAME]):
    EmptyOperator(task_id="a") >> EmptyOperator(task_id="b")
"""
CANNOT = """
from datetime import datetime
from airflow import DAG
from airflow.timetables.simple import NullTimetable
class Unregistered(NullTimetable):
    pass
with DAG("cannot", schedule=Unregistered(), start_date=datetime(2026, 1, 1)):
    pass
"""
SHOP = "NAME = 'shop'\n"


def good(name: str) -> str:
    return GOOD.format(name=name)


def check(
    folder: Path, major: int, files: Mapping[str, str], *flags: str, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Run the script on these files, as a job does that has nothing but Airflow."""
    for path, text in files.items():
        file = folder / "dags" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return subprocess.run(
        [environment_of(major) / "bin/python", SCRIPT, *flags],
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(folder / "nobody"), **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=START_SECONDS,
    )


def test_good_dags_are_imported_with_their_helpers_and_nothing_is_left_behind(tmp_path, major) -> None:
    done = check(tmp_path, major, {"a.py": good("a"), "deep/b.py": good("b"), "shop.py": SHOP}, "--json", "found.json")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr.endswith("2 DAG files, 2 DAGs, 0 problems\n")
    assert json.loads((tmp_path / "found.json").read_text()) == {"files": 2, "dags": 2, "problems": []}
    assert {path.name for path in tmp_path.iterdir()} == {"dags", "found.json"}


def test_each_error_is_a_line_that_names_the_file_and_the_others_are_imported_all_the_same(tmp_path, major) -> None:
    files = {
        "good.py": good("good"),
        "shop.py": SHOP,
        "missing.py": "from airflow import DAG\n\nimport not_installed_here\n",
        "syntax.py": "from airflow import DAG\nwith DAG('x' schedule=None): pass\n",
        "cycle.py": good("cycle")
        + "    a = EmptyOperator(task_id='c'); b = EmptyOperator(task_id='d'); a >> b; b >> a\n",
        "helper.py": "from airflow import DAG\nimport broken_helper\n",
        "broken_helper.py": "def f(:\n",
        "exits.py": "from airflow import DAG\nimport os\nos._exit(0)\n",
        "killed.py": "from airflow import DAG\nimport os\nos.kill(os.getpid(), 9)\n",
        "quits.py": "from airflow import DAG\nraise SystemExit(0)\n",
        "lines.py": "from airflow import DAG\nraise ValueError('one\\ntwo\\x1b[1m')\n",
        "cannot.py": CANNOT,
    }
    done = check(tmp_path, major, files)
    assert done.returncode == 1
    lines = {line.partition(": ")[0]: line.partition(": ")[2] for line in done.stdout.splitlines()}
    assert len(lines) == len(done.stdout.splitlines()), "each on one line"
    assert lines["dags/missing.py:3"] == "ModuleNotFoundError: No module named 'not_installed_here'"
    assert lines["dags/syntax.py:2"].startswith("SyntaxError: ")
    assert "cycle" in lines["dags/cycle.py"].lower()
    assert lines["dags/helper.py:2"].endswith(" (dags/broken_helper.py:1)")
    assert lines["dags/exits.py"] == "The import ended the process, with exit code 0."
    assert lines["dags/killed.py"] == "The import ended the process, with signal 9 (SIGKILL)."
    assert any(where.startswith("dags/quits.py") for where in lines)
    assert lines["dags/lines.py:2"] == "ValueError: one"
    assert lines["dags/cannot.py"].startswith("DAG 'cannot' cannot be serialized: SerializationError: ")
    assert not any("good" in where for where in lines)
    assert done.stderr.splitlines()[-1].startswith("10 DAG files, ")


def test_a_slow_file_ends_at_its_limit_also_if_it_ignores_it_and_with_what_it_started(tmp_path, major) -> None:
    files = {
        "good.py": good("good"),
        "shop.py": SHOP,
        "slow.py": "from airflow import DAG\nimport time\ntime.sleep(600)\n",
        "deaf.py": "from airflow import DAG\nimport signal, subprocess, time\n"
        "signal.signal(signal.SIGALRM, signal.SIG_IGN)\n"
        "open('pid', 'w').write(str(subprocess.Popen(['sleep', '600']).pid))\ntime.sleep(600)\n",
    }
    done = check(tmp_path, major, files, "--timeout", "6")
    assert done.returncode == 1
    [deaf, slow] = done.stdout.splitlines()
    assert deaf == "dags/deaf.py: The import takes more than 6 seconds and was ended."
    assert slow.startswith("dags/slow.py:3: ")
    assert "imeout" in slow
    started = Path("/proc", (tmp_path / "pid").read_text(), "stat")
    assert not started.exists() or started.read_text().rpartition(")")[2].split()[0] == "Z"


def test_two_files_with_one_dag_id_are_an_error(tmp_path, major) -> None:
    files = {"a.py": good("etl"), "b.py": good("etl"), "c.py": good("other"), "shop.py": SHOP}
    done = check(tmp_path, major, files)
    assert (done.returncode, done.stdout) == (1, "dags/b.py: DAG id 'etl' is also in dags/a.py\n")


def test_airflowignore_and_the_words_of_a_dag_file_decide_as_in_airflow(tmp_path, major) -> None:
    broken = "from airflow import DAG\nimport not_installed_here\n"
    files = {
        "a.py": good("a"),
        "shop.py": SHOP,
        "notes.py": "import not_installed_here\n",
        "ignored/b.py": broken,
        "deep/.airflowignore": "c\\.py" if major == 2 else "c.py",
        "deep/c.py": broken,
        ".airflowignore": "ignored/",
    }
    done = check(tmp_path, major, files)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    done = check(tmp_path, major, {".airflowignore": "# nothing\n"})
    assert done.stdout.startswith("dags/ignored/b.py:2: ")


def test_values_come_from_variables_and_nothing_from_a_database(tmp_path, major) -> None:
    files = {
        "shop.py": SHOP,
        "a.py": good("a") + "from airflow.models import Variable\nVariable.get('bucket')\n",
        "b.py": "from airflow import DAG\nfrom airflow.models import DagRun\n"
        "from airflow.utils.session import create_session\n"
        "with create_session() as session:\n    session.query(DagRun).count()\n",
    }
    done = check(tmp_path, major, files, AIRFLOW_VAR_BUCKET="s3")
    [line] = done.stdout.splitlines()
    assert line.startswith("dags/b.py:5: ")
    assert line.endswith("unable to open database file: the file asks Airflow's database while it is imported")
    done = check(tmp_path, major, files)
    assert "dags/a.py:" in done.stdout


def test_the_executor_of_the_image_stays_so_that_tasks_may_name_it(tmp_path, major) -> None:
    files = {"a.py": good("a").replace('"a")', '"a", executor="CeleryExecutor")'), "shop.py": SHOP}
    assert check(tmp_path, major, files, AIRFLOW__CORE__EXECUTOR="CeleryExecutor").returncode == 0


@pytest.mark.parametrize(
    "files",
    [
        {"notes.txt": "x"},
        {".airflowignore": "a.py", "a.py": "import airflow  # dag"},
        {"a.py": "import airflow  # dag"},
    ],
    ids=["no-file", "all-ignored", "no-dag"],
)
def test_no_dag_at_all_is_an_error(tmp_path, major, files) -> None:
    done = check(tmp_path, major, files)
    assert (done.returncode, done.stdout) == (1, "dags: Airflow finds no DAG in this folder.\n")


def test_annotations_name_the_line_and_no_text_can_be_another_command(tmp_path, major) -> None:
    name = "::error::100%,a:b.py"
    files = {name: "from airflow import DAG\nraise ValueError('50%\\n::warning::x')\n"}
    done = check(tmp_path, major, files, "--annotate")
    assert done.stdout == "::error file=dags/%3A%3Aerror%3A%3A100%25%2Ca%3Ab.py,line=2::ValueError: 50%25\n"
    done = check(tmp_path, major, {}, ".", "--annotate")
    assert done.returncode == 1


@pytest.mark.parametrize("flags", [("nowhere",), ("--timeout", "0"), ("--timeout", "1e3"), ("--unknown",)], ids=str)
def test_wrong_arguments_are_another_exit_code(tmp_path, major, flags) -> None:
    assert check(tmp_path, major, {"a.py": good("a"), "shop.py": SHOP}, *flags).returncode == 2
