"""What is printed: lines that editors and people read, without control characters."""

import json

from dagferry_checker.output import print_report
from dagferry_checker.problems import MAX_PROBLEMS, Kind, Problem, Report, Unjudged

VERSIONS = {"airflow": "3.3.2", "python": "3.11.7"}


def test_problems_warnings_and_a_summary(capsys) -> None:
    problem = Problem("a.py", 3, "KeyError: '\x1b[31mx'", Kind.IMPORT, "", True)
    report = Report([problem], [Unjudged("b.py", "bad", ("variable:x",))], 2, 2, 1, 1.25)
    print_report(report, "prod v1", VERSIONS, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a.py:3: KeyError: ' [31mx'"
    assert "variable:x" in lines[1]
    assert lines[2] == (
        "prod v1: 1 problem in 2 DAG files with 1 DAG, imported by Airflow 3.3.2 on Python 3.11.7 in 1.2 s."
    )


def test_long_lists_end_with_how_many_more(capsys) -> None:
    problems = [Problem(f"{number}.py", 1, "x", Kind.IMPORT, "", True) for number in range(MAX_PROBLEMS + 5)]
    print_report(Report(problems, [], 300, 300, 0, 1.0), "x", VERSIONS, as_json=False)
    assert "And 5 more." in capsys.readouterr().out


def test_json_is_one_object(capsys) -> None:
    print_report(Report([], [], 0, 0, 0, 0.0), "x", VERSIONS, as_json=True, version="v")
    assert json.loads(capsys.readouterr().out)["version"] == "v"
