"""Only a person at a terminal is asked, and only yes is yes."""

import io
import sys

import click
import pytest

from dagferry_client.asking import can_ask, confirm
from dagferry_client.output import Output


@pytest.mark.parametrize("stdin", [True, False])
@pytest.mark.parametrize("stderr", [True, False])
@pytest.mark.parametrize("json_wanted", [True, False])
def test_who_is_not_at_a_terminal_is_not_asked(monkeypatch, stdin, stderr, json_wanted) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(sys.stdin, "isatty", lambda: stdin, raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: stderr, raising=False)
    assert can_ask(Output(json_wanted=json_wanted)) == (stdin and stderr and not json_wanted)


@pytest.mark.parametrize("answer", ["y\n", "Yes\n", " y \n"])
def test_yes_goes_on(monkeypatch, capsys, answer) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    confirm(Output(), "Replace a\x1b[2J?")
    assert capsys.readouterr() == ("", "Replace a?[2J? [y/N] ")


@pytest.mark.parametrize("answer", ["", "\n", "n\n", "yep\n", "ja\n"])
def test_anything_else_ends_the_command(monkeypatch, capsys, answer) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    with pytest.raises(click.Abort):
        confirm(Output(), "Sure?")
    assert "Nothing was changed." in capsys.readouterr().err
