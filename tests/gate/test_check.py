"""The verdict on a tree: which files are DAG files, which of them do not parse, and what is only worth a warning."""

import re

import pytest

from dagferry_gate.airflowignore import IGNORE_FILE, MAX_IGNORE_BYTES, MAX_IGNORE_TOTAL_BYTES
from dagferry_gate.check import MAX_HELPERS, MAX_PROBLEMS, MAX_REMOVALS, Gate, Verdict, is_candidate
from dagferry_gate.findings import Problem
from dagferry_gate.ruff import find_ruff
from dagferry_gate.rules import Rules
from trees import tree

RUFF = find_ruff()
GOOD = "from airflow import DAG\n"
BAD = "from airflow import DAG\nx = (\n"
SIX, TWO, THREE = Rules("3.11"), Rules("3.11", "2"), Rules("3.11", "3")


def check(contents: dict[str, str | bytes], rules: Rules = SIX) -> Verdict:
    made = tree(contents)
    return Gate(RUFF).check(made.files, made.open_content, rules)


def dags(contents: dict[str, str | bytes], rules: Rules = SIX) -> list[str]:
    made = tree(contents)
    return Gate(RUFF).dag_files(made.files, made.open_content, rules).paths


def test_a_tree_that_parses_passes() -> None:
    assert check({"a.py": GOOD, "helpers/b.py": "x = 1\n", "c.sql": "SELECT ("}) == ([], 0, [])
    assert check({}) == ([], 0, [])
    assert check({"a.py": GOOD}).passed


def test_a_dag_file_that_does_not_parse_is_a_problem_with_its_place() -> None:
    verdict = check({"a.py": GOOD, "team/b.py": BAD})
    assert verdict.problems == [Problem("team/b.py", 3, 1, "unexpected EOF while parsing")]
    assert (verdict.problem_count, verdict.warnings, verdict.passed) == (1, [], False)


def test_a_helper_that_does_not_parse_is_a_warning() -> None:
    verdict = check({"a.py": GOOD, "lib/h.py": "x = (\n"})
    assert verdict.passed
    assert verdict.warnings == [
        "lib/h.py:2:1: unexpected EOF while parsing. Airflow does not load this file itself, but a DAG may import it."
    ]


def test_a_file_that_airflow_ignores_is_a_helper() -> None:
    verdict = check({"a.py": GOOD, "old/b.py": BAD, ".airflowignore": "old/\n"})
    assert verdict.passed
    assert len(verdict.warnings) == 1


def test_the_syntax_of_airflowignore_depends_on_the_airflow() -> None:
    files: dict[str, str | bytes] = {"a1.py": BAD, ".airflowignore": "a\\d\n"}
    assert [check(files, rules).passed for rules in (TWO, THREE, SIX)] == [True, False, False]
    assert check(files, Rules("3.11", "3", "regexp")).passed


def test_an_airflowignore_at_which_airflow_ends_is_a_problem() -> None:
    verdict = check({"a.py": GOOD, "t/.airflowignore": "a\n!\n"})
    assert [problem[:3] for problem in verdict.problems] == [("t/.airflowignore", 2, 1)]
    assert verdict.problem_count == 1


def test_dag_files_are_those_that_airflow_would_import() -> None:
    files: dict[str, str | bytes] = {
        "a.py": GOOD,
        "asset.py": "# airflow assets\n",
        "big.PY": GOOD,
        "broken.py": BAD,
        "dir.py/x.py": GOOD,
        "helper.py": "x = 1\n",
        "note.txt": GOOD,
        "pack.zip": b"PK",
        "tests/.py": GOOD,
        "tests/t.py": GOOD,
        ".airflowignore": "tests\n",
    }
    assert dags(files, TWO) == ["a.py", "broken.py", "dir.py/x.py", "pack.zip"]
    assert dags(files, THREE) == dags(files) == ["a.py", "asset.py", "big.PY", "broken.py", "dir.py/x.py", "pack.zip"]


def test_names_are_never_read_as_options_or_settings() -> None:
    verdict = check(
        {
            "--exit-zero.py": BAD,
            "-": "x",
            "@a.py": BAD,
            "a b\u2028c.py": BAD,
            "*.py": BAD,
            "ruff.toml": "exclude = ['*']\n[lint]\nignore = ['ALL']\n",
            ".ruff.toml": "exclude = ['*']\n",
            "pyproject.toml": "[tool.ruff]\nexclude = ['*']\n",
            ".gitignore": "*\n",
        }
    )
    assert [problem.path for problem in verdict.problems] == ["*.py", "--exit-zero.py", "@a.py", "a b\u2028c.py"]


def test_what_airflow_3_removed_is_a_warning_where_airflow_3_runs() -> None:
    source = GOOD + "DAG('a', schedule_interval='@daily')\n"
    assert check({"a.py": source}, TWO).warnings == check({"a.py": source}).warnings == []
    verdict = check({"a.py": source, "lib/b.py": source.replace("airflow", "airflow")}, THREE)
    assert verdict.passed
    assert [text.partition(":")[0] for text in verdict.warnings] == ["a.py", "lib/b.py"]
    assert re.search(r"a.py:2:10: AIR301 `schedule_interval` is removed in Airflow 3", verdict.warnings[0])


def test_the_lists_are_short_and_everything_is_counted() -> None:
    verdict = check({f"{number:03}.py": BAD for number in range(50)})
    assert (len(verdict.problems), verdict.problem_count) == (MAX_PROBLEMS, 50)
    assert verdict.problems[-1].path == f"{MAX_PROBLEMS - 1:03}.py"
    verdict = check({f"{number:03}.py": "x = (\n" for number in range(50)})
    assert len(verdict.warnings) == MAX_HELPERS + 1
    assert verdict.warnings[-1] == f"{50 - MAX_HELPERS} more helper files do not parse."
    source = GOOD + "DAG('a', schedule_interval='@daily')\n" * 20
    verdict = check({f"{number}.py": source for number in range(5)}, THREE)
    assert len(verdict.warnings) == MAX_REMOVALS + 1
    assert verdict.warnings[-1] == f"{100 - MAX_REMOVALS} more uses of what Airflow 3 removed."


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + BAD.encode(),
        b"airflow dag \0",
        b"# airflow dag\nx = '\xff'",
        b"# coding: utf-16\n# airflow dag",
        b"# coding: ascii\n# airflow dag \xff",
        b"# airflow dag\n" + b"(" * 1_000_000,
        b"# airflow dag\nx = " + b"-" * 1_000_000 + b"1",
        b"# airflow dag\n" + b"x = 1  # a comment\n" * 500_000 + b"(",
        b"# airflow dag\n" + b"#" * 11_000_000,
    ],
    ids=["BOM", "null", "bytes", "cookie", "cookie lies", "brackets", "signs", "10 MB", "11 MB"],
)
def test_a_hostile_dag_file_is_a_problem_and_no_more(content) -> None:
    verdict = check({"a.py": GOOD, "b.py": content})
    assert {problem.path for problem in verdict.problems} == {"b.py"}
    assert all(problem.message.isprintable() and len(problem.message) < 300 for problem in verdict.problems)


def test_a_second_check_of_the_same_contents_reads_nothing() -> None:
    gate, made = Gate(RUFF), tree({"a.py": GOOD, "b.py": BAD, "c.sql": "x"})
    first = gate.check(made.files, made.open_content, THREE)
    made.opened.clear()
    assert gate.check(made.files, made.open_content, THREE) == first
    assert made.opened == []


def test_so_many_airflowignores_that_they_fill_memory_are_a_problem_and_not_read() -> None:
    files: dict[str, str | bytes] = {f"{number}/{IGNORE_FILE}": b"#" * MAX_IGNORE_BYTES for number in range(65)}
    made = tree({**files, "a.py": GOOD, "0/b.py": GOOD})
    found = Gate(RUFF).dag_files(made.files, made.open_content, SIX)
    assert found.paths == ["0/b.py", "a.py"]
    assert [problem.message for problem in found.problems] == [
        f"the .airflowignore files have more than {MAX_IGNORE_TOTAL_BYTES} bytes together"
    ]
    assert not [path for path in made.opened if path.endswith(IGNORE_FILE)]


def test_a_name_says_whether_a_file_may_be_a_dag_file() -> None:
    names = ["a.py", "b/.py", "c.PY", "d.zip", "e.txt", ".airflowignore"]
    assert [is_candidate(name, TWO) for name in names] == [True, False, False, True, False, False]
    assert [is_candidate(name, THREE) for name in names] == [True, False, True, True, False, False]
