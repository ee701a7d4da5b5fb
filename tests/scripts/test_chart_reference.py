"""The description of a value is its comment, and every value has one."""

from typing import Any

import chart_reference
import yaml
from chart_reference import CHART, Value, values

TEXT = """\
# About the file.

# The name.
name: ""
group:
  # How many, up to `9`.
  many: 3
  inner:
    # A list.
    list:
      - {a: b}

    # One more.
    last: null
# A text with # in it.
text: a # b
"""


def test_the_comment_above_a_key_is_its_description_and_a_key_without_one_is_a_group() -> None:
    assert list(values(TEXT)) == [
        Value("name", "", "The name."),
        Value("group.many", 3, "How many, up to `9`."),
        Value("group.inner.list", [{"a": "b"}], "A list."),
        Value("group.inner.last", None, "One more."),
        Value("text", "a", "A text with # in it."),
    ]


def test_every_value_of_the_chart_has_a_description() -> None:
    described = {value.path for value in values((CHART / "values.yaml").read_text())}

    def check(found: Any, path: str) -> None:
        if path in described:
            return
        assert isinstance(found, dict), path
        assert found, path
        for key, item in found.items():
            check(item, f"{path}.{key}" if path else key)

    check(yaml.safe_load((CHART / "values.yaml").read_text()), "")


def test_the_table_shows_no_empty_default() -> None:
    shown = {name: default for name, default, _ in chart_reference.documented()}
    assert (shown["`image.tag`"], shown["`replicas`"], shown["`deployments`"]) == ("", "`1`", '`[{"name": "prod"}]`')
