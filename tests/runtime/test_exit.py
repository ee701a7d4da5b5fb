"""How a command ends: one line on stderr and an exit code."""

import subprocess
import sys

import pytest

from dagferry_core.errors import SetupError
from dagferry_runtime.exit import leave, run


def test_who_interrupts_a_command_gets_its_own_exit_code() -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    assert run("dagferry-test", interrupted) == 130


def test_an_error_of_a_command_is_its_exit_code_and_its_message(capsys) -> None:
    def fail() -> int:
        raise SetupError("It is wrong.", "Do it right.")

    assert run("dagferry-test", fail) == 2
    assert capsys.readouterr().err == "dagferry-test: It is wrong. Do it right.\n"


def left(code: str) -> "subprocess.CompletedProcess[str]":
    program = f"import sys, atexit; atexit.register(print, 'late'); from dagferry_runtime.exit import leave; {code}"
    return subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False)


def test_who_leaves_at_once_has_said_everything_and_gives_its_exit_code() -> None:
    ended = left("sys.stdout.write('said'); leave(5)")
    assert (ended.returncode, ended.stdout) == (5, "said")


def test_output_that_could_not_be_written_is_a_failure() -> None:
    assert left("sys.stdout.write('said'); sys.stdout.close(); leave(0)").returncode == 1
    assert left("sys.stdout.close(); leave(5)").returncode == 5


@pytest.mark.parametrize(("error", "code", "expected"), [(None, 0, 0), (OSError, 0, 1), (ValueError, 5, 5)])
def test_leaving_flushes_first(error, code, expected, monkeypatch) -> None:
    def flush() -> None:
        if error:
            raise error

    ended: list[int] = []
    monkeypatch.setattr("os._exit", ended.append)
    monkeypatch.setattr(sys.stderr, "flush", flush)
    leave(code)
    assert ended == [expected]
