"""How a command ends: one line on stderr and an exit code."""

from dagferry_core.errors import SetupError
from dagferry_runtime.exit import run


def test_who_interrupts_a_command_gets_its_own_exit_code() -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    assert run("dagferry-test", interrupted) == 130


def test_an_error_of_a_command_is_its_exit_code_and_its_message(capsys) -> None:
    def fail() -> int:
        raise SetupError("It is wrong.", "Do it right.")

    assert run("dagferry-test", fail) == 2
    assert capsys.readouterr().err == "dagferry-test: It is wrong. Do it right.\n"
