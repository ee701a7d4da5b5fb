"""``dagferry`` knows its sub-commands, helps fast, suggests after typos, and ends with documented exit codes."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from dagferry_client.app import COMMANDS, cli
from dagferry_client.exits import EXIT_PIPE_CLOSED
from dagferry_client.run import Command
from dagferry_core import __version__

MODULES = Path(importlib.import_module("dagferry_client.commands").__path__[0])


def command_of(name: str) -> Command:
    found = cli.get_command(click.Context(cli), name)
    assert isinstance(found, Command)
    return found


def test_every_module_of_a_sub_command_is_listed() -> None:
    there = {path.stem.replace("_", "-") for path in MODULES.glob("*.py")} - {"--init--"}
    assert there == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_the_command_says_of_itself(name) -> None:
    assert (command_of(name).help or "").partition("\n")[0] == COMMANDS[name]
    assert re.fullmatch(r"[A-Z][^.]{10,66}\.", COMMANDS[name])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_is_a_command_line_that_the_command_takes(name) -> None:
    assert command_of(name).examples
    for example in command_of(name).examples:
        words = shlex.split(example.partition(" > ")[0].partition(" #")[0])
        assert words[:2] == ["dagferry", name]
        command_of(name).make_context(name, words[2:])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_json_and_every_option_has_a_help(name) -> None:
    options = [one for one in command_of(name).params if isinstance(one, click.Option)]
    assert {"--json", "--quiet"} <= {flag for option in options for flag in option.opts}
    assert [option.name for option in options if not option.help] == []


def test_help_lists_the_commands(dagferry) -> None:
    done = dagferry("--help")
    assert done.code == 0
    assert all(
        re.search(rf"^  {name} +{re.escape(about)}$", done.out, re.MULTILINE) for name, about in COMMANDS.items()
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_shows_its_examples(dagferry, name) -> None:
    done = dagferry(name, "-h")
    assert done.code == 0
    assert all(example in " ".join(done.out.split()) for example in command_of(name).examples)


def test_version(dagferry) -> None:
    assert dagferry("--version").out == f"dagferry {__version__}\n"


def test_alone_it_shows_its_help_and_is_a_mistake(dagferry) -> None:
    done = dagferry()
    assert done.code == 2
    assert "Commands:" in done.out + done.err
    assert "\n  status  " in done.err
    assert done.out == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stauts"], "There is no command 'stauts'. Did you mean status?"),
        (["x"], f"There is no command 'x'. The commands are {', '.join(COMMANDS)}."),
        (["whoami", "--sever", "x"], "Did you mean '--server'?"),
        (["whoami", "extra"], "extra"),
        (["completion"], "Choose from: bash, zsh, fish\n"),
        (["--bogus"], "--bogus"),
    ],
)
def test_a_mistake_ends_with_2_and_a_suggestion(dagferry, words, said) -> None:
    done = dagferry(*words)
    assert done.code == 2
    assert said in done.err
    assert re.search(r"^See dagferry.* --help\.$", done.err, re.MULTILINE)
    assert done.out == ""


def test_an_interrupt_ends_with_130(dagferry, monkeypatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dagferry_client.settings.find_targets_file", interrupted)
    assert dagferry("whoami").code == 130


def test_an_error_is_json_if_the_data_would_be(dagferry) -> None:
    import json

    done = dagferry("whoami", "--json")
    assert (done.code, done.out) == (2, "")
    assert json.loads(done.err).keys() == {"code", "message", "hint"}


@pytest.mark.parametrize(
    "words",
    [("deploy", "--bogus"), ("deploy", "--wait=soon"), ("deploy", "a", "b"), ("whoami", "--ca-file")],
)
def test_so_is_a_mistake_on_the_command_line(dagferry, words) -> None:
    import json

    done = dagferry(words[0], "--json", *words[1:])
    assert (done.code, done.out) == (2, "")
    said = json.loads(done.err)
    assert said["code"] == "setting_invalid"
    assert re.fullmatch("See dagferry.* --help.", said["hint"])


def test_the_error_is_the_last_line_of_stderr(dagferry, project) -> None:
    import json

    from localtrees import write

    write(project, {"dags/a.py": b"from airflow import DAG\ndef (\n", "dags/key.pem": b"-----BEGIN PRIVATE KEY-----\n"})
    done = dagferry("check", "--json")
    assert (done.code, done.out) == (3, "")
    *before, last = done.err.splitlines()
    assert before
    assert json.loads(last)["problems"][0]["path"] == "a.py"


def run(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [["--help"], ["status", "--help"], ["completion", "bash"]])
def test_help_needs_none_of_the_slow_libraries(arguments) -> None:
    code = f"""
import sys
from dagferry_client import app
app.main({arguments})
print(*sys.modules, file=sys.stderr)
"""
    loaded = set(run(code).stderr.split())
    assert "click" in loaded
    assert (
        loaded
        & {
            "http.client",
            "email",
            "ssl",
            "requests",
            "urllib3",
            "rich",
            "id",
            "ruff",
            "pathspec",
            "zstandard",
            "asyncio",
            "aiohttp",
        }
        == set()
    )


def test_an_interrupt_in_the_middle_of_anything_is_no_traceback() -> None:
    code = """
import sys
from dagferry_client import app, settings

class HalfMade:
    def __init__(self):
        raise KeyboardInterrupt
    def __del__(self):
        self.absent

settings.find_targets_file = lambda folder: HalfMade()
sys.exit(app.main(["whoami"]))
"""
    done = run(code)
    assert (done.returncode, done.stderr.strip(), done.stdout) == (130, "", "")


def test_output_that_nobody_reads_is_no_traceback() -> None:
    code = """
import os, sys
from dagferry_client import app
reader, writer = os.pipe()
os.close(reader)
os.dup2(writer, 1)
sys.exit(app.main(["completion", "bash"]))
"""
    done = run(code)
    assert done.returncode == EXIT_PIPE_CLOSED
    assert done.stderr == ""
