"""The checker's settings: the names others script against, their defaults, and one clear line on a mistake."""

import socket

import pytest

from dagferry_checker.limits import Limits
from dagferry_checker.settings import SETTINGS, read_settings
from dagferry_core.errors import SetupError


def read(*arguments: str, **environment: str):
    return read_settings(arguments, environment)


def test_the_flags_are_the_promised_ones() -> None:
    assert {setting.flag for setting in SETTINGS} >= {
        "--server", "--deployment", "--token-file", "--work-dir", "--jobs", "--timeout", "--memory", "--variables",
        "--once", "--path", "--json",
    }  # fmt: skip


def test_the_defaults_are_safe() -> None:
    settings = read()
    assert settings.variables == "stub", "production's secrets are not read unless that is asked for"
    assert settings.engine == (2, Limits(30.0, 1 << 30), "stub")
    assert (settings.instance, settings.once, settings.path) == (socket.gethostname(), False, None)


def test_settings_are_variables_too() -> None:
    settings = read(DAGFERRY_DEPLOYMENT="prod", DAGFERRY_VARIABLES="env", DAGFERRY_MEMORY="512MiB")
    assert (settings.deployment, settings.variables, settings.memory) == ("prod", "env", 512 << 20)


def test_the_deployments_beside_are_a_list() -> None:
    assert read().beside == ()
    assert read("--beside", "lab, team-a,lab").beside == ("lab", "team-a")
    assert read(DAGFERRY_BESIDE="lab").beside == ("lab",)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--jobs", "0"], "--jobs"),
        (["--memory", "1KiB"], "at least 16MiB"),
        (["--memory", "lots"], "--memory"),
        (["--timeout", "0"], "--timeout"),
        (["--variables", "all"], "stub, env"),
        (["--path", "/nonexistent"], "does not exist"),
        (["--path", "/tmp", "--once"], "cannot be combined"),
        (["--check-version", "20261120T064501Z-000001"], "needs --once"),
        (["--once", "--check-version", "latest"], "--check-version"),
        (["--beside", "lab,"], "--beside"),
        (["--deployment", "prod", "--beside", "lab,prod"], "is the --deployment itself"),
        (["--path", "/tmp", "--beside", "lab"], "needs a server"),
        (["--json"], "needs --once or --path"),
        (["--token", "a", "--token-file", "b"], "cannot be combined"),
        (["--token", "a b"], "one word"),
        (["--instance", "a b"], "--instance"),
        (["--work-dir="], "a folder"),
        (["--ca-file", "/nonexistent"], "does not exist"),
        (["--server", "http://elsewhere:8000", "--token", "a"], "plain HTTP"),
    ],
)
def test_a_mistake_is_named(words, says) -> None:
    with pytest.raises(SetupError, match=says):
        read(*words)


def test_a_folder_needs_no_server_and_no_token_rules() -> None:
    assert read("--path", "/tmp", "--server", "http://elsewhere:8000", "--token", "a").path == "/tmp"
