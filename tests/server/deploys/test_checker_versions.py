"""A checker that has other versions than the dag processor is named."""

import pytest

from dagferry_server.deploys.checker_versions import Versions, mismatch


@pytest.mark.parametrize(
    ("checker", "parsed", "words"),
    [
        (Versions("3.3.2", "3.11.7"), None, ""),
        (Versions("3.3.2", "3.11.7"), Versions("3.3.2", "3.11.9"), ""),
        (Versions("", ""), Versions("3.3.2", "3.11.9"), ""),
        (Versions("3.3.2", "3.11.7"), Versions("", ""), ""),
        (
            Versions("3.3.1", "3.11.7"),
            Versions("3.3.2", "3.11.7"),
            "has Airflow 3.3.1, and the dag processor Airflow 3.3.2:",
        ),
        (
            Versions("3.3.2", "3.12.1"),
            Versions("3.3.2", "3.11.7"),
            "has Python 3.12.1, and the dag processor Python 3.11.7:",
        ),
    ],
)
def test_versions_that_differ_are_named(checker, parsed, words) -> None:
    found = mismatch([("checker-0", checker)], parsed)
    assert words in found
    assert bool(found) == bool(words)


def test_the_first_that_differs_is_named() -> None:
    right, wrong = Versions("3.3.2", "3.11"), Versions("2.11.2", "3.12")
    assert mismatch([("a", right), ("b", wrong)], right).startswith("The checker b has Airflow 2.11.2,")
