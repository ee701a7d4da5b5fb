"""Errors about the dags folder say what is wrong with what, and all of it."""

import errortable
from dagferry_client.local.errors import FolderInvalid, LocalError, Problem
from dagferry_core.errors import with_subclasses


def test_one_problem_is_the_message() -> None:
    assert FolderInvalid([Problem("a", "'a' is bad.")]).message == "'a' is bad."


def test_several_are_counted_and_equal_sentences_said_once() -> None:
    error = FolderInvalid([Problem("a", "It is bad."), Problem("b", "It is bad."), Problem("c", "C is worse.")])
    assert error.message == "3 things in the dags folder cannot be deployed. It is bad. C is worse."


def test_they_are_among_all_errors() -> None:
    assert set(with_subclasses(LocalError)) <= set(errortable.ALL_ERRORS)
    assert FolderInvalid in with_subclasses(LocalError)
