"""What a verdict means for a deploy: a refusal, or warnings. Pure."""

from collections.abc import Sequence

from dagferry_server.deploys.checking import Policy
from dagferry_server.deploys.verdict import Problem, Unjudged, Verdict
from dagferry_server.errors import ImportCheckRefused

MAX_DETAILED_PROBLEMS = 20
"""How many problems the details of an error have."""
MAX_SHOWN_PROBLEMS = 3
"""How many its message has."""
MAX_WARNINGS = 10
"""How many problems, and how many files that could not be judged, become a warning each."""


def new_problems(verdict: Verdict, live: Verdict | None) -> tuple[list[Problem], int]:
    """Return the problems that what is live does not have, and how many there are.

    ``live`` is the verdict on that, if the verdict compares with something else than what is live now.
    """
    if live is None:
        listed = [problem for problem in verdict.problems if problem.new]
        return listed, max(len(listed), verdict.new_problem_count)
    had = {(problem.path, problem.message) for problem in live.problems}
    listed = [problem for problem in verdict.problems if (problem.path, problem.message) not in had]
    return listed, len(listed)


def judge_verdict(deployment: str, policy: Policy, verdict: Verdict, live: Verdict | None) -> list[str]:
    """Return the warnings of a deploy; raise ``ImportCheckRefused`` if it has new problems that are refused."""
    new, count = new_problems(verdict, live)
    if count and policy == "block":
        raise _refused(deployment, new, count, verdict)
    return [*_new_warnings(new, count, verdict), *_old_warnings(verdict, count), *_unjudged_warnings(verdict.unjudged)]


def _refused(deployment: str, new: Sequence[Problem], count: int, verdict: Verdict) -> ImportCheckRefused:
    shown = [problem.sentence for problem in new[:MAX_SHOWN_PROBLEMS]]
    more = count - len(shown)
    text = "; ".join([*shown, *([f"and {more:,} more"] if more > 0 else [])])
    return ImportCheckRefused(
        f"{_airflow(verdict)} could not import what this would deploy to {deployment}: {text}.",
        details={
            "problems": [problem.model_dump(exclude={"new"}) for problem in new[:MAX_DETAILED_PROBLEMS]],
            "problem_count": count,
        },
    )


def _airflow(verdict: Verdict) -> str:
    return f"Airflow {verdict.airflow}" if verdict.airflow else "Airflow"


def _new_warnings(new: Sequence[Problem], count: int, verdict: Verdict) -> list[str]:
    warnings = [f"{problem.sentence}. {_airflow(verdict)} cannot import this file." for problem in new[:MAX_WARNINGS]]
    more = count - len(warnings)
    return [*warnings, *([f"{more:,} more files or DAGs cannot be imported."] if more > 0 else [])]


def _old_warnings(verdict: Verdict, new_count: int) -> list[str]:
    old = verdict.problem_count - new_count
    if old <= 0:
        return []
    first = next((problem for problem in verdict.problems if not problem.new), None)
    return [f"{old:,} problems in DAG files are as they were before" + (f": {first.sentence}." if first else ".")]


def _unjudged_warnings(unjudged: Sequence[Unjudged]) -> list[str]:
    shown = []
    for each in unjudged[:MAX_WARNINGS]:
        needs = f" It needs {', '.join(each.names)}, which the checker does not have." if each.names else ""
        shown.append(f"{each.path} could not be checked: {each.message.rstrip('.')}.{needs}")
    more = len(unjudged) - len(shown)
    return [*shown, *([f"{more:,} more files could not be checked."] if more > 0 else [])]
