"""Problems are written as tools that jump to them expect, and repeat nothing that a terminal would obey."""

from dagferry_gate.findings import MAX_MESSAGE_CHARACTERS, Problem, printable


def test_a_problem_is_written_with_its_place() -> None:
    assert str(Problem("team/a.py", 3, 14, "Expected ':'")) == "team/a.py:3:14: Expected ':'"


def test_what_a_file_has_is_repeated_in_one_short_printable_line() -> None:
    assert printable("a\nb\x1b[31m\u202e\u2028ä") == "a\ufffdb\ufffd[31m\ufffd\ufffdä"
    assert len(printable("x" * 10_000)) == MAX_MESSAGE_CHARACTERS + 1
