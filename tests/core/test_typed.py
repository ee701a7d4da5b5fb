"""NamedTuples of decoded JSON: what fits, what is ignored, and which field is named when something does not fit."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import NamedTuple

import pytest

from dagferry_core.errors import FormatError
from dagferry_core.typed import typed, typed_json


class Thing(NamedTuple):
    name: str
    count: int
    tags: list[str]
    fresh: bool = False
    origin: Mapping[str, str] | None = None

    @property
    def shout(self) -> str:
        return self.name.upper()


RAW = {"name": "a", "count": 1, "tags": ["x", "y"], "fresh": True, "origin": {"commit": "1"}}


def test_fields_are_taken_by_name_whatever_their_order() -> None:
    assert typed(Thing, dict(reversed(RAW.items()))) == Thing("a", 1, ["x", "y"], fresh=True, origin={"commit": "1"})
    assert typed_json(Thing, json.dumps(RAW).encode()).shout == "A"


def test_unknown_fields_are_ignored_and_missing_ones_have_their_defaults() -> None:
    assert typed(Thing, {"name": "a", "count": 1, "tags": [], "later": [1]}) == Thing("a", 1, [])
    assert typed(Thing, {**RAW, "origin": None}).origin is None


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", 7, "its name is not a text"),
        ("name", None, "its name is not a text"),
        ("count", "1", "its count is not a whole number"),
        ("count", True, "its count is not a whole number"),
        ("count", 1.0, "its count is not a whole number"),
        ("fresh", 1, "its fresh is not true or false"),
        ("fresh", None, "its fresh is not true or false"),
        ("tags", "xy", "its tags is not a list, each item a text"),
        ("tags", ["x", 7], "its tags is not a list, each item a text"),
        ("tags", {"x": "y"}, "its tags is not a list, each item a text"),
        ("origin", ["x"], "its origin is not an object, each value a text or null"),
        ("origin", {"commit": 7}, "its origin is not an object, each value a text or null"),
    ],
)
def test_a_value_of_another_type_is_refused_by_the_name_of_its_field(field, value, message) -> None:
    with pytest.raises(FormatError, match=f"^{message}$"):
        typed(Thing, {**RAW, field: value})


@pytest.mark.parametrize("field", ["name", "count", "tags"])
def test_a_missing_field_without_a_default_is_named(field) -> None:
    with pytest.raises(FormatError, match=f"^it has no {field}$"):
        typed(Thing, {name: value for name, value in RAW.items() if name != field})


@pytest.mark.parametrize("raw", [None, [], "x", 7, [["name", "a"]]])
def test_what_is_no_object_is_refused(raw) -> None:
    with pytest.raises(FormatError, match="not a JSON object"):
        typed(Thing, raw)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b'{"count": ' + b"1" * 10_000 + b"}"])
def test_what_is_no_json_is_refused(data) -> None:
    with pytest.raises(FormatError, match=r"^it is not JSON: "):
        typed_json(Thing, data)


def test_it_loads_no_inspect() -> None:
    program = "import sys, dagferry_core.typed; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "dagferry_core.typed" in loaded
    assert not {"inspect", "dataclasses"} & set(loaded)
