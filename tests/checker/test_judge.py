"""What the outcomes of all files mean together: problems, new ones, duplicates, and what cannot be judged."""

from dagferry_checker.judge import STUB, Known, problems_of
from dagferry_checker.problems import Fault, Kind, Outcome


def ok(*dags: str) -> Outcome:
    return Outcome(dags, (), ())


def broken(message: str = "KeyError: 'x'", *names: str, kind: Kind = Kind.IMPORT, soft: bool = True) -> Outcome:
    return Outcome((), (Fault(3, message, kind, "", soft),), names)


def test_a_tree_without_faults_has_no_problems() -> None:
    assert problems_of({"a.py": ok("a"), "b.py": ok("b")}) == ([], [])


def test_a_problem_that_is_live_is_not_new() -> None:
    live = Known({"a.py": broken(), "b.py": ok("b")})
    problems, _ = problems_of({"a.py": broken(), "b.py": broken()}, live)
    assert [(problem.path, problem.new) for problem in problems] == [("a.py", False), ("b.py", True)]
    assert all(problem.new for problem in problems_of({"a.py": broken()})[0]), "nothing is live"


def test_the_same_file_with_another_error_is_new() -> None:
    problems, _ = problems_of({"a.py": broken("KeyError: 'y'")}, Known({"a.py": broken()}))
    assert problems[0].new


def test_an_error_of_a_file_that_asked_for_a_made_up_value_is_not_judged() -> None:
    problems, unjudged = problems_of({"a.py": broken("ValueError: bad", "variable:x")})
    assert problems == []
    assert [(entry.path, entry.names) for entry in unjudged] == [("a.py", ("variable:x",))]


def test_a_missing_module_is_a_problem_whatever_the_file_asked_for() -> None:
    problems, unjudged = problems_of({"a.py": broken("ModuleNotFoundError: x", "variable:x", soft=False)})
    assert len(problems) == 1
    assert unjudged == []


def test_an_error_of_the_network_is_not_judged() -> None:
    _, unjudged = problems_of({"a.py": broken("socket.gaierror: Name or service not known")})
    assert [entry.names for entry in unjudged] == [("network",)]


def test_two_files_with_one_dag_id_are_a_problem_of_the_one_that_came_later() -> None:
    problems, _ = problems_of({"a.py": ok("x"), "b.py": ok("x", "y")})
    assert [(problem.path, problem.kind) for problem in problems] == [("b.py", Kind.DUPLICATE)]
    live = Known({"b.py": ok("x")})
    problems, _ = problems_of({"a.py": ok("x"), "b.py": ok("x")}, live)
    assert [(problem.path, problem.new) for problem in problems] == [("a.py", True)], "b.py was there before"
    assert "b.py" in problems[0].message


def test_a_duplicate_that_is_live_is_not_new() -> None:
    tree = {"a.py": ok("x"), "b.py": ok("x")}
    problems, _ = problems_of({**tree, "c.py": ok("z")}, Known(tree))
    assert [problem.new for problem in problems] == [False]


def test_ids_with_made_up_values_are_no_duplicates() -> None:
    assert problems_of({"a.py": ok(f"{STUB}-team"), "b.py": ok(f"{STUB}-team")}) == ([], [])


def test_a_dag_id_of_another_deployment_is_a_problem_of_each_file_that_has_it() -> None:
    elsewhere = {"x": "theirs.py of the deployment lab", "z": "more.py of the deployment lab"}
    problems, _ = problems_of({"b.py": ok("x"), "a.py": ok("x", "y")}, None, elsewhere)
    between = [problem for problem in problems if "theirs.py of the deployment lab" in problem.message]
    assert [(problem.path, problem.kind, problem.new) for problem in between] == [
        ("a.py", Kind.DUPLICATE, True), ("b.py", Kind.DUPLICATE, True),
    ]  # fmt: skip
    assert [problem.path for problem in problems if problem not in between] == ["b.py"], "and twice in this one"


def test_a_dag_id_of_another_deployment_that_is_live_here_is_not_new_also_in_another_file() -> None:
    elsewhere = {"x": "theirs.py of the deployment lab", "y": "theirs.py of the deployment lab"}
    problems, _ = problems_of({"moved.py": ok("x", "y")}, Known({"a.py": ok("x")}), elsewhere)
    assert [("'x'" in problem.message, problem.new) for problem in problems] == [(True, False), (False, True)]


def test_made_up_ids_may_be_those_of_another_deployment() -> None:
    assert problems_of({"a.py": ok(f"{STUB}-x")}, None, {f"{STUB}-x": "b.py of the deployment lab"}) == ([], [])
