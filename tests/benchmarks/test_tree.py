"""The tree that is measured on is the same everywhere, and has the shape that the figures suppose."""

import ast
import importlib.util
import keyword
from hashlib import sha256
from pathlib import Path

import pytest

from dagferry_core.bundle.manifest import Entry, Manifest
from dagferry_core.source.graph import touched
from dagferry_core.source.scan import imported_names

HOME = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tree():
    spec = importlib.util.spec_from_file_location("benchmark_tree", HOME / "benchmarks" / "tree.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_has_2000_files_in_627_folders_and_60_mb(tree):
    paths = [file.path for file in tree.plan()]
    folders = {str(folder) for path in paths for folder in Path(path).parents} - {"."}
    assert len(set(paths)) == 2000
    assert len(folders) == 627
    assert sum(file.size for file in tree.plan()) == 60_000_000


@pytest.mark.parametrize(
    ("number", "digest"),
    [
        (0, "56984ce46ccba71f"),
        (1, "be462cd8a50ac53c"),
        (401, "6bb08c8a6aadedd2"),
        (1999, "9a6aec692af698cc"),
    ],
)
def test_its_bytes_are_the_same_on_every_python(tree, number, digest):
    text = tree.source(number).encode()
    assert len(text) == tree.plan()[number].size
    assert sha256(text).hexdigest()[:16] == digest


def test_its_files_are_python(tree):
    for number in range(0, 2000, 100):
        ast.parse(tree.source(number))


def test_no_word_is_one_of_pythons(tree):
    assert not set(filter(keyword.iskeyword, tree.WORDS))


def test_the_text_imports_what_the_plan_says(tree):
    for number in range(0, 2000, 100):
        found = {name.rpartition(".")[0] for name in imported_names(tree.source(number).encode())}
        assert found >= set(tree.plan()[number].imports)
        assert found - set(tree.plan()[number].imports) <= {"", "datetime", "airflow.exceptions", "airflow.sdk"}


def test_200_dags_and_nothing_else_import_the_helper_and_nothing_the_leaf(tree):
    imports = {file.path: tuple(f"{module}.x" for module in file.imports) for file in tree.plan()}

    def with_changed(changed):
        return Manifest(Entry(path, 0, 0o644, str(int(path == changed)) * 64) for path in imports)

    importers = touched(with_changed(None), with_changed(tree.HELPER), imports, {})
    assert len(importers) == 200
    assert not [path for path in importers if path.startswith("common/") or path.endswith("/helpers.py")]
    assert touched(with_changed(None), with_changed(tree.plan()[tree.LARGE.leaf].path), imports, {}) == []


@pytest.mark.parametrize("name", ["LARGE", "USUAL"])
def test_a_change_is_one_line_of_one_file_and_each_number_another(tree, tmp_path, name):
    shape = getattr(tree, name)
    for change, number in ((tree.change_leaf, shape.leaf), (tree.change_helper, 1)):
        path = tmp_path / tree.plan(shape)[number].path
        path.parent.mkdir(parents=True)
        path.write_text(tree.source(number, shape))
        before = path.read_text().splitlines()
        seen = set()
        for nth in range(3):
            assert change(tmp_path, nth, shape) == path
            after = path.read_text().splitlines()
            assert sum(old != new for old, new in zip(before, after, strict=True)) == 1
            seen.add(tuple(after))
        assert len(seen) == 3


def test_the_usual_tree_has_300_files_in_70_folders_and_1_mb(tree, tmp_path):
    tree.write(tmp_path, tree.USUAL)
    paths = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(paths) == 300
    assert len([path for path in tmp_path.rglob("*") if path.is_dir()]) == 70
    assert sum(path.stat().st_size for path in paths) == 1_000_000
    assert sum("from common.warehouse import" in path.read_text() for path in paths) == 30
    leaf = tree.plan(tree.USUAL)[tree.USUAL.leaf]
    assert abs(leaf.size - 3333) < 100
    for path in paths:
        ast.parse(path.read_text())
