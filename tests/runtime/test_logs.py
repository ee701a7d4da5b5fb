"""Log lines: JSON, or readable ones on a terminal."""

import json
import logging
import re
import sys

from dagferry_core.errors import SetupError
from dagferry_runtime.logs import fields, log_failure, set_up_logs


def test_a_log_line_is_one_json_object_with_its_fields(capsys, caplog) -> None:
    caplog.set_level("INFO")  # so that the level is as it was for the next test
    set_up_logs()
    logging.getLogger("test").info("Stored %s", "it", extra=fields(deployment="prod", version="v"))
    line = json.loads(capsys.readouterr().err)
    assert line.pop("time").endswith("Z")
    assert line == {"level": "info", "message": "Stored it", "deployment": "prod", "version": "v"}
    logging.getLogger().handlers.clear()


def logged(monkeypatch, capsys, *, terminal: bool) -> str:
    """What is printed of a failure with a field."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    set_up_logs()
    try:
        raise ValueError("on fire")
    except ValueError:
        logging.getLogger("test").exception("Lost", extra=fields(deployment="prod"))
    logging.getLogger().handlers.clear()
    return capsys.readouterr().err


def test_a_log_line_for_a_person_has_a_clock_the_level_and_the_fields(monkeypatch, capsys, caplog) -> None:
    caplog.set_level("INFO")
    first, *rest = logged(monkeypatch, capsys, terminal=True).splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} ERROR Lost deployment=prod", first)
    assert rest[0] == "Traceback (most recent call last):"
    assert rest[-1] == "ValueError: on fire"


def test_an_exception_is_in_its_json_line(monkeypatch, capsys, caplog) -> None:
    caplog.set_level("INFO")
    line = json.loads(logged(monkeypatch, capsys, terminal=False))
    assert (line["level"], line["deployment"]) == ("error", "prod")
    assert line["exception"].endswith("ValueError: on fire")


def test_a_failure_is_logged_with_its_code_and_where_it_was(caplog) -> None:
    log_failure("Retention failed", SetupError("It is wrong."), deployment="prod")
    assert caplog.records[0].fields == {"deployment": "prod", "code": "setting_invalid", "error": "It is wrong."}


def test_a_failure_is_logged_with_what_to_do_if_that_is_not_what_its_kind_always_says(caplog) -> None:
    log_failure("Retention failed", SetupError("It is wrong.", "Mend it."))
    assert caplog.records[0].fields["hint"] == "Mend it."
