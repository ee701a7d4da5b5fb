"""What the answer to an upload warns of: names that mislead people or Python, and archives of the wrong folder."""

import pytest

from dagferry_core.archive.name_warnings import INSTALLED, name_warnings, wrong_level
from tarmaker import check, file, tar


@pytest.mark.parametrize(
    ("paths", "top", "root"),
    [
        (["my_dags/a.py", "my_dags/lib/b.py"], "my_dags", "my_dags"),
        (["airflow/dags/a.py", "airflow/dags/b.py"], "airflow", "airflow/dags"),
        (["acme-etl-0123abc/dags/etl.py", "acme-etl-0123abc/README.md"], "acme-etl-0123abc", "acme-etl-0123abc/dags"),
        (["r/src/dags/x/a.py", "r/tests/t.py"], "r", "r/src/dags"),
        (["r/a/dags/a.py", "r/b/dags/b.py"], "r", "r"),
        (["my dags/a.py"], "my dags", "my%20dags"),
        (["dagster/a.py"], "dagster", "dagster"),
    ],
)
def test_one_top_folder_is_a_warning_that_names_the_way_out(paths, top, root):
    [warning] = wrong_level(paths)
    assert f"the folder {top!r}" in warning
    assert f"?root={root};" in warning
    assert "?root=." in warning


@pytest.mark.parametrize(
    "paths", [[], ["a.py"], ["a.py", "lib/b.py"], ["team_a/a.py", "team_b/b.py"], ["README.md", "my_dags/a.py"]]
)
def test_other_archives_are_no_warning(paths):
    assert wrong_level(paths) == []


def test_a_root_that_was_chosen_is_no_warning():
    packed = tar(file(b"my_dags/a.py"))
    assert len(check(packed).warnings) == 1
    assert check(packed, root=".").warnings == []
    assert check(packed, root="my_dags").warnings == []
    assert check(tar(file(b"dags/team/a.py"))).warnings == []


@pytest.mark.parametrize("character", "\u061c\u200e\u200f\u202a\u202e\u2066\u2069")
def test_characters_that_turn_the_direction_are_a_warning_that_shows_them(character):
    [warning] = check(tar(file(f"dags/a{character}yp.txt".encode()))).warnings
    assert f"\\u{ord(character):04x}" in warning
    assert warning.isprintable()


def test_right_to_left_letters_are_no_warning():
    assert name_warnings(["\u05e9\u05dc\u05d5\u05dd.py", "\u0645\u0631\u062d\u0628\u0627/a.py"]) == []


@pytest.mark.parametrize(
    "path", ["airflow.py", "yaml.py", "requests/__init__.py", "json.py", "email/__init__.py", "numpy.cpython-311.so"]
)
def test_a_name_that_is_a_modules_is_a_warning(path):
    [warning] = name_warnings([path, "dag.py"])
    assert repr(path.removesuffix("/__init__.py")) in warning


@pytest.mark.parametrize(
    "path",
    [
        "lib/airflow.py",
        "airflow.yaml",
        "requests/get.py",
        "airflow/dags/__init__.py",
        "__init__.py",
        "my_json.py",
        ".py",
    ],
)
def test_what_python_does_not_find_by_such_a_name_is_not_a_module(path):
    assert name_warnings([path]) == []


def test_warnings_are_bounded_in_number_and_length():
    names = [*(f"{name}.py" for name in INSTALLED), *(f"{'x' * 200}{n}\u202e.py" for n in range(1000))]
    warnings = name_warnings(names)
    assert len(warnings) == 2
    assert "and 990 more" in warnings[0]
    assert max(map(len, warnings)) < 2000
