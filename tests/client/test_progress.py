"""Progress is shown where somebody sees it, and leaves nothing behind."""

import sys

import pytest

from dagferry_client.output import Output
from dagferry_client.progress import progress


@pytest.mark.parametrize(("terminal", "quiet"), [(False, False), (True, True)])
def test_nobody_sees_it_without_a_terminal_or_with_quiet(monkeypatch, capsys, terminal, quiet) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with progress(Output(quiet=quiet), 10) as advance:
        assert advance is None
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_it_is_on_stderr_and_control_characters_are_not(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with progress(Output(), 2 << 20, "bytes") as advance:
        assert advance
        advance(1 << 20, "Sending [b]\x1b]0;x\x07")
    out, err = capsys.readouterr()
    assert out == ""
    assert "Sending [b]?]0;x?" in err
    assert "1.0/2.0 MiB" in err
