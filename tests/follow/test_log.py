"""The follower's log: Python's logging, unless a program writes its log itself."""

import logging
import subprocess
import sys

import pytest

from dagferry_follow.log import Log, write_with

log = Log("dagferry_test")


@pytest.fixture
def written():
    records = []
    write_with(lambda *record: records.append(record))
    yield records
    write_with(None)


def test_records_go_to_logging_with_where_they_came_from(caplog) -> None:
    caplog.set_level("DEBUG")
    log.debug("a %s", 1)
    log.info("b", extra={"fields": {"version": "v"}})
    log.warning("c %d%%", 5)
    log.error("d")
    try:
        raise ValueError("on fire")
    except ValueError:
        log.exception("e")
    found = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert found == [(10, "a 1"), (20, "b"), (30, "c 5%"), (40, "d"), (40, "e")]
    assert {(record.name, record.filename) for record in caplog.records} == {("dagferry_test", "test_log.py")}
    assert caplog.records[1].fields == {"version": "v"}
    assert [bool(record.exc_info) for record in caplog.records] == [False, False, False, False, True]


def test_a_writer_gets_what_logging_would(written, caplog) -> None:
    log.debug("a %s", 1)
    log.info("100 %", extra={"fields": {"version": "v"}})
    log.warning("c %d%%", 5)
    log.error("d")
    assert written == [
        ("debug", "a 1", {}, ""),
        ("info", "100 %", {"version": "v"}, ""),
        ("warning", "c 5%", {}, ""),
        ("error", "d", {}, ""),
    ]
    assert caplog.records == []


def test_a_writer_gets_the_traceback(written) -> None:
    try:
        raise ValueError("on fire")
    except ValueError as error:
        log.exception("e")
        expected = logging.Formatter().formatException((type(error), error, error.__traceback__))
    assert written == [("error", "e", {}, expected)]


def test_logging_is_not_imported_where_a_writer_is_set() -> None:
    program = (
        "import sys; from dagferry_follow.log import Log, write_with; write_with(print); Log('x').info('said');"
        "print('logging' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "info said {} \nFalse\n"
