"""Which files a change touches: those that import a changed module, or may read a changed data file."""

import pytest

from dagferry_core.bundle.manifest import EMPTY, Manifest
from dagferry_core.source.graph import MAX_ROOTS, _Importers, touched
from dagferry_core.source.readers import Readers
from dagferry_core.source.scan import ANYTHING, imported_names
from touching import bundle, touched_by


def test_nothing_is_touched_where_nothing_or_only_a_leaf_changed():
    files = {"dag.py": "import helper", "leaf.py": "import helper", "helper.py": ""}
    assert touched_by({}, files) == []
    assert touched_by({"leaf.py": "import helper, os"}, files) == []


def test_who_imports_a_changed_module_is_touched_through_any_number_of_steps():
    files = {
        "b.py": "import one",
        "a.py": "from one import x",
        "one.py": "import two",
        "two.py": "import three",
        "three.py": "",
        "other.py": "import four",
        "four.py": "",
    }
    assert touched_by({"three.py": "x = 1"}, files) == ["a.py", "b.py", "one.py", "two.py"]
    assert touched_by({"one.py": "import two, os"}, files) == ["a.py", "b.py"]


def test_imports_in_a_circle_are_followed_once():
    files = {"a.py": "import b", "b.py": "import c", "c.py": "import a"}
    assert touched_by({"a.py": "import b, os"}, files) == ["b.py", "c.py"]


def test_added_and_removed_modules_count_as_changed_ones():
    files = {"dag.py": "import gone", "new.py": "import come", "far.py": "import dag", "gone.py": ""}
    assert touched_by({"gone.py": None}, files) == ["dag.py", "far.py"]
    assert touched_by({"come.py": ""}, files) == ["new.py"]


def test_a_module_that_becomes_a_package_counts_as_changed():
    assert touched_by({"a.py": None, "a/__init__.py": ""}, {"dag.py": "import a", "a.py": ""}) == ["dag.py"]


def test_a_changed_mode_counts_as_a_change():
    files = {"dag.py": "import a", "a.py": ""}
    executable = Manifest(
        entry._replace(mode=0o755) if entry.path == "a.py" else entry for entry in bundle(files).files.values()
    )
    assert touched(bundle(files), executable, {"dag.py": ("a",), "a.py": ()}, {}) == ["dag.py"]


def test_the_file_itself_is_not_among_the_touched_if_it_changed():
    files = {"dag.py": "import a", "a.py": ""}
    assert touched_by({"dag.py": "import a, os", "a.py": "x = 1"}, files) == []


def test_only_python_files_are_touched():
    files = {"dag.py": "import query", "query.sql": "select 1", "data.json": "import a", "a.py": ""}
    assert touched_by({"query.sql": "select 2"}, files) == []
    assert touched_by({"a.py": "x = 1"}, files) == []


@pytest.mark.parametrize("name", ["fast.so", "fast.abi3.so", "fast.cpython-311-x86_64-linux-gnu.so"])
def test_compiled_modules_count_as_modules(name):
    files = {"dag.py": "import fast", "near/dag.py": "from lib.fast import x", "other.py": "import slow"}
    assert touched_by({name: "two"}, files | {name: "one"}) == ["dag.py"]
    assert touched_by({f"lib/{name}": "two"}, files | {f"lib/{name}": "one"}) == ["dag.py", "near/dag.py"]
    assert touched_by({f"near/lib/{name}": None}, files | {f"near/lib/{name}": "one"}) == ["dag.py", "near/dag.py"]
    assert touched_by({name: "one", "fast.py": None}, files | {"fast.py": ""}) == ["dag.py"]


def test_importing_a_module_imports_the_packages_above_it():
    files = {"dag.py": "from a.b import c", "a/__init__.py": "", "a/b/__init__.py": "", "a/b/c.py": "", "a/d.py": ""}
    for path in ("a/__init__.py", "a/b/__init__.py", "a/b/c.py"):
        assert touched_by({path: "x = 1"}, files) == ["dag.py"]
    assert touched_by({"a/d.py": "x = 1"}, files) == []


def test_a_star_imports_every_module_right_below():
    files = {
        "dag.py": "from a import *",
        "a/c.py": "",
        "a/deep/d.py": "",
        "near/dag.py": "from . import *",
        "near/x.py": "",
    }
    assert touched_by({"a/c.py": "x = 1"}, files) == ["dag.py"]
    assert touched_by({"a/deep/d.py": "x = 1"}, files) == []
    assert touched_by({"near/x.py": "x = 1"}, files) == ["near/dag.py"]


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("from . import x", "team/area/x.py"),
        ("from .x import y", "team/area/x.py"),
        ("from .x import y", "team/area/x/y.py"),
        ("from . import x", "team/area/__init__.py"),
        ("from ..x import y", "team/x.py"),
        ("from ...x import y", "x.py"),
        ("from ... import x", "x.py"),
        ("from ... import x", "__init__.py"),
        ("import_module('.x', package='team.area')", "team/area/x.py"),
    ],
)
def test_a_relative_import_means_one_place(text, changed):
    files = {"team/area/dag.py": text, "dag.py": text, "other/area/dag.py": "from . import x"}
    assert "team/area/dag.py" in touched_by({changed: "x = 1"}, files)
    assert "other/area/dag.py" not in touched_by({changed: "x = 1"}, files)


def test_a_package_imports_relative_to_itself():
    files = {"dag.py": "import a", "a/__init__.py": "from .b import c", "a/b.py": "", "b.py": ""}
    assert touched_by({"a/b.py": "x = 1"}, files) == ["a/__init__.py", "dag.py"]
    assert touched_by({"b.py": "x = 1"}, files) == []


def test_an_absolute_import_may_mean_any_folder_above_the_file():
    files = {
        "team/area/dag.py": "import helper",
        "team/area/deep/dag.py": "import helper.x",
        "else/dag.py": "import os",
    }
    for path in ("helper.py", "team/helper.py", "team/area/helper/__init__.py"):
        assert touched_by({path: "x = 1"}, files) == ["team/area/dag.py", "team/area/deep/dag.py"]
    assert touched_by({"team/area/deep/helper.py": ""}, files | {"helper.py": ""}) == ["team/area/deep/dag.py"]


def test_an_absolute_import_that_no_folder_above_has_may_mean_any_folder():
    files = {"dag.py": "sys.path.append(LIB); import helper", "lib/helper.py": ""}
    assert touched_by({"lib/helper.py": "x = 1"}, files) == ["dag.py"]
    assert touched_by({"lib/helper.py": None}, files) == ["dag.py"]


def test_equal_names_in_folders_of_different_teams_are_different_modules():
    files = {f"team_{team}/{name}.py": text for team in "ab" for name, text in (("dag", "import utils"), ("utils", ""))}
    assert touched_by({"team_a/utils.py": "x = 1"}, files) == ["team_a/dag.py"]
    assert touched_by({"team_a/utils.py": None}, files) == ["team_a/dag.py"]


@pytest.mark.parametrize("text", ["import acme.b.util", "from acme.b import util", "from acme.b.util import x"])
def test_a_package_over_several_source_roots_is_looked_for_in_each(text):
    files = {
        "projects/a/src/acme/a/dag.py": text,
        "projects/a/src/acme/a/__init__.py": "",
        "projects/b/src/acme/b/__init__.py": "",
        "projects/b/src/acme/b/util.py": "",
    }
    for path in ("projects/b/src/acme/b/util.py", "projects/b/src/acme/b/__init__.py"):
        assert touched_by({path: "x = 1"}, files) == ["projects/a/src/acme/a/dag.py"]


@pytest.mark.parametrize("text", ["from utils.dates import x", "from utils import dates", "import utils.dates"])
def test_a_package_above_without_the_module_does_not_hide_the_one_that_has_it(text):
    files = {"team/dag.py": text, "team/utils/__init__.py": "", "shared/utils/__init__.py": ""}
    for path in ("shared/utils/dates.py", "shared/utils/__init__.py"):
        assert touched_by({path: "x = 1"}, files | {"shared/utils/dates.py": ""}) == ["team/dag.py"]
    # But the very module does.
    files |= {"shared/utils/dates.py": "", "team/utils/dates.py": ""}
    assert touched_by({"shared/utils/dates.py": "x = 1"}, files) == []


def test_packages_of_one_name_in_folders_of_different_teams_are_different_packages():
    files = {"a/dag.py": "from utils import x", "b/dag.py": "from utils import x"}
    files |= {"a/utils/__init__.py": "", "b/utils/__init__.py": ""}
    assert touched_by({"a/utils/__init__.py": "x = 1"}, files) == ["a/dag.py"]


def test_a_folder_that_becomes_a_package_or_ceases_to_be_one_counts_as_changed():
    files = {
        "dag.py": "import acme.plugins",
        "team/dag.py": "from . import plugins",
        "acme/a.py": "",
        "other.py": "import acme",
    }
    assert touched_by({"acme/plugins/one.py": ""}, files) == ["dag.py"]
    assert touched_by({"acme/plugins/one.py": None}, files | {"acme/plugins/one.py": ""}) == ["dag.py"]
    assert touched_by({"team/plugins/deep/one.py": ""}, files) == ["team/dag.py"]
    assert touched_by({"acme/plugins/two.py": ""}, files | {"acme/plugins/one.py": ""}) == []


def test_the_standard_library_and_airflow_are_not_looked_for_in_folders_that_are_not_above():
    files = {"dag.py": "import logging, airflow.models", "near/dag.py": "import logging"}
    change = {"near/logging.py": "", "near/airflow/models.py": ""}
    assert touched_by(change, files) == ["near/dag.py"]


def test_the_folder_may_be_imported_as_the_package_dags():
    files = {"team/dag.py": "from dags.common import x", "common/x.py": "", "team/common/x.py": ""}
    assert touched_by({"common/x.py": "x = 1"}, files) == ["team/dag.py"]
    assert touched_by({"team/common/x.py": "x = 1"}, files) == []


def test_a_file_that_may_import_anything_is_touched_by_every_change_of_a_module():
    old = bundle({"a.py": "", "dag.py": "", "user.py": ""})
    new = bundle({"a.py": "x = 1", "dag.py": "", "user.py": ""})
    assert touched(old, new, {"a.py": (), "dag.py": (ANYTHING,), "user.py": ("dag",)}, {}) == ["dag.py", "user.py"]


def test_a_first_deploy_touches_nothing():
    new = bundle({"dag.py": "", "a.py": ""})
    assert touched(EMPTY, new, {"dag.py": ("a",), "a.py": ()}, {}) == []


def test_a_helper_of_all_and_a_thousand_modules_of_one_name_are_no_trouble():
    files = {f"f{n}/a.py": "import a" for n in range(1000)} | {f"g{n}/dag.py": "import a" for n in range(1000)}
    files["h/x.py"] = "import b"
    changed = {f"f{n}/a.py": "import a, os" for n in range(1000)}
    assert touched_by(changed, files) == sorted(f"g{n}/dag.py" for n in range(1000))


@pytest.mark.parametrize("text", ["from p import *", "from ..p import *", "import p.m0, p", "from dags.p import *"])
def test_the_work_grows_with_the_bundle_and_not_with_its_square(text):
    """A hundred modules and a hundred importers of all of them are not ten thousand pairs."""
    modules = {f"p/m{n}.py": "" for n in range(100)}
    old = bundle(modules | {f"q/f{n}.py": "" for n in range(100)})
    new = bundle(dict.fromkeys(modules, "x = 1") | {f"q/f{n}.py": "" for n in range(100)})
    importers = _Importers(old, new, {f"q/f{n}.py": imported_names(text.encode()) for n in range(100)})
    found = [path for _ in range(2) for path in importers.of(modules)]
    assert set(found) == {f"q/f{n}.py" for n in range(100)}
    assert len(found) <= 500


def test_names_of_one_spelling_in_many_folders_are_answered_once():
    """With dots in the names of folders, a.b.c may be in four places."""
    modules = {f"a{first}b{second}c.py": "" for first in "./" for second in "./"}
    importers = _Importers(EMPTY, bundle(modules), {"dag.py": ("a.b.c",)})
    assert list(importers.of(modules)) == ["dag.py"]


def test_parts_of_paths_that_nobody_imports_take_no_memory():
    modules = {f"{'a/' * 60}m{n}.py": "" for n in range(100)}
    importers = _Importers(EMPTY, bundle(modules), {"dag.py": ("b",)})
    assert list(importers.of(modules)) == []
    assert not importers._by_step


# --- what grows ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hints",
    [
        ["*.yml", "m*_x.yml", "deep/*.yml", "m0_*.yml"],
        ["/"],
        ["a/", "deep/"],
        [f"m{number}_x.yml" for number in range(100)],
        [f"m*{'_x' * number}.yml" for number in range(100)],
    ],
)
def test_a_hundred_changed_files_and_a_hundred_readers_of_all_are_not_ten_thousand_pairs_for_each_hint(hints):
    readers = Readers({f"q/f{number}.py": hints for number in range(100)})
    changed = [f"a/deep/m{number}_x.yml" for number in range(100)]
    found = [path for _ in range(2) for path in readers.of(changed)]
    assert set(found) == {f"q/f{number}.py" for number in range(100)}
    assert len(found) <= 100 * len(hints)


def test_one_file_that_lists_the_top_folder_is_found_once():
    files = {f"{n % 7}/a{n}.yml": "" for n in range(1000)} | {"dag.py": "os.walk(x)"}
    assert touched_by({path: "new" for path in files if path.endswith(".yml")}, files) == ["dag.py"]


def test_more_folders_with_a_module_of_one_name_than_are_asked_for_are_taken_to_be_meant():
    files = {f"f{n}/a/b.py": "" for n in range(MAX_ROOTS + 2)} | {"team/dag.py": "import a.b", "team/a/b.py": ""}
    changed = {path: "x = 1" for path in files if path.startswith("f")}
    assert touched_by(changed, files) == ["team/dag.py"]
    assert touched_by(dict(list(changed.items())[:MAX_ROOTS]), files) == []
