"""Progress is shown where somebody sees it, and leaves nothing behind; without a terminal it is no flood."""

import sys

import pytest

from dagferry_client import progress
from dagferry_client.output import Output
from dagferry_client.progress import bar, told


def play_terminal(monkeypatch) -> None:
    """Let stderr be one."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.parametrize(("is_terminal", "quiet"), [(False, False), (True, True)])
def test_there_is_no_bar_without_a_terminal_or_with_quiet(monkeypatch, capsys, is_terminal, quiet) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    with bar(Output(quiet=quiet), "Sending", 10) as show:
        show(5)
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_the_bar_is_on_stderr_and_has_no_control_characters(monkeypatch, capsys) -> None:
    play_terminal(monkeypatch)
    with bar(Output(), "Sending [b]\x07", 2 << 20) as show:
        show(1 << 20)
    out, err = capsys.readouterr()
    assert out == ""
    assert "Sending [b]?" in err
    assert "1.0/2.0 MiB" in err
    assert err.endswith("\x1b[1A\x1b[2K")


def test_on_a_terminal_the_last_sentence_is_in_one_line(monkeypatch, capsys) -> None:
    play_terminal(monkeypatch)
    with told(Output()) as say:
        for text in ("DEPLOYING: 1 of 9", "DEPLOYING: [red]2 of 9\x07"):
            say(text)
    out, err = capsys.readouterr()
    assert out == ""
    assert "DEPLOYING: [red]2 of 9?" in err


def test_without_a_terminal_sentences_that_begin_the_same_are_not_said_all_the_time(monkeypatch, capsys) -> None:
    now = [50.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with told(Output()) as say:
        for number in range(100):
            say(f"DEPLOYING: {number} of 99")
            now[0] += 0.1
        say("DEGRADED: 1 failing")
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["DEPLOYING: 0 of 99", "DEPLOYING: 20 of 99"]
    assert lines[-1] == "DEGRADED: 1 failing"
    assert len(lines) == 6


def test_with_quiet_nothing_is_said(monkeypatch, capsys) -> None:
    play_terminal(monkeypatch)
    with told(Output(quiet=True)) as say:
        say("DEPLOYING: 1 of 9")
    assert capsys.readouterr() == ("", "")
