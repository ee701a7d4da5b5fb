"""Patterns: a star stands for any text, and the whole of a text must match."""

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagferry_server.auth.patterns import matches


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("prod", "prod"),
        ("team-*", "team-a"),
        ("team-*", "team-"),
        ("*", ""),
        ("*", "x"),
        ("a*b*c", "a1b2c"),
        ("a**", "a"),
    ],
)
def test_a_star_matches_any_text(pattern: str, text: str) -> None:
    assert matches(pattern, text)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("prod", "prod2"),
        ("prod", "a-prod"),
        ("team-*", "a-team-b"),
        ("team-*", "team"),
        ("prod", "PROD"),
        ("a.b", "axb"),
        ("[a]", "a"),
        ("a?", "ab"),
        ("ab*ba", "aba"),  # the two ends may not share a letter
        ("prod", "prod\n"),
        ("", "a"),
    ],
)
def test_the_whole_text_must_match_and_nothing_but_the_star_is_special(pattern: str, text: str) -> None:
    assert not matches(pattern, text)


@given(st.text("ab*", max_size=8), st.text("ab", max_size=10))
def test_it_agrees_with_a_regular_expression(pattern: str, text: str) -> None:
    assert matches(pattern, text) == bool(re.fullmatch(fnmatch.translate(pattern), text))
