"""Made-up Variables and Connections: never those of production, and every name is noted."""

import json
from typing import Any

import pytest

from dagferry_checker import judge, stubs
from dagferry_checker.stubs import STUB, Stubs


def variable_class() -> Any:
    class Variable:
        @classmethod
        def get(cls, key: str, default_var: Any = "none", deserialize_json: bool = False) -> Any:
            return ("real", key, default_var, deserialize_json)

    return Variable


def connection_class() -> Any:
    class Connection:
        def __init__(self, **values: Any) -> None:
            self.values = values

        @classmethod
        def get(cls, conn_id: str) -> Any:
            return ("real", conn_id)

    return Connection


@pytest.fixture
def made() -> tuple[Stubs, Any, Any]:
    stubs = Stubs(from_environment=False)
    variable, connection = variable_class(), connection_class()
    stubs.replace_variables(variable)
    stubs.replace_connections(connection, "get")
    return stubs, variable, connection


def test_values_are_made_up_and_names_are_noted(made) -> None:
    stubs, variable, connection = made
    assert variable.get("bucket") == f"{STUB}-bucket"
    assert connection.get("warehouse").values["host"].endswith(".invalid")
    assert json.loads(connection.get("warehouse").values["extra"]) == {}
    assert stubs.asked == ["variable:bucket", "connection:warehouse"]


def test_a_default_is_used_since_it_has_the_right_type(made) -> None:
    stubs, variable, _ = made
    assert variable.get("size", 3) == 3
    assert variable.get("size", default_var=4) == 4
    assert variable.get("size", default=None) is None
    assert stubs.asked == ["variable:size"]


def test_a_json_value_has_a_text_under_every_key(made) -> None:
    _, variable, _ = made
    found = variable.get("conf", deserialize_json=True)
    assert found["team"] == f"{STUB}-team"
    assert list(found) == []


def test_values_of_the_environment_are_real_and_only_missing_ones_are_noted(monkeypatch) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_BUCKET", "b")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", "w")
    stubs = Stubs(from_environment=True)
    variable, connection = variable_class(), connection_class()
    stubs.replace_variables(variable)
    stubs.replace_connections(connection, "get")
    assert variable.get("bucket", deserialize_json=True) == ("real", "bucket", "none", True)
    assert connection.get("warehouse") == ("real", "warehouse")
    assert stubs.asked == []
    assert variable.get("other", 5) == ("real", "other", 5, False)
    assert connection.get("lake") == ("real", "lake")
    assert stubs.asked == ["variable:other", "connection:lake"]


def test_a_file_cannot_ask_without_end(made) -> None:
    found, variable, _ = made
    for number in range(stubs.MAX_ASKED + 10):
        variable.get(str(number))
    assert len(found.asked) == stubs.MAX_ASKED


def test_both_processes_mean_the_same_made_up_value() -> None:
    assert judge.STUB == STUB
