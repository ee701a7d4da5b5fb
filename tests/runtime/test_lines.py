"""Lines that are written without Python's logging are those that it writes."""

import json
import logging
import re
import sys

import pytest

from dagferry_runtime.lines import fields, write_line
from dagferry_runtime.logs import set_up_logs


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("level", ["info", "warning", "error"])
def test_a_line_is_that_of_logging(level, terminal, monkeypatch, capsys, caplog) -> None:
    caplog.set_level("INFO")  # so that the level is as it was for the next test
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    set_up_logs()
    getattr(logging.getLogger("test"), level)("Stored %s", "it", extra=fields(version="v", path=b"x"))
    logging.getLogger().handlers.clear()
    by_logging = capsys.readouterr().err
    write_line(level, "Stored it", {"version": "v", "path": b"x"})
    time = r"\d\d:\d\d:\d\d\.\d{3}"
    written = capsys.readouterr().err
    assert re.sub(time, "TIME", written) == re.sub(time, "TIME", by_logging)
    assert "TIME" in re.sub(time, "TIME", written)


def test_a_traceback_is_in_the_line(monkeypatch, capsys) -> None:
    write_line("error", "Lost", {}, "Traceback\nValueError")
    assert json.loads(capsys.readouterr().err)["exception"] == "Traceback\nValueError"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    write_line("error", "Lost", {"a": 1}, "Traceback\nValueError")
    assert capsys.readouterr().err.endswith(" ERROR Lost a=1\nTraceback\nValueError\n")


def test_debugging_is_not_written(capsys) -> None:
    write_line("debug", "Detail", {})
    assert capsys.readouterr().err == ""


def test_a_closed_stderr_harms_nobody(monkeypatch) -> None:
    class Broken:
        def isatty(self) -> bool:
            return False

        def write(self, _: str) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Broken())
    write_line("info", "Stored", {})
