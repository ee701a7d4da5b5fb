"""``dagferry completion`` prints a script that a shell completes with."""

import os
import shutil
import subprocess
import sys

import pytest

from dagferry_client.app import COMMANDS
from dagferry_client.commands.completion import SHELLS, VARIABLE


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_asks_the_command(dagferry, shell) -> None:
    done = dagferry("completion", shell)
    assert done.code == 0
    assert f"{VARIABLE}={shell}_complete" in done.out
    assert done.err == ""


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_bash_can_read_it(dagferry) -> None:
    script = dagferry("completion", "bash").out
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


@pytest.fixture
def words_of_bash(dagferry, tmp_path):
    """What bash completes a line to, as at its prompt, with the script of this command."""
    script, program = tmp_path / "script", tmp_path / "dagferry"
    script.write_text(dagferry("completion", "bash").out)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m dagferry_client "$@"\n')
    program.chmod(0o755)

    def complete(*words: str) -> list[str]:
        code = """
            source "$1"; shift
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
            "$(complete -p dagferry | sed 's/.* -F \\([^ ]*\\) .*/\\1/')" dagferry
            printf '%s\\n' "${COMPREPLY[@]}"
        """
        path = f"{tmp_path}:{os.environ['PATH']}"
        ran = subprocess.run(
            ["bash", "-euc", code, "bash", script, *words],
            env={"PATH": path},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stderr == ""
        return ran.stdout.split()

    return complete


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_bash_completes_commands_options_and_values(words_of_bash) -> None:
    assert words_of_bash("dagferry", "") == list(COMMANDS)
    assert words_of_bash("dagferry", "who") == ["whoami"]
    assert words_of_bash("dagferry", "status", "--w") == ["--watch"]
    assert words_of_bash("dagferry", "completion", "f") == ["fish"]
    assert words_of_bash("dagferry", "deployments", "") == ["create", "delete"]
    assert words_of_bash("dagferry", "nothing-like-this") == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_can_read_it(dagferry, shell) -> None:
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell}")
    script = dagferry("completion", shell).out
    assert subprocess.run([shell, "-n"], input=script, text=True, check=False).returncode == 0


def test_another_shell_is_a_mistake(dagferry) -> None:
    done = dagferry("completion", "cmd")
    assert done.code == 2
    assert "'bash', 'zsh', 'fish'" in done.err


def test_it_completes_commands_and_their_options() -> None:
    def completed(words: str) -> list[str]:
        environment = {VARIABLE: "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        asked = subprocess.run(
            [sys.executable, "-m", "dagferry_client"], env=environment, capture_output=True, text=True, check=True
        )
        return [line.partition(",")[2] for line in asked.stdout.splitlines()]

    assert completed("dagferry sta") == ["status"]
    assert "--watch" in completed("dagferry status --w")
