"""Which modules a source imports, and which files a change touches."""

import ast
import os
import sysconfig
import warnings
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagferry_core.imports import ANYTHING, MAX_IMPORT_BYTES, _Importers, imported_names, touched
from dagferry_core.limits import MAX_PATH_BYTES
from dagferry_core.manifest import EMPTY, Entry, Manifest

STANDARD_LIBRARY = sysconfig.get_path("stdlib")
HARD_ONES = ("test_grammar.py", "test_syntax.py", "test_fstring.py", "test_unicode_identifiers.py", "test_import.py")
"""Of Python's own tests, those with the oddest imports; all of them would take a minute."""


def names(text):
    return list(imported_names(text.encode()))


def seen_by_ast(source):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes
        tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (module + "." * (module[-1] != ".") + alias.name for alias in node.names)


# --- what is found ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import a", ["a"]),
        ("import a.b as c, d", ["a.b", "d"]),
        ("import\ta . b\t,c\n", ["a.b", "c"]),
        ("import a; import b;import c", ["a", "b", "c"]),
        ("import a#b, c", ["a"]),
        ("from a import b", ["a.b"]),
        ("from a.b import c as d, e", ["a.b.c", "a.b.e"]),
        ("from a import (b, c as d,)", ["a.b", "a.c"]),
        ("from a import(b)", ["a.b"]),
        ("from a import (  # why (import x)\n    b,  # (because)\n\n    # of\n    c\n)\n", ["a.b", "a.c"]),
        ("from a import *", ["a.*"]),
        ("from a import*", ["a.*"]),
        ("from . import b", [".b"]),
        ("from .import b", [".b"]),
        ("from.a import b", [".a.b"]),
        ("from ...a . b import c", ["...a.b.c"]),
        ("from . . import c", ["..c"]),
        ("from from_a.ximport import b", ["from_a.ximport.b"]),
        ("try:\n    import a\nexcept ImportError:\n\tfrom b import c", ["a", "b.c"]),
        ("if x:import a\nelse:from b import c", ["a", "b.c"]),
        ("def f():\n    yield from x; import a", ["a"]),
        ("yield from x\nimport a", ["a"]),
        ("import \\\n  a,\\\n  b", ["a", "b"]),
        ("from \\\n  a \\\n  import \\\n b", ["a.b"]),
        ("if x: \\\n  import a", ["a"]),
        ("\\\nimport a", ["a"]),
        ("# a comment \\\nimport a", ["a"]),
        ("from b import (c, # a comment \\\n d)", ["b.c", "b.d"]),
        ("\fimport a", ["a"]),
        ("\N{ZERO WIDTH NO-BREAK SPACE}import a", ["a"]),
        ("import a\r\nfrom b import (c,\r\n d)\r\nimport \\\r\n e", ["a", "b.c", "b.d", "e"]),
        ("x = 1\rimport a\rimport b", ["a", "b"]),
        ("import é.b", ["é.b"]),
        ("import e\N{COMBINING ACUTE ACCENT}", ["é"]),  # Python compares identifiers in NFKC
        ("lazy import a\nlazy from b import c", ["a", "b.c"]),  # PEP 810
        ("this is no Python (\nimport a", ["a"]),
        ("import a\nimport a", ["a"]),
    ],
)
def test_an_import_statement_is_found_however_it_is_laid_out(text, found):
    assert names(text) == found


def test_two_names_are_given_where_only_a_parser_could_tell_them_apart():
    assert "os" in names("# taken from x \\\nimport os")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('importlib.import_module("a.b")', ["a.b"]),
        ("import_module ( 'a' )", ["a"]),
        ("import_module(name=r'a')", ["a"]),
        ('import_module(  # noqa\n    """a""",\n)', ["a"]),
        ('__import__("a.b", globals())', ["a.b"]),
        ('import_module(".c", package="a.b")', ["a.b.c"]),
        ('import_module("..c", "a.b")', ["a.c"]),
        ('import_module(".c", __package__)', [".c"]),
        ("import_module(name)", []),
        ("import_module(f'a.{b}')", []),
        ("from importlib import import_module", ["importlib.import_module"]),
    ],
)
def test_a_literal_module_name_in_a_call_is_found(text, found):
    assert names(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "important = reimport = import_x = ximport",
        '"""Please import the data from there."""',
        '"""\nimport the data\nfrom the store import it\nimport *\n"""',
        ">>> from a import b",
        'x = "import a"',
        "# import a",
        "import",
        "from a import (",
        "a.import_ b",
    ],
)
def test_prose_is_not_taken_for_an_import(text):
    assert names(text) == []


def test_every_import_of_the_standard_library_is_found_and_few_that_are_none():
    real = extra = 0
    for folder, folders, files in os.walk(STANDARD_LIBRARY):
        folders[:] = [name for name in folders if name not in ("site-packages", "tests", "idle_test")]
        for path in (os.path.join(folder, name) for name in files if name.endswith(".py")):
            if os.path.join(STANDARD_LIBRARY, "test", "") in path and not path.endswith(HARD_ONES):
                continue
            with open(path, "rb") as file:
                source = file.read()
            try:
                expected = set(seen_by_ast(source))
            except (SyntaxError, ValueError):  # made to be wrong
                continue
            found = set(imported_names(source))
            assert expected <= found, path
            real += len(expected)
            extra += len(found - expected)
    assert real > 3000
    assert extra < 0.05 * real


BLANK = st.sampled_from([" ", "  ", "\t", " \\\n ", "\\\n"])
WIDE = st.one_of(BLANK, st.sampled_from(["\n", " # import x (y), z\n", "\n\n  #\n", " # from x \\\n"]))
MAYBE = st.one_of(st.just(""), BLANK)
NAME = st.sampled_from(["a", "b_1", "from_", "ximport", "importx", "as_", "é", "lazy"])


@st.composite
def statements(draw):
    """One import statement, laid out in any way the grammar allows."""

    def dotted():
        parts = draw(st.lists(NAME, min_size=1, max_size=3))
        return "".join(part if not i else draw(MAYBE) + "." + draw(MAYBE) + part for i, part in enumerate(parts))

    def alias(blank):
        return draw(blank) + "as" + draw(blank) + draw(NAME) if draw(st.booleans()) else ""

    def listed(item, blank, maybe):
        items = [draw(maybe) + item() + alias(blank) + draw(maybe) for _ in range(draw(st.integers(1, 3)))]
        return ",".join(items)

    if draw(st.booleans()):
        return "import" + draw(BLANK) + listed(dotted, BLANK, MAYBE).rstrip(" \t\\\n")
    dots = "".join(draw(MAYBE) + "." for _ in range(draw(st.integers(0, 4))))
    module = dots + draw(MAYBE) + dotted() if not dots or draw(st.booleans()) else dots
    head = "from" + (draw(BLANK) if module[0] not in ". \t\\" else "") + module + draw(BLANK) + "import"
    if draw(st.booleans()):
        maybe = st.one_of(st.just(""), WIDE)
        return head + draw(MAYBE) + "(" + listed(lambda: draw(NAME), WIDE, maybe) + draw(st.sampled_from([")", ",)"]))
    listing = "*" if draw(st.booleans()) else listed(lambda: draw(NAME), BLANK, MAYBE)
    return head + draw(MAYBE) + " " + listing.rstrip(" \t\\\n")


AROUND = st.sampled_from(
    [
        "{}",
        "if x:{}",
        "if x:\n  {}",
        "x = 1; {}; y",
        "# no import (\\\n{}",
        '"""import x (\n"""\n{}',
        "yield from x\n{}",
    ]
)


@given(st.lists(st.tuples(statements(), AROUND), min_size=1, max_size=4))
def test_every_import_that_ast_finds_is_found(parts):
    source = "\n".join(around.format(statement) for statement, around in parts)
    assert set(seen_by_ast(source.encode())) <= set(names(source))


def test_a_file_with_too_many_imports_is_taken_to_import_anything():
    assert names("import " + "a" * 1000 + "\n") == ["a" * 1000]
    many = "from " + "a" * 1000 + " import " + ", ".join(f"b{n}" for n in range(MAX_IMPORT_BYTES // 1000))
    assert names(many) == [ANYTHING]
    assert names("import a\n" * MAX_IMPORT_BYTES) == [ANYTHING]


def test_a_name_longer_than_any_path_is_left_out():
    assert names("import " + "a" * (MAX_PATH_BYTES + 1) + ", b") == ["b"]


@pytest.mark.parametrize(
    "text",
    [
        "from " * 10**6,
        "import_module(#" * 10**6,
        "import_module(\n#" * 10**6,
        "from a import (#" * 10**6,
        "import " + " " * 10**7,
    ],
    ids=lambda text: text[:16],
)
def test_no_text_takes_more_than_linear_time(text):
    assert len(names(text)) <= 1  # a scan that is worse than linear would not come back


# --- what is touched -------------------------------------------------------------------------------------------------


def bundle(files):
    """The manifest of a bundle from path to source."""
    return Manifest(Entry(path, len(text), 0o644, sha256(text.encode()).hexdigest()) for path, text in files.items())


def touched_by(change, files):
    """What is touched in ``files`` by ``change``: path to the new source, None for a file that is removed."""
    after = {path: text for path, text in (files | change).items() if text is not None}
    imports = {path: imported_names(text.encode()) for path, text in after.items() if path.endswith(".py")}
    return touched(bundle(files), bundle(after), imports)


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
    assert touched(bundle(files), executable, {"dag.py": ("a",), "a.py": ()}) == ["dag.py"]


def test_the_file_itself_is_not_among_the_touched_if_it_changed():
    files = {"dag.py": "import a", "a.py": ""}
    assert touched_by({"dag.py": "import a, os", "a.py": "x = 1"}, files) == []


def test_only_python_files_count_and_only_python_files_are_touched():
    files = {"dag.py": "import query", "query.sql": "select 1", "data.json": "import a", "a.py": ""}
    assert touched_by({"query.sql": "select 2"}, files) == []
    assert touched_by({"a.py": "x = 1"}, files) == []


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
    assert touched(old, new, {"a.py": (), "dag.py": (ANYTHING,), "user.py": ("dag",)}) == ["dag.py", "user.py"]


def test_a_first_deploy_touches_nothing():
    new = bundle({"dag.py": "", "a.py": ""})
    assert touched(EMPTY, new, {"dag.py": ("a",), "a.py": ()}) == []


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
