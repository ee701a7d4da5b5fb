"""The server does not fork: a process that is forked after the client of a store was used hangs at its next request."""

import ast
from collections.abc import Iterator

import pytest

from deployfiles import HOME

PACKAGES = ("core", "runtime", "gate", "server")
FORKS = {("os", "fork"), ("os", "forkpty"), ("pty", "fork")}
MODULES = {"multiprocessing"}
SOURCES = sorted(path for package in PACKAGES for path in (HOME / package).rglob("*.py"))


def forks(tree: ast.AST) -> Iterator[str]:
    """What in a module forks, or may."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (node.value.id, node.attr) in FORKS:
                yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            names = [alias.name for alias in node.names]
            for name in names if module is None else [module]:
                if name.partition(".")[0] in MODULES:
                    yield name
            yield from (name for name in names if name == "ProcessPoolExecutor" or (module, name) in FORKS)
        if isinstance(node, ast.Attribute) and node.attr == "ProcessPoolExecutor":
            yield node.attr


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(HOME)) for path in SOURCES])
def test_no_module_of_the_server_forks(path) -> None:
    assert list(forks(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    "text",
    [
        "import os\nos.fork()",
        "from os import fork",
        "import multiprocessing.pool",
        "from multiprocessing import Process",
        "from concurrent.futures import ProcessPoolExecutor",
        "import concurrent.futures\nconcurrent.futures.ProcessPoolExecutor(2)",
    ],
)
def test_what_forks_is_found(text) -> None:
    assert list(forks(ast.parse(text)))
