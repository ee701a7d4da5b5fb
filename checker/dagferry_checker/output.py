"""Prints what a check found: lines of ``file:line: message``, or JSON."""

import json
import sys
from collections.abc import Mapping

from dagferry_checker.problems import MAX_PROBLEMS, Report


def print_report(report: Report, about: str, versions: Mapping[str, str], *, as_json: bool, version: str = "") -> None:
    """Print a report to standard output; ``about`` is what was checked, ``version`` the deploy's if it was one."""
    if as_json:
        found = report.as_dict(versions)
        sys.stdout.write(json.dumps({"version": version, **found}) + "\n")
        return
    for problem in report.problems[:MAX_PROBLEMS]:
        sys.stdout.write(f"{_plain(str(problem))}\n")
    if (more := len(report.problems) - MAX_PROBLEMS) > 0:
        sys.stdout.write(f"And {more} more.\n")
    for entry in report.unjudged:
        sys.stdout.write(f"{_plain(str(entry))}\n")
    sys.stdout.write(summary(report, about, versions) + "\n")


def summary(report: Report, about: str, versions: Mapping[str, str]) -> str:
    """Return the result in a sentence."""
    count = len(report.problems)
    where = f"Airflow {versions['airflow']} on Python {versions['python']}"
    result = "no problems" if not count else "1 problem" if count == 1 else f"{count} problems"
    return (
        f"{about}: {result} in {report.files} DAG file{'s' * (report.files != 1)} with {report.dags} "
        f"DAG{'s' * (report.dags != 1)}, imported by {where} in {report.seconds:.1f} s."
    )


def _plain(text: str) -> str:
    """Return a line without control characters: what DAG files raise is anybody's text."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
