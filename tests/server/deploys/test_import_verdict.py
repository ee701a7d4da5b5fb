"""Which problems of a verdict are new, and what becomes of them."""

import pytest

from dagferry_server.deploys.import_verdict import MAX_DETAILED_PROBLEMS, MAX_WARNINGS, judge_verdict, new_problems
from dagferry_server.deploys.verdict import Problem, Unjudged, Verdict
from dagferry_server.errors import ImportCheckRefused


def problem(path: str, message: str = "it fails", *, new: bool = True) -> Problem:
    return Problem(path=path, line=2, message=message, kind="import", new=new)


def verdict(*problems: Problem, **more) -> Verdict:
    new = sum(each.new for each in problems)
    given = {"problem_count": len(problems), "new_problem_count": new, "airflow": "3.3.2"}
    return Verdict(problems=list(problems), **{**given, **more})


def test_what_the_checker_says_is_new_counts_where_it_compared_with_what_is_live() -> None:
    found = verdict(problem("a.py"), problem("b.py", new=False))
    assert new_problems(found, None) == ([problem("a.py")], 1)


def test_otherwise_what_is_live_is_compared_by_path_and_message() -> None:
    found = verdict(problem("a.py"), problem("b.py", new=False), problem("c.py", "another", new=False))
    live = verdict(problem("a.py"), problem("c.py", "one"))
    assert new_problems(found, live) == ([problem("b.py", new=False), problem("c.py", "another", new=False)], 2)


def test_problems_that_are_only_counted_are_refused_too() -> None:
    with pytest.raises(ImportCheckRefused, match="and 300 more"):
        judge_verdict("prod", "block", verdict(problem_count=300, new_problem_count=300), None)


def test_a_refusal_lists_the_first_and_counts_all() -> None:
    found = verdict(*(problem(f"{number:02}.py") for number in range(40)))
    with pytest.raises(ImportCheckRefused) as caught:
        judge_verdict("prod", "block", found, None)
    assert "00.py:2: it fails; 01.py:2: it fails; 02.py:2: it fails; and 37 more." in caught.value.message
    assert len(caught.value.details["problems"]) == MAX_DETAILED_PROBLEMS
    assert caught.value.details["problem_count"] == 40


def test_warnings_are_bounded() -> None:
    found = verdict(
        *(problem(f"{number:02}.py") for number in range(40)),
        unjudged=[Unjudged(path=f"{number}.py", message="KeyError.", names=[]) for number in range(30)],
    )
    warnings = judge_verdict("prod", "warn", found, None)
    assert len(warnings) == 2 * (MAX_WARNINGS + 1)
    assert warnings[MAX_WARNINGS] == "30 more files or DAGs cannot be imported."
    assert warnings[-1] == "20 more files could not be checked."
    assert warnings[-2] == "9.py could not be checked: KeyError."


@pytest.mark.parametrize("policy", ["warn", "block"])
def test_nothing_is_said_about_a_good_one(policy) -> None:
    assert judge_verdict("prod", policy, verdict(), None) == []
