"""The arguments of the DAG bundle that say which old trees stay, and the table of all of them."""

import ast
from pathlib import Path

import pytest

from dagferry_airflow import arguments
from dagferry_airflow.arguments import ARGUMENTS, DEFAULT_KEEP, Keep
from dagferry_core.errors import SetupError
from dagferry_sidecar.settings import SETTINGS


def test_the_defaults_are_the_sidecar_s() -> None:
    defaults = {setting.name: setting.default for setting in SETTINGS}
    assert (defaults["keep_trees"], defaults["keep_hours"], defaults["max_tree_bytes"]) == DEFAULT_KEEP == (3, 24, None)


@pytest.mark.parametrize("keep", [Keep(), Keep(0, 0, 1), Keep(10_000, 0.5, 1 << 60)])
def test_what_can_be_used_is_returned(keep) -> None:
    assert keep.check() is keep


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("keep_trees", -1), ("keep_trees", 1.5), ("keep_trees", "3"), ("keep_trees", True), ("keep_trees", 10_001),
        ("keep_hours", -1), ("keep_hours", float("nan")), ("keep_hours", "24"), ("keep_hours", None),
        ("max_tree_bytes", 0), ("max_tree_bytes", 1.5), ("max_tree_bytes", "1GiB"),
    ],
)  # fmt: skip
def test_a_mistake_names_the_argument_and_the_value(name, value) -> None:
    keep = {"keep_trees": "trees", "keep_hours": "hours", "max_tree_bytes": "max_bytes"}
    with pytest.raises(SetupError) as caught:
        Keep(**{keep[name]: value}).check()
    assert caught.value.message.startswith(f"{name} is {value!r}: ")


def test_without_a_limit_trees_may_fill_most_of_the_volume(tmp_path) -> None:
    assert Keep(max_bytes=5).rules(str(tmp_path)).max_tree_bytes == 5
    assert Keep().rules(str(tmp_path)).max_tree_bytes > 1 << 20


def test_the_table_has_every_argument_of_the_bundle() -> None:
    source = Path(arguments.__file__).with_name("bundle.py").read_text()
    [init] = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    ]
    assert [argument.arg for argument in init.args.kwonlyargs] == [argument.name for argument in ARGUMENTS]
