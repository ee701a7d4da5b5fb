"""Which modules a source imports."""

import ast
import os
import sysconfig
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagferry_core.limits import MAX_PATH_BYTES
from dagferry_core.source.scan import ANYTHING, MAX_ALIASES, MAX_IMPORT_BYTES, imported_names

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


def test_two_names_are_given_where_only_a_parser_could_distinguish_them():
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
        ("import_module(package='a.b', name='.c')", ["a.b.c"]),
        ("import_module(package=__package__,\n  name='.c')", [".c"]),
        ("import_module(package='a.b', name='c')", ["c"]),
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
        "from importlib import import_module as load\nload('a.b')",
        "from importlib import (\n  import_module as load,\n)\nx = load(name='a.b')",
        "from importlib import import_module\nload = import_module\nload('a.b')",
        "import importlib\nif x: load = importlib.import_module\nload ('a.b')",
        "load: Callable[[str], ModuleType] = importlib.import_module\nload('a.b')",
        "self.load = importlib.import_module\nself.load('a.b')",
        "if (load := importlib.import_module): load('a.b')",
        "load = __import__\nload('a.b')",
    ],
)
def test_a_call_under_another_name_is_found(text):
    assert "a.b" in names(text)


def test_what_is_not_that_name_or_no_call_of_it_is_not_found():
    assert "a.b" not in names("from importlib import import_module as load\nreload('a.b')\nload = 'a.b'\nload['a.b']")
    assert "a.b" not in names("load == import_module\nload('a.b')")


def test_a_file_with_too_many_names_for_import_module_is_taken_to_import_anything():
    many = "\n".join(f"load{n} = import_module" for n in range(MAX_ALIASES + 1))
    assert names(many) == [ANYTHING]
    assert names(many[: many.rindex("\n")]) == []


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


@pytest.mark.slow
def test_every_import_of_the_standard_library_is_found_and_few_false_ones():
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


def test_a_name_longer_than_any_path_is_ignored():
    assert names("import " + "a" * (MAX_PATH_BYTES + 1) + ", b") == ["b"]


@pytest.mark.parametrize(
    "text",
    [
        "from " * 10**6,
        "import_module(#" * 10**6,
        "import_module(\n#" * 10**6,
        "from a import (#" * 10**6,
        "import " + " " * 10**7,
        "import_module(package=" * 10**6,
        "import_module" + " " * 10**7 + "x",
        "x = import_module\n" + "x(" * 10**6,
        "=" * 10**7 + "import_module",
        "a=import_module" * 10**6,
    ],
    ids=lambda text: text[:16],
)
def test_no_text_takes_more_than_linear_time(text):
    assert len(names(text)) <= 1  # a scan that is worse than linear would not come back
