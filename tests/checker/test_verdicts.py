"""What is sent to the server is bounded, and what matters most is kept: the first new problems."""

import json

from dagferry_checker.problems import Kind, Problem, Report, Unjudged
from dagferry_checker.verdicts import MAX_VERDICT_BYTES, bounded

VERSIONS = {"airflow": "3.3.2", "python": "3.11.7"}


def problems(count: int, *, trace: str = "", message: str = "no") -> list[Problem]:
    return [Problem(f"{number:04}.py", 1, message, Kind.IMPORT, trace, True) for number in range(count)]


def test_a_small_report_is_sent_as_it_is() -> None:
    report = Report(problems(3, trace="t"), [Unjudged("u.py", "m", ("variable:x",))], 9, 2, 3, 1.0)
    assert bounded(report, VERSIONS) == report.as_dict(VERSIONS)


def test_traces_go_before_problems() -> None:
    sent = bounded(Report(problems(200, trace="t" * 4096), [], 9, 2, 3, 1.0), VERSIONS)
    assert len(json.dumps(sent)) <= MAX_VERDICT_BYTES
    assert len(sent["problems"]) == 200
    assert sent["problems"][0]["trace"]
    assert not sent["problems"][-1]["trace"]


def test_long_messages_are_cut_to_the_first_problems() -> None:
    report = Report(problems(200, message="\u2028" * 1000), [Unjudged("u.py", "x" * 1000, ())] * 100, 9, 2, 3, 1.0)
    sent = bounded(report, VERSIONS)
    assert len(json.dumps(sent)) <= MAX_VERDICT_BYTES
    assert sent["problem_count"] == 200
    assert sent["problems"][0]["path"] == "0000.py"
