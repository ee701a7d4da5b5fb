"""What deploy/ writes on a command line is what the commands of this version take."""

import re
from pathlib import Path
from typing import Any

import pytest

import dagferry_server.settings
import dagferry_sidecar.settings
from dagferry_core import __version__
from dagferry_core.command import parse
from dagferry_core.errors import SetupError
from dagferry_server.listeners import SHUTDOWN_SECONDS
from deployfiles import FILES, HOME, containers, documents

COMMANDS = {
    "dagferry-server": dagferry_server.settings.SETTINGS,
    "dagferry-sidecar": dagferry_sidecar.settings.SETTINGS,
}
FOUND = [(path, container) for path in FILES for document in documents(path) for container in containers(document)]


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
    [_, server, _] = documents(HOME / "deploy" / "kubernetes" / "server.yaml")
    [compose] = documents(HOME / "deploy" / "compose.yaml")
    assert server["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > SHUTDOWN_SECONDS
    assert int(compose["services"]["server"]["stop_grace_period"].removesuffix("s")) > SHUTDOWN_SECONDS


def test_a_flag_that_is_gone_would_be_noticed() -> None:
    with pytest.raises(SetupError):
        parse("dagferry-server", "", COMMANDS["dagferry-server"], ["--authless"], {})


@pytest.mark.parametrize(("path", "container"), FOUND, ids=name)
def test_a_server_that_is_open_to_others_says_so_loudly(path: Path, container: dict[str, Any]) -> None:
    if "--insecure-no-auth" in (container.get("args") or container["command"]):
        assert "!! There is no authentication yet" in path.read_text()
