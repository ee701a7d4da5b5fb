"""What is wrong with the names of an archive is said all at once, within limits."""

import pytest

from dagferry_core.archive.error_collector import MAX_MESSAGE_CHARACTERS, ErrorCollector
from dagferry_core.archive.errors import LinkRefused, PathConflict, PathRefused, TooManyFiles
from dagferry_core.limits import MAX_LISTED_ERRORS


def test_where_nothing_is_wrong_nothing_is_raised() -> None:
    errors = ErrorCollector()
    errors.check(lambda _path: None, "a.py")
    errors.raise_any()


def test_one_error_is_raised_as_it_is() -> None:
    errors = ErrorCollector()
    error = PathRefused("The path 'x' is absolute.")
    errors.add(error)
    with pytest.raises(PathRefused) as caught:
        errors.raise_any()
    assert caught.value is error


def test_several_are_raised_as_one_of_the_first_ones_kind_with_all_messages_and_hints() -> None:
    errors = ErrorCollector()
    for error in (PathConflict("One."), LinkRefused("Two."), LinkRefused("Two."), PathConflict("Three.")):
        errors.add(error)
    with pytest.raises(PathConflict) as caught:
        errors.raise_any()
    assert caught.value.message == "3 names or links in the archive are refused. One. Two. Three."
    assert caught.value.hint == f"{PathConflict('').hint} {LinkRefused('').hint}"


def test_the_same_message_many_times_is_said_once() -> None:
    errors = ErrorCollector()
    for _ in range(3):
        errors.add(LinkRefused("The link 'x' leads nowhere."))
    with pytest.raises(LinkRefused) as caught:
        errors.raise_any()
    assert caught.value.message == "The link 'x' leads nowhere."


def test_when_there_are_enough_they_are_raised_at_once() -> None:
    errors = ErrorCollector()
    for number in range(MAX_LISTED_ERRORS - 1):
        errors.add(PathRefused(f"{number}."))
    with pytest.raises(
        PathRefused, match=f"^At least {MAX_LISTED_ERRORS} names or links in the archive are refused. 0. 1. "
    ):
        errors.add(PathRefused("Last."))


def test_a_long_message_is_truncated() -> None:
    errors = ErrorCollector()
    for letter in "ab":
        errors.add(PathRefused(letter * MAX_MESSAGE_CHARACTERS))
    with pytest.raises(PathRefused) as caught:
        errors.raise_any()
    assert len(caught.value.message) == MAX_MESSAGE_CHARACTERS + 1
    assert caught.value.message.endswith("a…")


def test_a_check_that_refuses_a_path_is_noted_and_any_other_error_is_not() -> None:
    def refuse(path: str) -> None:
        raise PathRefused(f"No {path}.")

    def fail(_path: str) -> None:
        raise TooManyFiles("Too many.")

    errors = ErrorCollector()
    errors.check(refuse, "a.py")
    with pytest.raises(TooManyFiles):
        errors.check(fail, "b.py")
    with pytest.raises(PathRefused, match=r"^No a\.py\.$"):
        errors.raise_any()
