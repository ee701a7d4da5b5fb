"""Which import errors are new."""

import json

import pytest

from dagferry_airflow.known_errors import MAX_KEPT_BYTES, MAX_KNOWN, KnownErrors

X, Y = "Traceback\nValueError: x", "Traceback\nValueError: y"
ALL = frozenset({"a.py", "b.py"})


def judged(known: KnownErrors, version: str, touched: frozenset[str] = frozenset(), **traces: str) -> dict[str, bool]:
    """Whether each error is new at a version."""
    by_path = {f"{name}.py": trace for name, trace in traces.items()}
    found = known.judge(version, by_path, touched.__contains__, ALL.__contains__)
    return {error.path: error.new for error in found}


def test_an_error_is_new_at_the_version_that_touched_its_file() -> None:
    known = KnownErrors()
    assert judged(known, "1", ALL, a=X) == {"a.py": True}
    assert judged(known, "1", ALL, a=X) == {"a.py": True}
    assert judged(known, "2", ALL, a=X) == {"a.py": False}
    assert judged(known, "3", a=X) == {"a.py": False}


def test_an_error_of_a_file_that_was_not_touched_is_not_of_the_version() -> None:
    assert judged(KnownErrors(), "1", frozenset({"b.py"}), a=X, b=Y) == {"a.py": False, "b.py": True}


def test_another_error_in_a_touched_file_is_new() -> None:
    known = KnownErrors()
    judged(known, "1", ALL, a=X)
    assert judged(known, "2", a=Y) == {"a.py": False}, "its file did not change"
    assert judged(known, "3", ALL, a=X) == {"a.py": True}


def test_an_address_makes_no_other_error() -> None:
    known = KnownErrors()
    judged(known, "1", ALL, a="TypeError: <object at 0x7f01>")
    assert judged(known, "2", ALL, a="TypeError: <object at 0x7fff>") == {"a.py": False}


def test_an_error_that_was_repaired_and_comes_back_is_new() -> None:
    known = KnownErrors()
    judged(known, "1", ALL, a=X)
    assert judged(known, "2", ALL) == {}
    assert judged(known, "3", ALL, a=X) == {"a.py": True}


def test_an_error_that_is_not_of_the_version_is_neither_told_nor_forgotten() -> None:
    known = KnownErrors()
    judged(known, "1", ALL, a=X)
    assert known.judge("2", {"a.py": X}, ALL.__contains__, lambda _: False) == []
    assert known.judge("2", {}, ALL.__contains__, lambda _: False) == []
    assert judged(known, "2", ALL, a=X) == {"a.py": False}


def test_a_restart_changes_nothing() -> None:
    known = KnownErrors()
    judged(known, "1", ALL, a=X)
    again = KnownErrors(known.keep())
    assert judged(again, "1", a=X) == {"a.py": True}
    assert judged(KnownErrors(again.keep()), "2", ALL, a=X) == {"a.py": False}


def test_errors_of_files_that_are_gone_are_forgotten() -> None:
    known = KnownErrors()
    judged(known, "1", ALL, a=X)
    known.forget_missing(lambda path: path != "a.py")
    assert json.loads(known.keep()) == {"errors": {}}


@pytest.mark.parametrize(
    "kept", ["", "{", "[]", '{"errors": []}', '{"errors": {"a.py": 1}}', '{"errors": {"a.py": {}}}', "9", "[" * 100_000]
)
def test_what_cannot_be_read_is_nothing(kept: str) -> None:
    assert judged(KnownErrors(kept), "2", ALL, a=X) == {"a.py": True}


def test_what_is_kept_is_bounded() -> None:
    known = KnownErrors()
    traces = {f"{number}.py": "x" * 9999 for number in range(2 * MAX_KNOWN)}
    known.judge("1", traces, lambda _: True, lambda _: True)
    kept = known.keep()
    assert len(kept) <= MAX_KEPT_BYTES
    assert len(json.loads(kept)["errors"]) == MAX_KNOWN


def test_of_too_much_to_keep_the_newest_is_kept() -> None:
    known = KnownErrors()
    known.judge("1", {f"{number}.py": "\u00e9" * 490 for number in range(120)}, lambda _: True, lambda _: True)
    kept = known.keep()
    assert len(kept) <= MAX_KEPT_BYTES
    assert list(json.loads(kept)["errors"]) == [f"{number}.py" for number in range(60, 120)]
