"""deploy/ci/promote_tested.py against a real server: what was tested is promoted, or nothing is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deployfiles import HOME
from harness import Server
from workflows import search_path, stand_in

SCRIPT = HOME / "deploy" / "ci" / "promote_tested.py"
A, B = {"a.py": b"one = 1\n"}, {"a.py": b"one = 2\n"}


def promote(server: Server | str, *arguments: str, path: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        env={
            "PATH": path or search_path(Path(sys.executable).parent),
            "DAGFERRY_SERVER": server if isinstance(server, str) else server.url,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def deploys_of_prod(server: Server) -> list[dict]:
    return json.loads(server.get("/prod/dags/deploys")[1])["deploys"]


@pytest.fixture
def server(serve) -> Server:
    return serve("--deployments", "staging,prod,lab")


def test_the_tested_version_is_promoted_also_if_staging_went_on(server) -> None:
    tested = server.deploy(A, "staging")
    server.deploy(B, "staging")
    done = promote(server, "staging", "prod", tested["version"], tested["digest"])
    assert done.returncode == 0, done.stderr
    assert server.current("prod")["digest"] == tested["digest"]
    assert done.stdout.strip() == server.current("prod")["version"]
    again = promote(server, "staging", "prod", tested["version"], tested["digest"])
    assert (again.returncode, again.stdout) == (0, done.stdout)


def test_another_digest_than_the_tested_one_promotes_nothing(server) -> None:
    tested, other = server.deploy(A, "staging"), server.deploy(B, "staging")
    done = promote(server, "staging", "prod", tested["version"], other["digest"])
    assert done.returncode == 3
    assert "was tested. Nothing was promoted." in done.stderr
    assert deploys_of_prod(server) == []


def test_a_late_approval_does_not_bring_back_old_dags(server) -> None:
    first, second = server.deploy(A, "staging"), server.deploy(B, "staging")
    assert promote(server, "staging", "prod", second["version"], second["digest"]).returncode == 0
    promoted = server.current("prod")["version"]
    done = promote(server, "staging", "prod", first["version"], first["digest"])
    assert done.returncode == 3
    assert f"{second['version']} of staging was promoted to prod already, as {promoted}" in done.stderr
    assert server.current("prod")["version"] == promoted
    # Nor after somebody deployed something else to prod since.
    server.deploy({"c.py": b"c = 3\n"}, "prod")
    assert promote(server, "staging", "prod", first["version"], first["digest"]).returncode == 3
    # What came from another deployment does not count.
    lab = [server.deploy(files, "lab") for files in (A, B, A)][-1]
    assert promote(server, "lab", "prod", lab["version"], lab["digest"]).returncode == 0
    third = server.deploy({"a.py": b"one = 3\n"}, "staging")
    assert promote(server, "staging", "prod", third["version"], third["digest"]).returncode == 0


def test_options_go_to_dagferry_promote_and_its_exit_code_is_that_of_the_script(server) -> None:
    tested = server.deploy(A, "staging")
    done = promote(server, "staging", "prod", tested["version"], tested["digest"], "--wait=1s", "-m", "It's ready")
    assert done.returncode == 7, "no pod is known"
    assert deploys_of_prod(server)[0]["description"] == "It's ready"


@pytest.mark.parametrize(
    "version",
    ["20261120T064501Z-000099", "--help", "$(touch stolen)", "", "42"],
)
def test_a_version_that_is_not_there_promotes_nothing(server, version) -> None:
    tested = server.deploy(A, "staging")
    done = promote(server, "staging", "prod", version, tested["digest"])
    assert done.returncode != 0
    assert deploys_of_prod(server) == []


@pytest.mark.parametrize(
    "arguments", [(), ("staging", "prod"), ("staging", "prod", "20261120T064501Z-000001", "")], ids=str
)
def test_without_the_outputs_of_the_deploy_nothing_is_asked(arguments) -> None:
    done = promote("http://127.0.0.1:9", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("promote_tested.py: Give FROM TO VERSION DIGEST")


def test_a_server_that_does_not_answer_and_a_missing_command_are_failures(tmp_path) -> None:
    arguments = ("staging", "prod", "20261120T064501Z-000001", "sha256:" + "0" * 64)
    path = search_path(stand_in(tmp_path / "bin", "dagferry", "exit 5\n"))
    assert promote("http://127.0.0.1:9", *arguments, path=path).returncode == 5
    missing = promote("http://127.0.0.1:9", *arguments, path=str(tmp_path))
    assert (missing.returncode, "dagferry is not in PATH" in missing.stderr) == (2, True)
