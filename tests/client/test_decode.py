"""What comes in as JSON is checked to its last field before anybody uses it."""

from collections.abc import Mapping
from typing import NamedTuple

import pytest

from dagferry_client.decode import decode
from dagferry_core.errors import FormatError


class Inner(NamedTuple):
    text: str
    number: int = 7


class Outer(NamedTuple):
    inner: Inner | None
    listed: list[Inner]
    moment: int | float | None
    counts: Mapping[str, int]
    flag: bool = False


FINE = {"inner": {"text": "a"}, "listed": [{"text": "b", "number": 1}], "moment": 1.5, "counts": {"x": 2}}


def test_nested_objects_become_tuples_and_defaults_fill_what_is_missing() -> None:
    assert decode(Outer, FINE) == Outer(Inner("a"), [Inner("b", 1)], 1.5, {"x": 2}, flag=False)
    assert decode(Outer, {**FINE, "inner": None, "moment": None, "flag": True, "later": 1}) == Outer(
        None, [Inner("b", 1)], None, {"x": 2}, flag=True
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"inner": 3}, "inner is not a JSON object"),
        ({"inner": {}}, "inner.text is missing"),
        ({"inner": {"text": 1}}, "inner.text is not a text"),
        ({"listed": {}}, "listed is not a list"),
        ({"listed": [{"text": "b", "number": True}]}, "listed[0].number is not a whole number"),
        ({"listed": [None]}, "listed[0] is not a JSON object"),
        ({"moment": True}, "moment is not a whole number"),
        ({"counts": {"x": 1.0}}, "counts.x is not a whole number"),
        ({"counts": []}, "counts is not a JSON object"),
        ({"flag": 1}, "flag is not true or false"),
        ({"flag": None}, "flag is not true or false"),
    ],
)
def test_the_wrong_field_is_named(changed, said) -> None:
    with pytest.raises(FormatError, match=said.replace("[", r"\[")):
        decode(Outer, {**FINE, **changed})


@pytest.mark.parametrize("raw", [None, [], "x", 1])
def test_what_is_no_object_is_refused(raw) -> None:
    with pytest.raises(FormatError, match="it is not a JSON object"):
        decode(Inner, raw)
