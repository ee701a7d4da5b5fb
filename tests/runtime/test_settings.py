"""What every command shares: flags with variables behind them, one line on a mistake, logs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagferry_core.errors import SetupError
from dagferry_runtime.commands import parse_arguments
from dagferry_runtime.exit import run
from dagferry_runtime.settings import Setting, address, parse, read_plain, seconds, size, whole

SETTINGS = [
    Setting("--keep-trees", whole(1), 3, "N", "How many."),
    Setting("--poll-wait", seconds(0, 50), 30.0, "SECONDS", "How long."),
    Setting("--once", None, False, "", "Once."),
]


def parsed(*arguments: str, **environment: str) -> dict[str, object]:
    return parse("dagferry-test", "about", SETTINGS, arguments, environment)


def test_a_flag_wins_over_its_variable_and_that_over_the_default() -> None:
    assert parsed() == {"keep_trees": 3, "poll_wait": 30.0, "once": False}
    assert parsed(DAGFERRY_KEEP_TREES="5", DAGFERRY_ONCE="true") == {"keep_trees": 5, "poll_wait": 30.0, "once": True}
    assert parsed("--keep-trees", "7", DAGFERRY_KEEP_TREES="5")["keep_trees"] == 7


WORDS = (
    *("--keep-trees", "--keep-trees=3", "--keep-trees=--once", "--keep", "--poll-wait", "--poll-wait=", "--once"),
    *("--once=", "--help=", "--no such", "-k", "-a b", "-1", "-", "--", "7", "", "a b", "x=y", "@file"),
)


@settings(max_examples=500)
@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=4), max_size=6))
def test_what_is_read_without_argparse_is_what_argparse_reads(arguments: list[str]) -> None:
    plain = read_plain(SETTINGS, arguments)
    if plain is not None:
        assert {setting.name: plain.get(setting.name) for setting in SETTINGS} == parse_arguments(
            "dagferry-test", "", SETTINGS, arguments
        )


@pytest.mark.parametrize(
    "arguments",
    [["--keep-trees", "-1"], ["--keep-trees", "--once"], ["--once=1"], ["--keep-trees"], ["word"], ["--help"], ["--"]],
)
def test_the_rest_is_left_to_argparse(arguments: list[str]) -> None:
    assert read_plain(SETTINGS, arguments) is None


def test_a_negative_number_is_a_value_for_argparse() -> None:
    assert parse_arguments("dagferry-test", "", SETTINGS, ["--keep-trees", "-1"])["keep_trees"] == "-1"
    with pytest.raises(SetupError, match="--keep-trees='-1': a whole number"):
        parsed("--keep-trees", "-1")


def test_a_setting_without_a_variable_takes_the_flag_alone() -> None:
    name = [Setting("--name", str, "", "NAME", "What.", has_variable=False)]
    assert parse("dagferry-test", "", name, [], {"DAGFERRY_NAME": "x"}) == {"name": ""}
    assert parse("dagferry-test", "", name, ["--name", "y"], {"DAGFERRY_NAME": "x"}) == {"name": "y"}


def test_a_variable_nobody_knows_is_no_error() -> None:
    assert parsed(DAGFERRY_PORT="tcp://10.0.0.1:80") == parsed()


@pytest.mark.parametrize("text", ["false", "0", "no", "off", ""])
def test_a_variable_can_leave_a_switch_off(text: str) -> None:
    assert parsed(DAGFERRY_ONCE=text)["once"] is False


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["--keep-trees", "0"], {}, "--keep-trees='0': a whole number from 1 up is expected"),
        (["--keep-trees", "many"], {}, "--keep-trees='many': a whole number"),
        ([], {"DAGFERRY_POLL_WAIT": "nan"}, "DAGFERRY_POLL_WAIT='nan': a number of seconds from 0 to 50 is expected"),
        ([], {"DAGFERRY_ONCE": "maybe"}, "DAGFERRY_ONCE='maybe': a switch takes true or false"),
        (["--keep-trees", "http://me:pass/word@host"], {}, "--keep-trees='…@host': a whole number"),
        (["--unknown"], {}, "Unrecognized arguments: --unknown."),
        (["--keep"], {}, "Unrecognized arguments: --keep; did you mean --keep-trees?"),
        (["--sercet", "word"], {}, "Unrecognized arguments: --sercet. "),
        (["one", "two"], {}, "Unrecognized arguments: one two."),
        (["--once=true"], {}, "Argument --once: ignored explicit argument 'true'."),
        (["--keep-trees"], {}, "Argument --keep-trees: expected one argument."),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, environment, message, capsys) -> None:
    assert run("dagferry-test", lambda: int(bool(parse("dagferry-test", "", SETTINGS, arguments, environment)))) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"dagferry-test: {message}")
    assert printed.count("\n") == 1


def test_help_names_every_flag_and_its_variable(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed("--help")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for setting in SETTINGS:
        assert setting.flag in text
        assert f"[{setting.variable}]" in " ".join(text.split())


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1), ("512KiB", 524288), ("1.5GiB", 3 << 29), ("15MiB", 15 << 20), ("2TiB", 2 << 40)]
)
def test_sizes_have_units(text: str, value: int) -> None:
    assert size(text) == value


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "10MB", "MiB", "nanGiB", "infGiB"])
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="a number of bytes"):
        size(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("[::1]:8000", ("::1", 8000)),
        (":8000", ("0.0.0.0", 8000)),
        ("x:0", ("x", 0)),
    ],
)
def test_an_address_is_host_and_port(text: str, value: tuple[str, int]) -> None:
    assert address(text) == value


@pytest.mark.parametrize("text", ["", "8000", "host", "host:", "host:70000", "host:-1"])
def test_anything_else_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        address(text)


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("8", 8)])
def test_a_whole_number_has_bounds(text: str, value: int) -> None:
    assert whole(1, 8)(text) == value


@pytest.mark.parametrize("text", ["0", "9", "-1", "1.0", "", "²"])
def test_anything_else_is_no_whole_number(text: str) -> None:
    with pytest.raises(ValueError, match="a whole number from 1 to 8 is expected"):
        whole(1, 8)(text)


@pytest.mark.parametrize(("text", "value"), [("0.5", 0.5), ("50", 50.0)])
def test_seconds_have_bounds(text: str, value: float) -> None:
    assert seconds(0.5, 50)(text) == value


@pytest.mark.parametrize("text", ["0.4", "50.1", "nan", "inf", "soon", ""])
def test_anything_else_is_no_number_of_seconds(text: str) -> None:
    with pytest.raises(ValueError, match=r"a number of seconds from 0\.5 to 50 is expected"):
        seconds(0.5, 50)(text)


@pytest.mark.parametrize(
    ("default", "shown"),
    [(None, ""), (False, ""), (("0.0.0.0", 8000), "0.0.0.0:8000"), (("a", "b"), "a,b"), (30.0, "30"), (3, "3")],
)
def test_a_default_is_shown_as_it_is_written(default: object, shown: str) -> None:
    assert Setting("--x", str, default, "X", "What.").shown_default == shown


def test_a_switch_is_given_by_its_flag_alone() -> None:
    assert parsed("--once", DAGFERRY_ONCE="false")["once"] is True
