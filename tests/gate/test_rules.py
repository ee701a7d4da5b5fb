"""What follows from the Airflow of a deployment."""

import pytest

from dagferry_gate.rules import NEWEST_PYTHON, PYTHONS, Rules


@pytest.mark.parametrize(("airflow", "syntax"), [("2", "regexp"), ("3", "glob"), (None, "glob")])
def test_the_syntax_of_airflowignore_is_the_default_of_that_airflow(airflow, syntax) -> None:
    assert Rules(airflow=airflow).ignore_syntax == syntax
    assert Rules(airflow=airflow, syntax="regexp").ignore_syntax == "regexp"
    assert Rules(airflow=airflow, syntax="glob").ignore_syntax == "glob"


def test_only_airflow_3_has_removals() -> None:
    assert [Rules(airflow=airflow).removals for airflow in ("2", "3", None)] == [False, True, False]


def test_without_a_version_the_newest_python_decides_which_refuses_least() -> None:
    assert Rules().python == NEWEST_PYTHON == max(PYTHONS, key=lambda python: [int(part) for part in python.split(".")])
