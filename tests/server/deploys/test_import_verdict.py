"""Which problems of a verdict are new, and what becomes of them."""

import pytest

from dagferry_core.deploylog import Deploy
from dagferry_server.deploys.candidates import Candidate, Notes
from dagferry_server.deploys.checking import Policy
from dagferry_server.deploys.import_verdict import MAX_DETAILED_PROBLEMS, MAX_WARNINGS, judge_content, new_since
from dagferry_server.deploys.verdict import Problem, Unjudged, Verdict
from dagferry_server.errors import ImportCheckRefused


def problem(path: str, message: str = "it fails", *, new: bool = True) -> Problem:
    return Problem(path=path, line=2, message=message, kind="import", new=new)


def verdict(*problems: Problem, **more) -> Verdict:
    new = sum(each.new for each in problems)
    given = {"problem_count": len(problems), "new_problem_count": new, "airflow": "3.3.2"}
    return Verdict(problems=list(problems), **{**given, **more})


def notes(*verdicts: Verdict) -> Notes:
    """What is known of contents that were checked one after another."""
    candidates = [Candidate(str(at), one.base, one.digest, "ann", "", at) for at, one in enumerate(verdicts)]
    return Notes({}, {one.id: one for one in candidates}, {str(at): one for at, one in enumerate(verdicts)})


def judged(found: Verdict, policy: Policy = "block") -> list[str] | None:
    """Judge what was compared with what is live."""
    return judge_content("prod", policy, notes(found), "", None)


def test_what_the_checker_says_is_new_counts_where_it_compared_with_what_is_live() -> None:
    found = verdict(problem("a.py"), problem("b.py", new=False))
    with pytest.raises(ImportCheckRefused) as caught:
        judged(found)
    assert [each["path"] for each in caught.value.details["problems"]] == ["a.py"]
    assert judged(verdict(problem("b.py", new=False))) == [
        "1 problems in DAG files are as they were before: b.py:2: it fails."
    ]


def test_otherwise_it_is_compared_with_the_verdict_on_what_is_live_and_without_one_it_has_to_be_checked() -> None:
    live = Deploy(2, "v2", "live", "upload", "", "ann", 1, 0, 0, 0)
    found = verdict(problem("a.py"), problem("b.py", new=False), base="v1", digest="content")
    of_live = verdict(problem("a.py"), base="v1", digest="live")
    assert judge_content("prod", "block", notes(found), "other", live) is None
    assert judge_content("prod", "block", notes(found), "content", live) is None
    with pytest.raises(ImportCheckRefused, match=r"to prod: b\.py:2: it fails\."):
        judge_content("prod", "block", notes(found, of_live), "content", live)
    repaired = notes(verdict(problem("a.py"), base="v1", digest="content"), of_live)
    assert judge_content("prod", "block", repaired, "content", live) == [
        "1 problems in DAG files are as they were before."
    ]
    with pytest.raises(ImportCheckRefused):  # nothing is live any more
        judge_content("prod", "block", notes(found), "content", None)


def test_two_verdicts_say_what_is_new_by_path_and_message() -> None:
    found = verdict(problem("a.py"), problem("b.py", new=False))
    assert new_since(found, verdict(problem("a.py"))) == [problem("b.py", new=False)]
    assert new_since(found, verdict(problem("a.py"), problem("b.py"), problem("c.py"))) == []


def test_another_message_of_a_file_that_had_a_problem_may_be_an_old_one() -> None:
    one, other = (problem("a.py", f"<object at 0x7f{number}> cannot be serialized") for number in (1, 2))
    assert new_since(verdict(one), verdict(other)) is None
    assert new_since(verdict(one, problem("b.py")), verdict(other)) == [problem("b.py")]
    of_another_kind = other.model_copy(update={"kind": "serialize"})
    assert new_since(verdict(one), verdict(of_another_kind)) == [one]


def test_which_file_has_a_dag_id_too_many_is_for_the_checker_to_say() -> None:
    twice = problem("a.py", "DAG id 'x' is also in b.py.").model_copy(update={"kind": "duplicate"})
    assert new_since(verdict(twice), verdict()) is None


@pytest.mark.parametrize("cut", ["content", "live"])
def test_a_list_that_was_cut_does_not_say_what_is_new(cut) -> None:
    whole, shorter = verdict(problem("a.py")), verdict(problem("a.py"), problem_count=2)
    of = {"content": whole, "live": whole} | {cut: shorter}
    assert new_since(of["content"], of["live"]) is None


def test_problems_that_are_only_counted_are_refused_too() -> None:
    with pytest.raises(ImportCheckRefused, match="and 300 more"):
        judged(verdict(problem_count=300, new_problem_count=300))


def test_a_refusal_lists_the_first_and_counts_all() -> None:
    found = verdict(*(problem(f"{number:02}.py") for number in range(40)))
    with pytest.raises(ImportCheckRefused) as caught:
        judged(found)
    assert "00.py:2: it fails; 01.py:2: it fails; 02.py:2: it fails; and 37 more." in caught.value.message
    assert len(caught.value.details["problems"]) == MAX_DETAILED_PROBLEMS
    assert caught.value.details["problem_count"] == 40


def test_warnings_are_bounded() -> None:
    found = verdict(
        *(problem(f"{number:02}.py") for number in range(40)),
        unjudged=[Unjudged(path=f"{number}.py", message="KeyError.", names=[]) for number in range(30)],
    )
    warnings = judged(found, "warn") or []
    assert len(warnings) == 2 * (MAX_WARNINGS + 1)
    assert warnings[MAX_WARNINGS] == "30 more files or DAGs cannot be imported."
    assert warnings[-1] == "20 more files could not be checked."
    assert warnings[-2] == "9.py could not be checked: KeyError."


@pytest.mark.parametrize("policy", ["warn", "block"])
def test_nothing_is_said_about_a_good_one(policy) -> None:
    assert judged(verdict(), policy) == []
