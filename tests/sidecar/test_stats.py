"""What the loop counts for the outside."""

from dagferry_core.errors import DagferryError
from dagferry_sidecar.stats import OUTCOMES, Stats


def test_every_outcome_starts_at_zero_and_is_counted() -> None:
    stats = Stats()
    assert set(stats.syncs.values()) == {0}
    for outcome in OUTCOMES:
        stats.count_sync(outcome)
    assert set(stats.syncs.values()) == {1}


def test_an_outcome_nobody_thought_of_is_counted_as_an_internal_error_and_makes_no_new_label() -> None:
    stats = Stats()
    stats.count_sync("path_refused")
    assert stats.syncs[DagferryError.code] == 1
    assert set(stats.syncs) == set(OUTCOMES)


def test_the_loop_is_alive_for_as_long_as_it_said() -> None:
    stats = Stats()
    assert stats.alive
    stats.watchdog(-1)
    assert not stats.alive
