"""The table of what goes wrong names tests that exist."""

import ast
import re
from pathlib import Path

from deployfiles import HOME

NUMBERS = range(1, 26)
"""Nothing that is known to go wrong is left out."""
ROWS = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \|$", (Path(__file__).parent / "README.md").read_text(), re.MULTILINE)


def test_each_number_has_a_row_in_this_order_and_a_test_or_why_there_is_none() -> None:
    assert [int(number) for number, _, _ in ROWS] == list(NUMBERS)
    for number, _, tests in ROWS:
        assert re.fullmatch(r"`[^`]+`(, `[^`]+`)*|none: .+", tests), number


def test_each_test_that_is_named_exists() -> None:
    named = re.findall(r"`([\w/.]+\.py)::(\w+)`", " ".join(tests for _, _, tests in ROWS))
    assert named
    for file, name in named:
        tree = ast.parse((HOME / file).read_text())
        functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        assert name in functions, f"{file}::{name}"
