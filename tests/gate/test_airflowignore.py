"""Which files Airflow looks at: the answers are those of real Airflow, and no pattern takes long."""

import subprocess
import sys
import time

import pytest

from airflowignores import CASES, answers, content
from dagferry_gate.airflowignore import IGNORE_FILE, MAX_IGNORE_BYTES, MAX_PATTERNS, listed

ANSWERS = answers()
NEWEST_ALONE = {"a regexp that looks ahead", "a regexp that looks behind", "no-break space before a comment"}


def tree(name: str) -> tuple[list[str], dict[str, bytes]]:
    files = {path: content(text) for path, text in CASES[name].items()}
    return sorted(files), {path: data for path, data in files.items() if path.rpartition("/")[2] == IGNORE_FILE}


@pytest.mark.parametrize("which", ["3 glob", "2 regexp", "3 regexp"])
@pytest.mark.parametrize("name", CASES)
def test_what_airflow_reads_is_what_airflow_reads(name, which) -> None:
    if which == "3 regexp" and name in NEWEST_ALONE:
        pytest.skip("RE2 cannot do it, and so neither can Airflow 2")
    found = listed(*tree(name), which.partition(" ")[2])
    expected = ANSWERS[name][which]
    if isinstance(expected, str):
        assert found.problems
    else:
        assert (found.paths, found.problems) == (expected, [])


def test_the_other_syntax_of_an_airflow_differs_only_where_its_libraries_do() -> None:
    different = {name for name, answer in ANSWERS.items() if answer["2 regexp"] != answer["3 regexp"]}
    assert different == NEWEST_ALONE
    different = {name for name, answer in ANSWERS.items() if answer["2 glob"] != answer["3 glob"]}
    assert different == {"a negated folder", "a star and a slash", "stars and a slash"}


@pytest.mark.parametrize(
    ("text", "line"),
    [(b"a\n\xff", 2), (b"a\nb\n!", 3), (b"#\na\\#b", 2), (b"[z-a]", 1)],
    ids=["not UTF-8", "a bang", "an escaped number sign", "a backwards class"],
)
def test_a_pattern_at_which_airflow_ends_is_named_with_its_line(text, line) -> None:
    problem = listed(["a.py", "t/b.py"], {"t/.airflowignore": text}, "glob").problems[0]
    assert (problem.path, problem.line, problem.column) == ("t/.airflowignore", line, 1)
    assert "finds no DAGs" in problem.message


def test_a_pattern_in_a_folder_that_airflow_does_not_enter_is_not_read() -> None:
    assert listed(["a.py"], {"t/.airflowignore": b"!"}, "glob").problems
    assert listed(["a.py"], {IGNORE_FILE: b"t/", "t/.airflowignore": b"!"}, "glob") == (["a.py"], [], False)


def test_an_invalid_regexp_is_skipped_as_airflow_does() -> None:
    assert listed(["a.py", "b.py"], {IGNORE_FILE: b"a(\nb"}, "regexp") == (["a.py"], [], False)


@pytest.mark.parametrize(
    ("syntax", "pattern"),
    [
        ("regexp", "(a+)+Z"),
        ("regexp", "(a|a)*b"),
        ("regexp", "(.{0,30}){0,30}x"),
        ("regexp", "((((a{0,9}){0,9}){0,9}){0,9})z"),
        ("glob", "*a" * 100 + "b"),
        ("glob", "**/" + "*a" * 100 + "/**/b"),
        ("glob", "[a-z]" * 150 + "*" * 200 + "b"),
    ],
)
def test_no_pattern_takes_more_than_linear_time(syntax, pattern) -> None:
    paths = [f"{'a' * 200}/{'a' * 240}{number}.py" for number in range(20)]
    assert listed(paths, {IGNORE_FILE: pattern.encode()}, syntax) == (paths, [], False)


def test_patterns_that_take_too_long_together_are_a_problem(monkeypatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    found = listed([f"{number}.py" for number in range(50)], {IGNORE_FILE: b"a"}, "regexp")
    assert len(found.paths) == 50
    assert "take longer than 5 s" in found.problems[0].message


@pytest.mark.parametrize(
    "text", [b"#" * (MAX_IGNORE_BYTES + 1), b"x\n" * (MAX_PATTERNS + 1), b"x" * 1001], ids=["bytes", "patterns", "long"]
)
def test_a_file_with_too_much_in_it_is_a_problem(text) -> None:
    assert [problem.path for problem in listed(["a.py"], {IGNORE_FILE: text}, "glob").problems] == [IGNORE_FILE]
    assert listed(["a.py"], {IGNORE_FILE: b"x\n" * MAX_PATTERNS}, "glob").problems == []


def test_a_pattern_that_is_too_large_to_compile_matches_nothing() -> None:
    text = ("(" * 50 + r"\pL{100}" + "){9}" * 50).encode()
    assert listed(["a.py"], {IGNORE_FILE: text}, "regexp") == (["a.py"], [], False)
    assert listed(["a.py"], {IGNORE_FILE: ("[!ä]" * 240).encode()}, "glob") == (["a.py"], [], False)


def test_what_a_problem_repeats_of_a_pattern_is_one_short_line() -> None:
    message = listed(["a"], {IGNORE_FILE: b"\x1b" + b"x" * 300 + b"\\"}, "glob").problems[0].message
    assert message.isprintable()
    assert len(message) < 300


def test_patterns_are_compiled_by_a_library_that_is_not_loaded_without_any() -> None:
    code = """
import sys
from dagferry_gate.airflowignore import listed
assert listed(["a.py"], {}, "glob").paths == ["a.py"]
assert "pathspec" not in sys.modules
assert listed(["a.py", "b.py"], {".airflowignore": b"b.py"}, "glob").paths == ["a.py"]
assert "pathspec" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
