"""Which DAG files count as read: never one too many."""

import pytest

from dagferry_airflow.parses import MAX_WAITING, Parses, Rows
from dagferry_airflow.reads import Parse

T1, T2, T3 = "a/v1", "b/v2", "c/v3"
NOW = 1000.0


def parse(
    file: str = "a.py", started: float = 10.0, *trees: str, ended: float | None = -1.0, well: bool = True
) -> Parse:
    """A parse of two seconds at ``T1``, unless told otherwise."""
    end = started + 2 if ended == -1.0 else ended
    paths = frozenset({file})
    return Parse(file, started, end, well and end is not None, frozenset(trees or {T1}), paths, frozenset())


def rows(
    collected: float = 0.0, *, written_by: str = "dag-processor", error: float | None = None, **dags: float
) -> Rows:
    """Rows with a DAG of each file that was last parsed then; ``error`` is when ``a.py`` got an import error."""
    errors = {} if error is None else {"a.py": (error, "Traceback\nValueError: no")}
    return Rows({f"{name}.py": [at] for name, at in dags.items()}, errors, collected, written_by)


@pytest.fixture
def parses() -> Parses:
    made = Parses(lambda path: path == "ids.py")
    made.look(T1, {"a.py": 1})
    return made


def judged(parses: Parses, said: Rows) -> bool:
    parses.judge(said, NOW)
    return parses.is_recorded("a.py")


def test_a_file_counts_when_its_dags_are_recorded_after_its_parse(parses) -> None:
    assert not judged(parses, rows(a=500.0)), "nothing was parsed"
    parses.ended(parse())
    assert not judged(parses, rows(a=9.0)), "they are of the parse before"
    assert not judged(parses, rows(a=11.0)), "they are of another dag processor: this parse had not ended"
    assert parses.waiting
    assert judged(parses, rows(a=12.5))
    assert parses.complete_at == 12.5
    assert not parses.waiting


def test_airflow_2_records_a_parse_before_it_ends(parses) -> None:
    parses.ended(parse())
    assert not judged(parses, rows(written_by="parse", a=9.9))
    assert judged(parses, rows(written_by="parse", a=11.0))


def test_an_import_error_is_a_result_too(parses) -> None:
    parses.ended(parse())
    assert not judged(parses, rows(error=9.0))
    assert judged(parses, rows(error=12.0))


def test_one_fresh_dag_is_enough_because_a_file_is_recorded_as_a_whole(parses) -> None:
    parses.ended(parse())
    assert judged(parses, Rows({"a.py": [3.0, 13.0]}, {}, 0.0))


def test_a_file_without_dags_counts_when_all_parses_until_its_end_are_collected(parses) -> None:
    parses.ended(parse())
    assert not judged(parses, rows(collected=11.9))
    assert judged(parses, rows(collected=12.0))


def test_a_file_that_has_lost_its_dags_counts_when_airflow_has_seen_that(parses) -> None:
    parses.ended(parse())
    assert not judged(parses, rows(collected=NOW, a=5.0)), "its older DAGs are still active"
    assert judged(parses, rows(collected=NOW))


@pytest.mark.parametrize("bad", [parse(well=False), parse(ended=None)])
def test_a_parse_that_failed_or_was_killed_shows_nothing_by_having_no_dags(parses, bad: Parse) -> None:
    parses.ended(bad)
    assert not judged(parses, rows(collected=NOW))
    parses.ended(parse(started=20.0))
    assert judged(parses, rows(collected=NOW))


@pytest.mark.parametrize("mtime", [1, 2])
def test_a_mixed_parse_does_not_count(parses, mtime) -> None:
    """Not even of a file that the swap in between did not touch: it may have read what the rules do not know of."""
    parses.look(T2, {"a.py": mtime})
    parses.ended(parse("a.py", 10.0, T1, T2))
    assert not judged(parses, rows(a=13.0))
    assert parses.mixed == 1
    parses.ended(parse("a.py", 20.0, T2))
    assert judged(parses, rows(a=23.0))
    assert parses.mixed == 0


def test_a_file_counts_until_a_tree_touches_it(parses) -> None:
    parses.ended(parse())
    assert judged(parses, rows(a=12.5))
    parses.look(T2, {"a.py": 1})
    assert parses.is_recorded("a.py")
    assert not parses.is_touched("a.py")
    parses.look(T3, {"a.py": 2})
    assert parses.is_touched("a.py")
    assert not judged(parses, rows(a=12.5))
    parses.ended(parse("a.py", 10.0, T2))
    assert not judged(parses, rows(a=500.0)), "that parse read what was there before"
    parses.ended(parse("a.py", 30.0, T3))
    assert judged(parses, rows(a=500.0))


def test_a_parse_at_an_older_tree_counts_if_the_file_was_not_touched_since(parses) -> None:
    parses.look(T2, {"a.py": 1})
    parses.ended(parse("a.py", 10.0, T1))
    assert judged(parses, rows(a=12.5))


def test_a_file_that_is_only_touched_again_stays(parses) -> None:
    parses.ended(parse())
    assert judged(parses, rows(a=12.5))
    parses.look(T1, {"a.py": 99})
    assert parses.is_recorded("a.py")
    parses.look(T2, {"a.py": 99})
    assert parses.is_recorded("a.py")


def test_a_parse_at_a_tree_that_is_seen_only_later_counts_then(parses) -> None:
    parses.ended(parse("a.py", 10.0, T2))
    assert not judged(parses, rows(a=12.5))
    parses.look(T2, {"a.py": 2})
    assert judged(parses, rows(a=12.5))


def test_a_parse_at_a_tree_that_was_never_seen_does_not_count(parses) -> None:
    parses.ended(parse("a.py", 10.0, "x/v9"))
    parses.look(T2, {"a.py": 1})
    assert not judged(parses, rows(a=12.5))


def test_an_older_tree_that_is_live_again_is_read_anew(parses) -> None:
    parses.ended(parse())
    assert judged(parses, rows(a=12.5))
    parses.look(T2, {"a.py": 1})
    parses.look(T1, {"a.py": 1})
    assert not judged(parses, rows(a=12.5))
    parses.ended(parse("a.py", 30.0, T1))
    assert judged(parses, rows(a=32.5))


def test_a_touched_file_whose_source_names_dags_must_show_twice_that_it_has_none(parses) -> None:
    parses.look(T2, {"a.py": 1, "ids.py": 1})
    parses.ended(parse("ids.py", 10.0, T2))
    parses.judge(rows(collected=NOW), NOW)
    parses.judge(rows(collected=NOW), NOW)
    assert not parses.is_recorded("ids.py")
    parses.ended(parse("ids.py", 20.0, T2))
    parses.judge(rows(collected=NOW), NOW)
    assert parses.is_recorded("ids.py")


def test_files_that_are_gone_or_unknown_are_no_files(parses) -> None:
    parses.ended(parse("helper.py"))
    parses.look(T2, {"b.py": 1})
    parses.judge(rows(collected=NOW, a=500.0), NOW)
    assert list(parses.files) == ["b.py"]
    assert parses.recorded == 0
    assert parses.complete_at is None
    parses.look(T3, {})
    assert parses.complete_at == 0.0


def test_only_the_newest_parses_wait_and_their_seconds_are_known(parses) -> None:
    for started in range(10, 10 + 2 * MAX_WAITING):
        parses.ended(parse(started=float(started)))
    assert parses.seconds == {"a.py": 2.0}
    assert not judged(parses, rows(a=12.5))
    assert judged(parses, rows(a=500.0))
