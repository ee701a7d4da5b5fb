"""What a verdict means for a deploy: a refusal, or warnings. Pure."""

from collections.abc import Sequence

from dagferry_core.deploylog import Deploy
from dagferry_server.deploys.candidates import Notes
from dagferry_server.deploys.checking import Policy
from dagferry_server.deploys.verdict import Problem, Unjudged, Verdict
from dagferry_server.errors import ImportCheckRefused

MAX_DETAILED_PROBLEMS = 20
"""How many problems the details of an error have."""
MAX_SHOWN_PROBLEMS = 3
"""How many its message has."""
MAX_WARNINGS = 10
"""How many problems, and how many files that could not be judged, become a warning each."""


def judge_content(deployment: str, policy: Policy, notes: Notes, digest: str, live: Deploy | None) -> list[str] | None:
    """Return the warnings of a deploy of a content in place of what is live, by the verdicts in ``notes``.

    ``None`` if they do not say what is new: then it has to be checked. Raises ``ImportCheckRefused``.
    """
    base = live.version if live else ""
    verdict = notes.verdict_on(digest, base)
    if verdict is None:
        return None
    if verdict.base == base:
        return judge_verdict(deployment, policy, verdict, None)
    before = notes.verdict_on(live.digest, base) if live else Verdict()
    new = new_since(verdict, before) if before else None
    return None if new is None else judge_verdict(deployment, policy, verdict, new)


def new_since(verdict: Verdict, live: Verdict) -> list[Problem] | None:
    """Return the problems that what is live does not have, by the verdict on it; ``None`` if these two do not say that.

    They do not if only the first problems of one are known. Nor if the only others have another message than one of
    their kind in the same file had: addresses and times in a message change, and only the checker knows of that. Which
    of two files has a DAG id too many depends on what is live.
    """
    if any(each.problem_count > len(each.problems) for each in (verdict, live)):
        return None
    had = {(problem.path, problem.message) for problem in live.problems}
    others = [problem for problem in verdict.problems if (problem.path, problem.message) not in had]
    kinds = {(problem.path, problem.kind) for problem in live.problems}
    new = [each for each in others if each.kind != "duplicate" and (each.path, each.kind) not in kinds]
    return new if new or not others else None


def judge_verdict(deployment: str, policy: Policy, verdict: Verdict, new: Sequence[Problem] | None) -> list[str]:
    """Return the warnings of a deploy; raise ``ImportCheckRefused`` if it has new problems that are refused.

    ``new`` are all new problems; ``None``: those that are new as the checker says.
    """
    count = 0
    if new is None:
        new = [problem for problem in verdict.problems if problem.new]
        count = verdict.new_problem_count
    count = max(count, len(new))
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
