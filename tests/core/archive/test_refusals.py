"""What is wrong with the names of an archive is said all at once, within limits."""

import pytest

from dagferry_core.archive.errors import LinkRefused, PathConflict, PathRefused, TooManyFiles
from dagferry_core.archive.refusals import MAX_MESSAGE_CHARACTERS, Refusals
from dagferry_core.limits import MAX_REFUSALS


def test_where_nothing_is_wrong_nothing_is_raised() -> None:
    refusals = Refusals()
    refusals.check(lambda _path: None, "a.py")
    refusals.raise_any()


def test_one_error_is_raised_as_it_is() -> None:
    refusals = Refusals()
    error = PathRefused("The path 'x' is absolute.")
    refusals.add(error)
    with pytest.raises(PathRefused) as caught:
        refusals.raise_any()
    assert caught.value is error


def test_several_are_raised_as_one_of_the_first_ones_kind_with_all_messages_and_hints() -> None:
    refusals = Refusals()
    for error in (PathConflict("One."), LinkRefused("Two."), LinkRefused("Two."), PathConflict("Three.")):
        refusals.add(error)
    with pytest.raises(PathConflict) as caught:
        refusals.raise_any()
    assert caught.value.message == "3 names or links in the archive are refused. One. Two. Three."
    assert caught.value.hint == f"{PathConflict('').hint} {LinkRefused('').hint}"


def test_the_same_message_many_times_is_said_once() -> None:
    refusals = Refusals()
    for _ in range(3):
        refusals.add(LinkRefused("The link 'x' leads nowhere."))
    with pytest.raises(LinkRefused) as caught:
        refusals.raise_any()
    assert caught.value.message == "The link 'x' leads nowhere."


def test_when_there_are_enough_they_are_raised_at_once() -> None:
    refusals = Refusals()
    for number in range(MAX_REFUSALS - 1):
        refusals.add(PathRefused(f"{number}."))
    with pytest.raises(
        PathRefused, match=f"^At least {MAX_REFUSALS} names or links in the archive are refused. 0. 1. "
    ):
        refusals.add(PathRefused("Last."))


def test_a_long_message_is_cut() -> None:
    refusals = Refusals()
    for letter in "ab":
        refusals.add(PathRefused(letter * MAX_MESSAGE_CHARACTERS))
    with pytest.raises(PathRefused) as caught:
        refusals.raise_any()
    assert len(caught.value.message) == MAX_MESSAGE_CHARACTERS + 1
    assert caught.value.message.endswith("a…")


def test_a_check_that_refuses_a_path_is_noted_and_any_other_error_is_not() -> None:
    def refuse(path: str) -> None:
        raise PathRefused(f"No {path}.")

    def fail(_path: str) -> None:
        raise TooManyFiles("Too many.")

    refusals = Refusals()
    refusals.check(refuse, "a.py")
    with pytest.raises(TooManyFiles):
        refusals.check(fail, "b.py")
    with pytest.raises(PathRefused, match=r"^No a\.py\.$"):
        refusals.raise_any()
