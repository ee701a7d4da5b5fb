"""Data goes to stdout and talk to stderr, and no text of a server reaches a terminal with control characters."""

import json
import re
import sys

import pytest

from dagferry_client.errors import RequestRefused
from dagferry_client.output import Output, Styled, ago, clean, size, utc

EVIL = "a\x1b[2Jb\x07\u202ec\x9bd\ne[red]"


def test_what_is_not_printable_is_replaced() -> None:
    assert clean(EVIL) == "a?[2Jb??c?d e[red]"
    assert clean("Grüße 日本 ✓") == "Grüße 日本 ✓"


@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_that_is_printed_has_control_characters_of_the_server(capsys, monkeypatch, terminal) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    output = Output()
    output.line(EVIL)
    output.styled(EVIL, Styled(EVIL, "bold red"))
    output.table(("A", "B"), [(EVIL, Styled(EVIL, "green"))])
    output.json({"x": EVIL})
    output.say(EVIL)
    output.warn(EVIL)
    output.complain(EVIL, EVIL)
    output.error(RequestRefused(EVIL, EVIL, details={"problems": [{"path": EVIL, "message": EVIL}, EVIL]}))
    Output(json_wanted=True).error(RequestRefused(EVIL, EVIL, details={"x": EVIL}))
    printed = capsys.readouterr()
    for text in printed:
        plain = re.sub(r"\x1b\[[0-9;]*m", "", text) if terminal else text  # bold is no color
        assert all(letter.isprintable() or letter == "\n" for letter in plain)
    assert printed.out.count("e[red]") >= 5, "markup of rich must stay text"


def test_a_table_that_is_piped_has_plain_columns(capsys) -> None:
    Output().table(("NAME", "STATE"), [("a-long-name", Styled("live", "green")), ("b", "")])
    assert capsys.readouterr().out == "NAME         STATE\na-long-name  live\nb\n"


def test_colors_are_for_terminals_without_no_color(capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    Output().styled("prod: ", Styled("HEALTHY", "green"))
    assert capsys.readouterr().out == "prod: \x1b[32mHEALTHY\x1b[0m\n"
    monkeypatch.setenv("NO_COLOR", "1")
    Output().styled("prod: ", Styled("HEALTHY", "green"))
    assert capsys.readouterr().out == "prod: HEALTHY\n"


def test_lines_of_files_are_exact_for_programs_and_harmless_on_terminals(capsys, monkeypatch) -> None:
    lines = [Styled("+a\tb\r\x1b[2J é", "green"), Styled("-[red]", "")]
    Output().text(lines)
    assert capsys.readouterr().out == "+a\tb\r\x1b[2J é\n-[red]\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "10")
    monkeypatch.delenv("NO_COLOR", raising=False)
    Output().text([*lines, Styled("x" * 30, "")])
    assert capsys.readouterr().out == f"\x1b[32m+a      b??[2J é\x1b[0m\n-[red]\n{'x' * 30}\n"


def test_a_row_that_is_longer_than_the_terminal_goes_on_in_its_last_column(capsys, monkeypatch) -> None:
    row = ((Styled("ok", "green"), "dns", "one two three four five six"), (4, 3))
    Output().row(*row)
    assert capsys.readouterr().out == "ok    dns  one two three four five six\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "31")
    monkeypatch.delenv("NO_COLOR", raising=False)
    Output().row(*row)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["\x1b[32mok  \x1b[0m  dns  one two three four", "           five six"]


def test_a_url_is_not_broken_on_a_narrow_terminal(capsys, monkeypatch) -> None:
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "20")
    url = "https://dags.example.com/a/long/path"
    Output().styled(url)
    Output().complain(url, url)
    printed = capsys.readouterr()
    assert (printed.out.count(url), printed.err.count(url)) == (1, 2)


def test_the_word_error_is_red_on_a_terminal_alone(capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    Output().complain("It failed.", "")
    assert capsys.readouterr().err == "\x1b[1;31mError:\x1b[0m It failed.\n"


def test_quiet_silences_talk_and_neither_warnings_nor_errors(capsys) -> None:
    output = Output(quiet=True)
    output.say("x")
    output.warn("careful")
    output.complain("It failed.", "Do this.")
    assert capsys.readouterr() == ("", "Warning: careful\nError: It failed.\nDo this.\n")


def test_a_warning_is_printed_once_and_kept(capsys) -> None:
    output = Output(quiet=True)
    for text in ("One\nline.", "Another.", "One\nline."):
        output.warn(text)
    assert capsys.readouterr().err == "Warning: One line.\nWarning: Another.\n"
    assert output.warnings == ["One line.", "Another."]


def test_an_error_lists_problems_and_paths(capsys) -> None:
    details = {
        "problems": [{"path": "dags/a.py", "line": 3, "column": 1, "message": "bad"}, {"path": "b.py", "message": "x"}],
        "removed_paths": ["dags/c.py"],
    }
    Output().error(RequestRefused("No.", "Do.", details=details))
    assert capsys.readouterr().err == "Error: No.\n  dags/a.py:3:1: bad\n  b.py: x\n  - dags/c.py\nDo.\n"


def test_a_long_list_is_cut_and_says_so(capsys) -> None:
    Output().error(RequestRefused("No.", "", details={"removed_paths": [str(number) for number in range(200)]}))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 22
    assert lines[-1] == "  and 180 more"


def test_a_problem_that_is_live_already_is_said_to_be(capsys) -> None:
    problems = [{"path": "a.py", "message": "x", "new": False}, {"path": "b.py", "message": "y", "new": True}]
    Output().error(RequestRefused("No.", "", details={"problems": problems}))
    assert capsys.readouterr().err == "Error: No.\n  a.py: x (it is live already)\n  b.py: y\n"


@pytest.mark.parametrize("details", [{"problems": 3}, {"removed_paths": {"a": 1}}, {"problems": [None, 3]}])
def test_details_that_a_server_gets_wrong_do_not_hide_the_error(capsys, details) -> None:
    Output().error(RequestRefused("No.", "Do.", details=details))
    assert capsys.readouterr().err.startswith("Error: No.\n")


def test_json_errors_have_the_server_s_code_and_fields(capsys) -> None:
    Output(json_wanted=True).error(RequestRefused("No.", "Do.", reason="gate_refused", details={"problem_count": 3}))
    assert json.loads(capsys.readouterr().err) == {
        "code": "gate_refused",
        "message": "No.",
        "hint": "Do.",
        "problem_count": 3,
    }


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s ago"), (99, "99 s ago"), (100, "1 min ago"), (5999, "99 min ago"), (6000, "1 h ago"),
     (359_999, "99 h ago"), (360_000, "4 days ago"), (-30, "just now"), (-200, "in 3 min")],
)  # fmt: skip
def test_times_are_relative(seconds, said) -> None:
    assert ago(1_000_000 - seconds, 1_000_000) == said


def test_times_are_utc() -> None:
    assert utc(1795157101) == "2026-11-20 06:45:01 UTC"


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (15 << 20, "15.0 MiB"), (1 << 40, "1024.0 GiB")],
)
def test_sizes_are_for_people(number, said) -> None:
    assert size(number) == said
