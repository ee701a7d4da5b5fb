"""A program with sub-commands: which one runs, with which values, and what help and mistakes look like."""

from typing import Any

import pytest

from dagferry_core import __version__
from dagferry_core.errors import SetupError
from dagferry_runtime.commands import Command, Group, parse_arguments, run_command
from dagferry_runtime.settings import Setting, whole

RAN: list[tuple[str, dict[str, Any]]] = []


def command(name: str, *settings: Setting, code: int = 0) -> Command:
    def run(values: dict[str, Any]) -> int:
        RAN.append((name, values))
        return code

    return Command(name, f"Do {name} at 100 %.", f"prog {name} --size 1", settings, run)


SIZE = Setting("--size", whole(1), 3, "N", "How many, 100 % of them.")
FORCE = Setting("--force", None, False, "", "Do it.")
PROGRAM = Group(
    "prog",
    "Does things.",
    "prog --size 1",
    (
        command("make", SIZE, code=7),
        Group("box", "Boxes.", "prog box open", (command("open", FORCE), command("close", SIZE, FORCE))),
    ),
    default="make",
)


def ran(*arguments: str, program: Group = PROGRAM, **environment: str) -> tuple[str, dict[str, Any]]:
    RAN.clear()
    code = run_command(program, arguments, environment)
    [found] = RAN
    assert code == (7 if found[0] == "make" else 0)
    return found


def test_the_named_command_runs_with_its_settings() -> None:
    assert ran("make", "--size", "5") == ("make", {"size": 5})
    assert ran("box", "open", "--force") == ("open", {"force": True})
    assert ran("box", "close", "--size=2") == ("close", {"size": 2, "force": False})


def test_flags_alone_or_nothing_are_the_default_command() -> None:
    assert ran() == ("make", {"size": 3})
    assert ran("--size", "5") == ("make", {"size": 5})


def test_an_argument_without_a_flag_is_required_and_has_its_place(capsys) -> None:
    places = (
        Setting("FROM", str, None, "URL", "Where from.", has_variable=False),
        Setting("TO", whole(1), None, "N", ""),
    )
    program = Group("prog", "Does things.", "prog copy a 1", (command("copy", *places, SIZE),))
    assert ran("copy", "a", "--size", "2", "1", program=program) == ("copy", {"FROM": "a", "TO": 1, "size": 2})
    for arguments, words in (
        (["a"], "required: TO"),
        ([], "required: FROM, TO"),
        (["a", "x"], "TO='x': a whole number"),
    ):
        with pytest.raises(SetupError, match=words):
            ran("copy", *arguments, program=program)
    with pytest.raises(SystemExit):
        ran("copy", "--help", program=program)
    assert "Where from." in capsys.readouterr().out


def test_the_value_of_a_flag_is_no_command() -> None:
    with pytest.raises(SetupError) as failed:
        ran("--size", "box")
    assert failed.value.message == "--size='box': a whole number from 1 up is expected"


def test_a_variable_counts_for_each_command_that_has_the_setting() -> None:
    assert ran(DAGFERRY_SIZE="4") == ("make", {"size": 4})
    assert ran("make", "--size", "5", DAGFERRY_SIZE="4") == ("make", {"size": 5})
    assert ran("box", "close", DAGFERRY_SIZE="4", DAGFERRY_FORCE="yes") == ("close", {"size": 4, "force": True})
    assert ran("box", "open", DAGFERRY_SIZE="nonsense") == ("open", {"force": False})


@pytest.mark.parametrize(
    ("arguments", "message", "see"),
    [
        (["mak"], "Unknown command 'mak'; did you mean make?", "prog"),
        (["box", "opne"], "Unknown command 'opne'; did you mean open?", "prog box"),
        (["walk"], "Unknown command 'walk'; the commands are make, box.", "prog"),
        ([""], "Unknown command ''; the commands are make, box.", "prog"),
        (["box"], "prog box needs a command: open, close.", "prog box"),
        (["make", "--siez", "4"], "Unrecognized arguments: --siez; did you mean --size?", "prog make"),
        (["box", "--size", "4", "close"], "Argument COMMAND FLAGS: invalid choice: '4'", "prog box"),
        (["box", "open", "--size=4"], "Unrecognized arguments: --size.", "prog box open"),
        (["--size", "4", "box"], "Unrecognized arguments: box.", "prog make"),
        (["make", "--size"], "Argument --size: expected one argument.", "prog make"),
    ],
)
def test_a_mistake_suggests_the_nearest_and_where_the_help_is(arguments: list[str], message: str, see: str) -> None:
    with pytest.raises(SetupError) as failed:
        run_command(PROGRAM, arguments, {})
    assert failed.value.message.startswith(message)
    assert failed.value.hint == f"See {see} --help."


def test_without_a_default_a_command_is_required() -> None:
    program = PROGRAM._replace(default=None)
    for arguments in ([], ["--size", "4"]):
        with pytest.raises(SetupError) as failed:
            run_command(program, arguments, {})
        assert failed.value.exit_code == 2
    assert ran("box", "open", program=program) == ("open", {"force": False})


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        run_command(PROGRAM, arguments, {})
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_help_lists_the_commands_and_each_has_its_own(capsys) -> None:
    for flag in ("-h", "--help"):
        text = printed(capsys, flag)
        assert text.startswith("usage: prog [-h]")
        lines = [" ".join(line.split()) for line in text.splitlines()]
        assert "make Do make at 100 %. The default." in lines
        assert "box Boxes." in lines
        assert text.endswith("example:\n  prog --size 1\n")
    text = printed(capsys, "box", "close", "--help")
    assert text.startswith("usage: prog box close [-h]")
    assert "How many, 100 % of them. (default 3) [DAGFERRY_SIZE]" in " ".join(text.split())
    assert text.endswith("example:\n  prog close --size 1\n")
    assert "open" in printed(capsys, "box", "--help")


@pytest.mark.parametrize("arguments", [[], ["make"], ["box"], ["box", "open"]])
def test_every_command_has_the_version_of_the_program(arguments: list[str], capsys) -> None:
    assert printed(capsys, *arguments, "--version") == f"prog {__version__}\n"


def test_a_program_without_commands_gives_what_its_flags_hold() -> None:
    assert parse_arguments("prog", "", [SIZE, FORCE], ["--force"]) == {"size": None, "force": True}
    with pytest.raises(SetupError) as failed:
        parse_arguments("prog", "", [SIZE], ["--sise=4"])
    assert (failed.value.message, failed.value.hint) == (
        "Unrecognized arguments: --sise; did you mean --size?",
        "See prog --help.",
    )
