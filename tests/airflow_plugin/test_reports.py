"""The body of a report: what it says, and how large it gets."""

import json

from dagferry_airflow.reports import (
    MAX_PARSED_BYTES,
    Error,
    Parsed,
    Sender,
    body,
    last_line,
    parsed_body,
    shortened,
    substance,
)
from dagferry_core.protocol import MAX_REPORTED_ERRORS, MAX_TRACE_BYTES
from dagferry_server.fleet.report_body import ParsedBody, ReportBody

WHO = Sender("dag-processor-0", "0123456789abcdef" * 2, "dag-processor")
PARSED = Parsed(
    "20261120T064501Z-000042", 42, "sha256:" + "0" * 64, 3, 2, 1, 5, None,
    [Error("b.py", "Traceback\n  File\nKeyError: 'x'\n", new=False), Error("c.py", "Traceback\nNo: no", new=True)],
    {"a.py": 1.25, "b.py": 6.0}, ["[core] x is 30: set it to 0."], "3.3.2", "3.11.7",
    {"apache-airflow-providers-x": "1"},
)  # fmt: skip


def test_a_report_is_what_the_server_takes() -> None:
    said = body(WHO, "log", PARSED)
    report = ReportBody.model_validate_json(json.dumps(said))
    assert said == report.model_dump()
    assert report.parsed
    assert [(error.path, error.message, error.new) for error in report.parsed.errors] == [
        ("c.py", "No: no", True),
        ("b.py", "KeyError: 'x'", False),
    ]
    assert (report.parsed.error_count, report.parsed.new_error_count) == (2, 1)
    seconds = report.parsed.parse_seconds
    assert seconds
    assert (seconds.total, seconds.longest, seconds.slowest[0].path) == (7.25, 6.0, "b.py")


def test_a_last_report_says_that_it_is_the_last() -> None:
    report = ReportBody.model_validate(body(WHO, "log", None, leaving=True))
    assert (report.leaving, report.parsed, report.leases) == (True, None, None)


def test_a_report_is_never_larger_than_the_server_takes() -> None:
    trace = "".join(f"  File {number} \N{SNOWMAN}\n" for number in range(1000))
    errors = [Error(f"{'x' * 600}{number}.py", f"{trace}{'y' * 3000}", new=False) for number in range(5000)]
    hindrances, providers = ["z" * 9999] * 99, {f"p{number}" * 40: "1" * 999 for number in range(999)}
    said = parsed_body(PARSED._replace(errors=errors, hindrances=hindrances, providers=providers))
    assert len(json.dumps(said)) <= MAX_PARSED_BYTES
    parsed = ParsedBody.model_validate(said)
    assert len(parsed.errors) == MAX_REPORTED_ERRORS
    assert parsed.error_count == 5000


def test_errors_of_letters_that_take_much_of_json_fit_too() -> None:
    path, trace = "\N{SNOWMAN}" * 500, "\N{PILE OF POO}" * 500
    errors = [Error(f"{number:02}{path}.py", trace, new=number > 50) for number in range(100)]
    said = parsed_body(PARSED._replace(errors=errors))
    assert len(json.dumps(said)) <= MAX_PARSED_BYTES
    assert (said["error_count"], said["new_error_count"]) == (100, 49)
    assert all(error["new"] for error in said["errors"])
    assert said["errors"]


def test_of_a_long_trace_the_last_lines_stay() -> None:
    trace = "".join(f"line {number}\n" for number in range(10_000)) + "ValueError: \x1b[31mno\N{SNOWMAN}\n"
    short = shortened(trace, MAX_TRACE_BYTES)
    assert len(short.encode()) <= MAX_TRACE_BYTES
    assert short.startswith("line ")
    assert short.endswith("ValueError:  [31mno\N{SNOWMAN}")
    assert shortened("x" * 5000, 10) == "x" * 10
    assert shortened("\N{SNOWMAN}" * 5, 4) == "\N{SNOWMAN}"
    assert not shortened("x", 0)
    assert last_line("a\nb\n \n") == "b"
    assert not last_line("\n")


def test_text_that_utf_8_cannot_hold_is_replaced() -> None:
    said = parsed_body(PARSED._replace(errors=[Error("\udcff.py", "\udcff", True)]))
    assert ParsedBody.model_validate_json(json.dumps(said)).errors[0].path == " .py"


def test_time_alone_changes_no_substance() -> None:
    def said(**more: object) -> str:
        return substance(body(WHO, "log", PARSED._replace(**more)))  # type: ignore[arg-type]

    assert said(complete_for=1.0) == said(complete_for=2.0)
    assert said(complete_for=1.0) != said(complete_for=None)
    assert said(seconds={"a.py": 9.0}) == said()
    assert said(recorded=3) != said()
