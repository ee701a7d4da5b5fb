"""Hints to the data that a source may read: how many there may be, and how long it takes to find them."""

import tracemalloc

import pytest

from dagferry_core.limits import MIB
from dagferry_core.source.reads import MAX_HINT_BYTES, MAX_PARTS, MAX_START, MAX_STRINGS, read_hints
from dagferry_core.source.scan import ANYTHING, imported_names

# What a hint stands for is shown in test_graph.py.


def hints(text):
    source = text.encode()
    return read_hints(source, imported_names(source))


def test_a_hint_is_kept_once():
    assert hints("open('sql/a.sql'); open('b/sql/a.sql')  # sql/a.sql") == ("sql/a.sql",)


def test_what_only_computes_has_none():
    assert (
        hints("import json\nfrom airflow import DAG\nx = json.loads(y.json()); logging.info('a.b: 1.5 of %s', x)") == ()
    )


def test_of_a_pattern_only_the_first_letters_and_the_last_parts_are_kept():
    start, end = "a" * MAX_START, "_x" * (MAX_PARTS - 1) + ".yml"
    assert hints(f"'{start}bcd{{x}}_y{end}'") == (f"{start}*{end}",)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("'*.y*ml'", ("*.yml", "*.yaml")),
        ("'conf/*.y?ml'", ("conf/*.yml", "conf/*.yaml")),
        ("os.walk('sql')", ("./", "sql/", "*.sql")),
        ("os.walk('x'); os.walk('x')", ("./", "x/")),
        ("os.walk('dags')", ("./", "dags/", "/")),
        ("os.walk(DAGS_FOLDER)", ("./", "/")),
    ],
)
def test_a_pattern_or_a_folder_matches_everything_it_may_name(text, found):
    assert hints(text) == found


def test_a_file_with_too_many_hints_counts_as_reading_anything():
    name = "'" + "a" * 92 + ".sql'\n"
    few = MAX_HINT_BYTES // (len(name) + 10)
    assert hints(name * few) == (name.strip()[1:-1],)
    assert hints(name * (few + 100)) == (ANYTHING,)


def test_a_listing_file_with_too_many_strings_counts_as_reading_anything():
    strings = "".join(f"'folder_{n:05}'\n" for n in range(MAX_HINT_BYTES // 10))
    assert hints(strings) == ()
    assert hints("os.walk(x)\n" + strings) == (ANYTHING,)
    assert len(hints("os.walk(x)\n" + "'folder'\n" * 5000)) == 2  # each string once
    assert hints("os.walk(x)\n" + "'x'\n" * (MAX_STRINGS + 2)) == (ANYTHING,)


def test_a_name_longer_than_is_looked_at_counts_by_its_end():
    assert hints("'" + "a" * 250 + "_b.sql'") == ("aaaaaaaa*_b.sql",)


MANY = 10**6


@pytest.mark.parametrize(
    "text",
    [
        ".sql" * MANY,
        "'a.sql'" * MANY,
        "{" * MANY + ".sql",
        "}" * MANY + ".sql",
        "}.sql" * MANY,
        "{a}" * MANY + ".sql",
        ("%s" * 100 + ".sql") * (MANY // 100),
        ".walk" * MANY,
        ".y" + "*" * MANY,
        "os.walk(x)" + "'" * MANY,
        "os.walk(x)" + "\"a'" * MANY,
        "os.walk(x)" + "a" * 10 * MANY,
        "os.walk(x)'" + "/" * 10 * MANY + "'",
        "os.walk(x)\n" + "'{{{{'\n" * MANY,
        "template_searchpath" * MANY,
    ],
    ids=lambda text: text[:16],
)
def test_no_text_takes_more_than_linear_time(text):
    found = read_hints(text.encode(), ())  # a scan that is worse than linear would not come back
    assert sum(map(len, found)) <= MAX_HINT_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("text", ["'b.sql'\n", "os.walk('b')\n"])
def test_a_million_names_take_little_memory(text):
    source = "".join(text.replace("b", f"b{n}") for n in range(10**5)).encode() * 10
    tracemalloc.start()
    try:
        assert read_hints(source, ()) == (ANYTHING,)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MIB
