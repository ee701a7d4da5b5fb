"""``dagferry completion`` prints a script that a shell completes with."""

import shutil
import subprocess
import sys

import pytest

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
