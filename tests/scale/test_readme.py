"""The table of what goes wrong names tests that exist."""

import ast
import re
from pathlib import Path

from deployfiles import HOME

ROWS = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \|$", (Path(__file__).parent / "README.md").read_text(), re.MULTILINE)


def test_each_row_has_its_number_in_ascending_order_and_a_test_or_why_there_is_none() -> None:
    numbers = [int(number) for number, _, _ in ROWS]
    assert numbers == sorted(set(numbers))
    for number, _, tests in ROWS:
        assert re.fullmatch(r"`[^`]+`(, `[^`]+`)*|none: .+", tests), number


def test_each_test_that_is_named_exists() -> None:
    named = re.findall(r"`([\w/.]+\.py)::(\w+)`", " ".join(tests for _, _, tests in ROWS))
    assert named
    for file, name in named:
        tree = ast.parse((HOME / file).read_text())
        functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        assert name in functions, f"{file}::{name}"
