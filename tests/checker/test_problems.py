"""Problems: which two are the same, and what is sent of a report."""

from dagferry_checker.problems import MAX_NAMES, MAX_PROBLEMS, Kind, Problem, Report, Unjudged, first_names, key_of


def problem(message: str = "KeyError: 'x'", path: str = "a.py", *, line: int = 3, new: bool = True) -> Problem:
    return Problem(path, line, message, Kind.IMPORT, "trace", new)


def test_a_problem_that_moved_is_the_same() -> None:
    assert key_of(problem(line=3)) == key_of(problem(line=9, new=False))
    assert key_of(problem("bad <object at 0x7f10>")) == key_of(problem("bad <object at 0x7f99>"))
    assert key_of(problem("no '~/tmpab_2x9q1/a'")) == key_of(problem("no '~/tmp0zz2x9q1/a'"))
    assert key_of(problem("invalid syntax (b.py, line 3)")) == key_of(problem("invalid syntax (b.py, line 14)"))


def test_another_path_message_or_kind_is_another_problem() -> None:
    keys = {
        key_of(problem()),
        key_of(problem(path="b.py")),
        key_of(problem("KeyError: 'y'")),
        key_of(problem()._replace(kind=Kind.CRASH)),
    }
    assert len(keys) == 4


def test_a_problem_is_shown_as_compilers_do() -> None:
    assert str(problem()) == "a.py:3: KeyError: 'x'"
    assert str(problem(line=0)) == "a.py: KeyError: 'x'"
    assert "connection:w" in str(Unjudged("a.py", "KeyError", ("connection:w",)))


def test_a_report_lists_new_problems_first_and_counts_all() -> None:
    old = [problem(path=f"{number:04}.py", new=False) for number in range(MAX_PROBLEMS)]
    report = Report([*old, problem(path="z.py")], [], 300, 10, 5, 1.234)
    sent = report.as_dict({"airflow": "3.3.2", "python": "3.11.7"})
    assert sent["problems"][0]["path"] == "z.py"
    assert sent["problems"][0]["kind"] == "import"
    assert (len(sent["problems"]), sent["problem_count"], sent["new_problem_count"]) == (MAX_PROBLEMS, 201, 1)
    assert (sent["files"], sent["dags"], sent["seconds"], sent["airflow"]) == (300, 5, 1.23, "3.3.2")


def test_names_are_few_and_each_is_there_once() -> None:
    assert first_names(["a", "b", "a"]) == ("a", "b")
    assert len(first_names(map(str, range(1000)))) == MAX_NAMES
