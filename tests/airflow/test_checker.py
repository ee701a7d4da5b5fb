"""The checker with the real Airflow of both majors: every kind of broken file is found, and a good tree passes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflows import START_SECONDS
from checker_runner import Checked, check, python_of, variables_of
from following_checker import Checker, is_connected, upload
from harness import Server, eventually

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

HEAD = {
    3: "from airflow.sdk import DAG, Variable\n",
    2: "from airflow import DAG\nfrom airflow.models import Variable\n",
}
EMPTY_OPERATOR = {
    3: "from airflow.providers.standard.operators.empty import EmptyOperator\n",
    2: "from airflow.operators.empty import EmptyOperator\n",
}
GET_CONNECTION = {
    3: "from airflow.sdk import BaseHook\n",
    2: "from airflow.hooks.base import BaseHook\n",
}
DAG = "with DAG('{}', schedule=None): pass\n"


def bad_files(major: int) -> dict[str, str]:
    """A file for each kind of problem, in the order of their names."""
    head = HEAD[major]
    return {
        "cycle.py": f"{head}{EMPTY_OPERATOR[major]}"
        "with DAG('cycle', schedule=None):\n"
        "    a, b = EmptyOperator(task_id='a'), EmptyOperator(task_id='b')\n    a >> b >> a\n",
        "database.py": f"{head}from airflow.models import DagRun\nfrom airflow.utils.session import create_session\n"
        "with create_session() as session:\n    session.query(DagRun).count()\n",
        "duplicate_1.py": head + DAG.format("same"),
        "duplicate_2.py": head + DAG.format("same"),
        "environment.py": f"{head}import os\nbucket = os.environ['NOT_IN_THIS_IMAGE']\n" + DAG.format("environment"),
        "exit.py": f"{head}import os\nos._exit(3)\n",
        "helper.py": "import not_installed_either\n",
        "loop.py": f"{head}while True: pass\n",
        "memory.py": f"{head}x = [bytearray(1 << 20) for _ in range(4000)]\n",
        "missing.py": f"{head}import not_installed_here\n",
        "missing_deep.py": f"{head}\nimport helper\n" + DAG.format("deep"),
        "segfault.py": f"{head}import ctypes\nctypes.string_at(0)\n",
        "serialize.py": f"{head}from airflow.timetables.interval import CronDataIntervalTimetable\n"
        "import datetime\nclass Ours(CronDataIntervalTimetable): pass\n"
        "day = datetime.datetime(2026, 1, 1)\n"
        "with DAG('serialize', start_date=day, schedule=Ours('@daily', timezone='UTC')): pass\n",
        "syntax.py": f"{head}with DAG('x' schedule=None): pass\n",
        "sys_exit.py": f"{head}import sys\nsys.exit(1)\n",
    }


EXPECTED = {
    "cycle.py": "cycle",
    "database.py": "database",
    "duplicate_2.py": "duplicate",
    "environment.py": "import",
    "exit.py": "exit",
    "loop.py": "timeout",
    "memory.py": "memory",
    "missing.py": "import",
    "missing_deep.py": "import",
    "segfault.py": "crash",
    "serialize.py": "serialize",
    "syntax.py": "syntax",
    "sys_exit.py": "exit",
}


def good_files(major: int) -> dict[str, str]:
    """Files that Airflow loads, and what is no DAG file, or excluded."""
    head = HEAD[major]
    return {
        "plain.py": head + DAG.format("plain"),
        "team/imports.py": f"{head}from team import rates\nassert rates.rate == 1\n" + DAG.format("imports"),
        "team/__init__.py": "",
        "team/rates.py": "rate = 1\n",
        "reads.py": f"{head}import os\nwith open(os.path.join(os.path.dirname(__file__), 'names.txt')) as names:\n"
        "    for name in names.read().split():\n        with DAG(name, schedule=None): pass\n",
        "names.txt": "one two\n",
        "helper_without_dags.py": "import this_is_never_imported\n",
        "ignored/broken.py": f"{head}1 / 0\n",
        ".airflowignore": "ignored\n",
        "asks.py": f"{head}{GET_CONNECTION[major]}"
        "bucket = Variable.get('bucket')\n"
        "conf = Variable.get('conf', deserialize_json=True)\n"
        f"size = int(Variable.get('size', {'default' if major == 3 else 'default_var'}=3))\n"
        "host = BaseHook.get_connection('warehouse').host\n"
        "with DAG('asks', schedule=None, tags=[bucket, conf['team'], host]): pass\n",
    }


def unjudged_files(major: int) -> dict[str, str]:
    """Errors that a value of production may not have."""
    head = HEAD[major]
    return {
        "number.py": f"{head}size = int(Variable.get('size'))\n" + DAG.format("number"),
        "network.py": f"{head}import urllib.request\nurllib.request.urlopen('http://not-here.invalid')\n",
        "named.py": f"{head}with DAG('etl_' + Variable.get('team'), schedule=None): pass\n",
        "named_too.py": f"{head}with DAG('etl_' + Variable.get('team'), schedule=None): pass\n",
    }


def written(folder: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


@pytest.fixture(scope="module", params=[3, 2], ids=["airflow-3", "airflow-2"])
def major(request) -> int:
    return request.param


@pytest.fixture(scope="module")
def bad(major, tmp_path_factory) -> Checked:
    folder = written(tmp_path_factory.mktemp("bad"), bad_files(major))
    return check(major, folder, "--timeout", "4", "--memory", "256MiB")


def test_every_kind_of_broken_file_is_found(bad) -> None:
    assert bad.code == 3, bad.said
    assert bad.kinds() == EXPECTED
    assert bad.report["problem_count"] == len(EXPECTED)
    assert bad.report["unjudged"] == []


def test_a_problem_names_the_line_and_what_is_wrong(bad, major) -> None:
    first = len(HEAD[major].splitlines())
    lines = {path: bad.problem(path)["line"] for path in EXPECTED}
    for path in ("loop.py", "missing.py", "syntax.py"):
        assert lines[path] == first + 1, path
    for path in ("environment.py", "segfault.py", "missing_deep.py"):
        assert lines[path] == first + 2, path
    assert bad.problem("missing.py")["message"] == "ModuleNotFoundError: No module named 'not_installed_here'"
    assert bad.problem("missing_deep.py")["message"] == "ModuleNotFoundError: No module named 'not_installed_either'"
    assert "helper.py" in bad.problem("missing_deep.py")["trace"]
    assert "exit code 3" in bad.problem("exit.py")["message"]
    assert "database" in bad.problem("database.py")["message"]


def test_the_versions_are_those_of_the_environment(bad, major) -> None:
    assert bad.report["airflow"].startswith(f"{major}.")
    assert bad.report["python"].startswith("3.")


def test_a_good_tree_passes_and_what_cannot_be_judged_is_a_warning(major, tmp_path) -> None:
    done = check(major, written(tmp_path, {**good_files(major), **unjudged_files(major)}), "--timeout", "20")
    assert (done.code, done.report["problems"]) == (0, []), done.said
    assert done.report["dags"] == 7
    unjudged = {entry["path"]: entry["names"] for entry in done.report["unjudged"]}
    assert unjudged == {"number.py": ["variable:size"], "network.py": ["network"]}


def test_values_of_the_environment_are_used_if_that_is_chosen(major, tmp_path) -> None:
    files = {**unjudged_files(major), "asks.py": good_files(major)["asks.py"]}
    del files["network.py"]
    values = {
        "AIRFLOW_VAR_SIZE": "3",
        "AIRFLOW_VAR_TEAM": "a",
        "AIRFLOW_VAR_BUCKET": "b",
        "AIRFLOW_VAR_CONF": '{"team": "a"}',
    }
    done = check(major, written(tmp_path, files), "--variables", "env", **values)
    assert done.kinds() == {"named_too.py": "duplicate"}, "both ids are known now"
    [unjudged] = done.report["unjudged"]
    assert (unjudged["path"], unjudged["names"]) == ("asks.py", ["connection:warehouse"])


def as_bytes(files: dict[str, str]) -> dict[str, bytes]:
    return {path: text.encode() for path, text in files.items()}


@pytest.fixture(scope="module")
def site(major, tmp_path_factory) -> Iterator[Server]:
    """A server that blocks what cannot be imported, and a checker that follows it in the real Airflow."""
    folder = tmp_path_factory.mktemp("site")
    server = Server(folder / "data", "--import-check", "block").ready()
    server.deploy(as_bytes(good_files(major)), query="?skip_import_check=1")
    command = [python_of(major), "-m", "dagferry_checker"]
    checker = Checker(command, variables_of(major), server, folder / "checker")
    eventually("the checker to be connected", lambda: is_connected(server), START_SECONDS)
    yield server
    assert checker.stop() == 0
    server.stop()


def test_a_dag_with_a_missing_provider_never_goes_live(site, major) -> None:
    live = site.current()["version"]
    missing = f"{HEAD[major]}from airflow.providers.acme.operators import AcmeOperator\n" + DAG.format("acme")
    status, said = upload(site, as_bytes({**good_files(major), "acme.py": missing}))
    assert (status, said["code"]) == (422, "import_check_refused")
    [problem] = said["problems"]
    assert (problem["path"], problem["line"]) == ("acme.py", len(HEAD[major].splitlines()) + 1)
    assert problem["message"] == "ModuleNotFoundError: No module named 'airflow.providers.acme'"
    assert "acme.py" in said["message"]
    assert site.current()["version"] == live


def test_a_dag_id_of_a_file_that_did_not_change_is_a_duplicate(site, major) -> None:
    status, said = upload(site, as_bytes({**good_files(major), "another.py": HEAD[major] + DAG.format("plain")}))
    assert (status, said["problems"][0]["path"]) == (422, "another.py")


def test_a_good_one_goes_live(site, major) -> None:
    status, said = upload(site, as_bytes({**good_files(major), "more.py": HEAD[major] + DAG.format("more")}))
    assert status == 200
    assert said["version"] == site.current()["version"]


def test_a_new_image_is_checked_against_what_is_live(site, major, tmp_path) -> None:
    """As if the provider had gone with this image."""
    missing = f"{HEAD[major]}import only_in_the_old_image\n"
    site.deploy(as_bytes({"plain.py": missing}), query="?skip_import_check=1&allow_removals=1")
    command = [python_of(major), "-m", "dagferry_checker"]
    checker = Checker(command, variables_of(major), site, tmp_path / "checker", "--once")
    assert checker.process.wait(START_SECONDS) == 3
    said = checker.log.read_text()
    line = len(HEAD[major].splitlines()) + 1
    assert f"plain.py:{line}: ModuleNotFoundError: No module named 'only_in_the_old_image'" in said
