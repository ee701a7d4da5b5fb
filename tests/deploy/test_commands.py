"""What deploy/ writes on a command line is what the commands of this version take."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dagferry_server.settings
import dagferry_sidecar.settings
from dagferry_core import __version__
from dagferry_core.errors import SetupError
from dagferry_runtime.settings import parse
from dagferry_server.http.listeners import SHUTDOWN_SECONDS
from deployfiles import AIRFLOW, FILES, HOME, WAYS, airflow_values, containers, documents
from harness import pack

COMMANDS = {
    "dagferry-server": dagferry_server.settings.SETTINGS,
    "dagferry-sidecar": dagferry_sidecar.settings.SETTINGS,
}
FOUND = [
    (path, container)
    for path in FILES
    if path.parent != AIRFLOW  # which has templates
    for document in documents(path)
    for container in containers(document)
    if container.get("command", [""])[0] != "sh"  # test_backup.py runs what these do
]
FOUND += [(AIRFLOW / names[-1], found) for names in WAYS.values() for found in containers(airflow_values(*names))]


def name(value: object) -> str:
    return str(value.relative_to(HOME)) if isinstance(value, Path) else str(value["image"])  # type: ignore[index]


def test_server_and_sidecars_are_found() -> None:
    assert {container["image"].partition(":")[0] for _, container in FOUND} == set(COMMANDS)


@pytest.mark.parametrize("path", [*FILES, HOME / "deploy" / "README.md"], ids=name)
def test_images_are_of_this_version(path: Path) -> None:
    assert set(re.findall(r"(?<!/)dagferry-(?:server|sidecar):([^\s]+)", path.read_text())) <= {__version__}


@pytest.mark.parametrize(("path", "container"), FOUND, ids=name)
def test_the_command_takes_the_arguments_and_variables(path: Path, container: dict[str, Any]) -> None:
    command = container["image"].partition(":")[0]
    arguments = container.get("args") or container["command"]
    parse(command, "", COMMANDS[command], arguments, {})
    variables = {setting.variable for setting in COMMANDS[command]}
    assert {variable["name"] for variable in container.get("env", [])} <= variables


def test_the_server_has_time_to_finish_what_it_receives() -> None:
    manifests = documents(HOME / "deploy" / "kubernetes" / "server.yaml")
    [server] = [document for document in manifests if document["kind"] == "StatefulSet"]
    [compose] = documents(HOME / "deploy" / "compose.yaml")
    assert server["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > SHUTDOWN_SECONDS
    assert int(compose["services"]["server"]["stop_grace_period"].removesuffix("s")) > SHUTDOWN_SECONDS


def test_a_flag_that_is_gone_would_be_noticed() -> None:
    with pytest.raises(SetupError):
        parse("dagferry-server", "", COMMANDS["dagferry-server"], ["--authless"], {})


@pytest.mark.parametrize(("path", "container"), FOUND, ids=name)
def test_every_server_asks_who_the_caller_is_and_every_sidecar_says_who_it_is(
    path: Path, container: dict[str, Any]
) -> None:
    given = {argument.partition("=")[0] for argument in container.get("args") or container["command"]}
    assert "--insecure-no-auth" not in given
    assert given & {"--tokens-file", "--token-file"}


def test_new_secrets_makes_what_the_compose_file_mounts(tmp_path: Path, serve: Any) -> None:
    shutil.copy(HOME / "deploy" / "new-secrets", tmp_path)
    # The variable is the sidecar's: where its server is.
    environment = {**os.environ, "DAGFERRY_SERVER": "http://127.0.0.1:1"}
    command = [tmp_path / "new-secrets", sys.executable, "-m", "dagferry_server"]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    [compose] = documents(HOME / "deploy" / "compose.yaml")
    for secret in compose["secrets"].values():
        assert (tmp_path / secret["file"]).is_file()
    server = serve("--deployments", "prod", "--tokens-file", str(tmp_path / "secrets" / "tokens.toml"))
    names = ("sidecar", "deploy", "checker")
    sidecar, deploy, checker = ((tmp_path / "secrets" / f"{name}-token").read_text().strip() for name in names)
    assert server.get("/prod/dags/current", Authorization=sidecar)[0] == 200
    assert server.get("/prod/dags/deploys", Authorization=sidecar)[0] == 403
    assert server.get("/prod/dags/current", Authorization=checker)[0] == 403
    assert server.request("/prod/dags/upload", pack({"dag.py": b""}), Authorization=deploy)[0] == 200
    assert sorted(os.listdir(tmp_path / "secrets")) == [
        "checker-token", "deploy-token", "peer-secret", "s3-keys.env", "sidecar-token", "tokens.toml",
    ]  # fmt: skip
    keys = dict(line.split("=") for line in (tmp_path / "secrets" / "s3-keys.env").read_text().splitlines())
    assert keys["ROOT_ACCESS_KEY"] == keys["AWS_ACCESS_KEY_ID"]
    peers = (tmp_path / "secrets" / "peer-secret").read_text()
    assert len({keys["ROOT_SECRET_KEY"], keys["AWS_SECRET_ACCESS_KEY"], peers}) == 2
    assert all(re.fullmatch("[0-9a-f]{64}", text) for text in (keys["ROOT_SECRET_KEY"], peers))
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    before = (tmp_path / "secrets" / "tokens.toml").read_text()
    again = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (again.returncode, again.stderr) == (1, "deploy/secrets is there already.\n")
    assert (tmp_path / "secrets" / "tokens.toml").read_text() == before


@pytest.mark.parametrize(
    "body",
    [
        "exit 125",
        "echo one line",
        ": >once; exit 0",
        'echo a; echo b; [ ! -e "$HOME/again" ] || exit 1; touch "$HOME/again"',
    ],
)
def test_new_secrets_leaves_nothing_behind_when_it_fails(tmp_path: Path, body: str) -> None:
    folder = tmp_path / "deploy"
    folder.mkdir()
    shutil.copy(HOME / "deploy" / "new-secrets", folder)
    docker = tmp_path / "docker"
    docker.write_text(f"#!/bin/sh\ncd {tmp_path}\n{body}\n")
    docker.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    ended = subprocess.run([folder / "new-secrets"], check=False, env=environment, capture_output=True)
    assert ended.returncode != 0
    assert os.listdir(folder) == ["new-secrets"]
