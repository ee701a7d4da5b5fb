"""Options whose text a function reads."""

import click
import pytest

from dagferry_client.checked import Checked
from dagferry_core.deploylog import Known, read_known

ENTRY = Checked(read_known)


def test_the_value_is_what_the_function_returns() -> None:
    assert ENTRY.convert(f"3:{'a' * 64}", None, None) == Known(3, "a" * 64)


def test_an_invalid_text_is_a_usage_error_that_says_what_is_expected() -> None:
    with pytest.raises(click.UsageError, match="it is not SEQUENCE:SHA256"):
        ENTRY.convert("3", None, None)
