"""A checker beside a real server: what cannot be imported never goes live, and nobody waits for a checker that is away.

The engine has no Airflow here: ``tests/airflow/test_checker.py`` has the real one.
"""

import json
import os
import sys
from collections.abc import Iterator

import pytest

import fake_checker
from credentials import TokensFile
from following_checker import Checker, is_connected, upload
from harness import PATIENCE_SECONDS, Server, eventually

pytestmark = pytest.mark.slow

COMMAND = (sys.executable, fake_checker.__file__)
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
GOOD = {"a.py": b"DAGS = ['a']\n", "shop.py": b"rate = 1\n", "b.py": b"import shop\nDAGS = ['b']\n"}


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    made = Server(tmp_path / "data", "--import-check", "block").ready()
    yield made
    made.stop()


@pytest.fixture
def connected(server, tmp_path) -> Iterator[Checker]:
    server.deploy(GOOD, query="?skip_import_check=1")
    checker = Checker(COMMAND, ENVIRONMENT, server, tmp_path / "checker")
    eventually("the checker to be connected", lambda: is_connected(server))
    yield checker
    checker.stop()


def test_what_cannot_be_imported_is_refused_with_file_line_and_message(server, connected) -> None:
    live = server.current()["version"]
    status, said = upload(server, {**GOOD, "a.py": b"DAGS = []\nimport acme_provider\n"})
    assert (status, said["code"]) == (422, "import_check_refused")
    [problem] = said["problems"]
    assert (problem["path"], problem["line"]) == ("a.py", 2)
    assert problem["message"] == "ModuleNotFoundError: No module named 'acme_provider'"
    assert server.current()["version"] == live


def test_a_good_change_goes_live_and_only_what_depends_on_it_is_imported(server, connected) -> None:
    status, _ = upload(server, {**GOOD, "shop.py": b"rate = 2\n"})
    assert status == 200
    status, said = upload(server, {**GOOD, "shop.py": b"raise KeyError('rate')\n"})
    assert (status, said["problems"][0]["path"]) == (422, "b.py")
    first, second, _ = [line for line in connected.checked() if "candidate" in line["message"] or line["parsed"]]
    assert (first["files"], first["parsed"]) == (3, 3)
    assert (second["files"], second["parsed"]) == (3, 2), "shop.py and b.py, since here all files are DAG files"


def test_what_is_broken_already_blocks_nobody(server, connected) -> None:
    server.deploy({**GOOD, "old.py": b"import gone\n"}, query="?skip_import_check=1")
    status, _ = upload(server, {**GOOD, "old.py": b"import gone\n", "c.py": b"DAGS = ['c']\n"})
    assert status == 200


def test_after_a_restart_of_the_server_the_checker_goes_on(server, connected, tmp_path) -> None:
    server.stop()
    again = Server(tmp_path / "data", "--import-check", "block", port=server.port).ready()
    try:
        eventually("the checker to be connected", lambda: is_connected(again))
        assert upload(again, {**GOOD, "a.py": b"1 / 0\n"})[0] == 422
    finally:
        again.stop()


def test_a_checker_that_ends_is_not_waited_for(server, connected) -> None:
    assert connected.stop() == 0
    eventually("the checker to be away", lambda: not is_connected(server))


def test_the_live_version_is_checked_once_in_another_image(server, tmp_path) -> None:
    server.deploy({**GOOD, "a.py": b"import acme_provider\n"}, query="?skip_import_check=1")
    checker = Checker(COMMAND, ENVIRONMENT, server, tmp_path / "checker", "--once")
    assert checker.process.wait(PATIENCE_SECONDS) == 3


def test_a_dag_id_that_another_deployment_has_is_refused(tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    deploy = tokens.add("ci", ["deploy", "override"], ["*"])
    check = tokens.add("checker", ["check"], ["default", "lab"])
    flags = ("--deployments", "default,lab,secret", "--import-check", "block", "--tokens-file", str(tokens.path))
    server = Server(tmp_path / "data", *flags).ready()
    try:
        server.headers = {"Authorization": f"Bearer {deploy}"}
        server.deploy(GOOD, query="?skip_import_check=1")
        server.deploy({"theirs.py": b"DAGS = ['b']\n"}, "lab", query="?skip_import_check=1")
        checker = Checker(
            COMMAND, {**ENVIRONMENT, "DAGFERRY_TOKEN": check}, server, tmp_path / "checker", "--beside=secret,lab"
        )
        eventually("the checker to be connected", lambda: is_connected(server))
        assert upload(server, {**GOOD, "a.py": b"DAGS = ['a', 'mine']\n"})[0] == 200, "b is live in both already"
        server.deploy({"theirs.py": b"DAGS = ['theirs']\n"}, "lab", query="?skip_import_check=1")
        status, said = upload(server, {**GOOD, "c.py": b"DAGS = ['theirs']\n"})
        assert (status, said["code"]) == (422, "import_check_refused")
        [problem] = said["problems"]
        assert (problem["path"], problem["kind"]) == ("c.py", "duplicate")
        assert "theirs.py of the deployment lab" in problem["message"]
        assert "The DAG ids of the deployment secret cannot be read" in checker.log.read_text()
        status = json.loads(server.get("/lab/dags/status")[1])
        assert status["import_check"]["checkers"] == [], "no upload to lab waits for it"
        assert checker.stop() == 0
    finally:
        server.stop()


def test_a_token_of_scope_check_is_all_it_needs(tmp_path) -> None:
    tokens = TokensFile(tmp_path / "tokens.toml")
    deploy, check = tokens.add("ci", ["deploy", "override"], ["*"]), tokens.add("checker", ["check"], ["default"])
    server = Server(tmp_path / "data", "--import-check", "block", "--tokens-file", str(tokens.path)).ready()
    server.headers = {"Authorization": f"Bearer {deploy}"}
    server.deploy(GOOD, query="?skip_import_check=1")
    environment = {**ENVIRONMENT, "DAGFERRY_TOKEN": check}
    checker = Checker(COMMAND, environment, server, tmp_path / "checker")
    eventually("the checker to be connected", lambda: is_connected(server))
    assert upload(server, {**GOOD, "a.py": b"import acme_provider\n"})[0] == 422
    once = Checker(COMMAND, environment, server, tmp_path / "once", "--once")
    assert once.process.wait(PATIENCE_SECONDS) == 0
    assert checker.stop() == 0
    server.stop()
