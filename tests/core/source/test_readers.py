"""Who may read a data file, by the hints of the Python files."""

import pytest

from dagferry_core.source.readers import Readers
from dagferry_core.source.reads import EVERYTHING, OWN_FOLDER
from dagferry_core.source.scan import ANYTHING


def readers(path: str, *hints: str, source: str = "team/dag.py") -> list[str]:
    return sorted(set(Readers({source: hints}).of([path])))


@pytest.mark.parametrize(
    ("hint", "path"),
    [
        ("orders.sql", "orders.sql"),
        ("orders.sql", "anywhere/deep/orders.sql"),
        ("orders.sql", "team/my orders.sql"),
        ("sql/orders.sql", "sql/orders.sql"),
        ("sql/orders.sql", "team/sql/orders.sql"),
        ("sql/orders.sql", "my sql/orders.sql"),
        ("dags/orders.sql", "orders.sql"),
        ("a*_b.sql", "a1_b.sql"),
        ("*_b.sql", "x/anything_b.sql"),
        ("sql/*.sql", "sql/any.sql"),
        ("*.tar.gz", "x.tar.gz"),
        ("sql/", "sql/any.yml"),
        ("sql/", "sql/deep/er/any.yml"),
        (OWN_FOLDER, "team/any.yml"),
        (OWN_FOLDER, "team/deep/any.yml"),
        (EVERYTHING, "any.yml"),
        (EVERYTHING, "other/any.yml"),
    ],
)
def test_a_file_that_fits_a_hint_is_read(hint, path) -> None:
    assert readers(path, hint) == ["team/dag.py"]


@pytest.mark.parametrize(
    ("hint", "path"),
    [
        ("orders.sql", "orders.yml"),
        ("orders.sql", "my_orders.sql"),
        ("sql/orders.sql", "yml/orders.sql"),
        ("dags/orders.sql", "x/orders.sql"),
        ("a*_b.sql", "b1_b.sql"),
        ("ab*b.sql", "a.sql"),
        ("sql/*.sql", "yml/any.sql"),
        ("sql/", "sql.yml"),
        (OWN_FOLDER, "other/any.yml"),
        (OWN_FOLDER, "any.yml"),
    ],
)
def test_a_file_that_fits_no_hint_is_not(hint, path) -> None:
    assert readers(path, hint) == []


def test_who_may_read_anything_is_named_apart() -> None:
    found = Readers({"a.py": [ANYTHING], "b.py": ["x.yml"]})
    assert found.of_anything == ["a.py"]
    assert list(found.of(["y.yml"])) == []


def test_every_reader_is_found_whatever_is_asked_with_it() -> None:
    found = Readers({"a.py": ["x.yml"], "b.py": ["x.yml", "y/"], "c.py": ["z.yml"], "y/d.py": [OWN_FOLDER]})
    assert set(found.of(["x.yml", "y/z.yml", "y/more.yml"])) == {"a.py", "b.py", "c.py", "y/d.py"}


def test_what_was_given_is_forgotten_so_that_the_work_does_not_grow_with_the_product() -> None:
    found = Readers({f"{number}.py": ["x.yml", "sql/"] for number in range(100)})
    paths = [f"sql/{number}/x.yml" for number in range(100)]
    assert len(list(found.of(paths))) == 200
    assert list(found.of(paths)) == []
