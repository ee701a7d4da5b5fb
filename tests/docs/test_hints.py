"""Hints link to the documentation's URL, and every page and anchor that they name exists."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagferry_core.documentation import DOCUMENTATION
from errortable import ALL_ERRORS
from pages import DOCS, HOME, anchors

PACKAGES = sorted({path.parent for path in HOME.glob("*/dagferry_*/__init__.py")})
SOURCES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))


def documented(text: str) -> Iterator[tuple[str, str]]:
    """The pages and anchors behind each URL in the source of a module."""
    for path in re.findall(r"\{DOCUMENTATION\}/([\w./#-]*[\w/-])", text):
        page, _, anchor = path.partition("#")
        yield page, anchor


FOUND = [(path, page, anchor) for path in SOURCES for page, anchor in documented(path.read_text())]


def test_urls_are_found() -> None:
    assert list(documented('f"See {DOCUMENTATION}/how-to/a-b.md#c-1. x"')) == [("how-to/a-b.md", "c-1")]
    assert len(FOUND) >= 3
    shown = [error.default_hint for error in ALL_ERRORS if DOCUMENTATION in error.default_hint]
    assert shown
    assert all(f"{DOCUMENTATION}/" in hint for hint in shown)


@pytest.mark.parametrize(("path", "page", "anchor"), FOUND, ids=str)
def test_every_page_that_a_hint_names_exists(path: Path, page: str, anchor: str) -> None:
    assert (DOCS / page).is_file(), path
    assert not anchor or anchor in anchors((DOCS / page).read_text()), path


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(HOME)))
def test_nothing_that_is_printed_names_the_docs_folder(path: Path) -> None:
    tree = ast.parse(path.read_text())
    comments = {
        id(statement.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        for statement in node.body
        if isinstance(statement, ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in comments:
            assert not re.search(r"(?<!main/)\bdocs/\S", node.value), (path, node.lineno)
