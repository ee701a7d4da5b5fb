"""How long a follower pauses: longer after each failure in a row, up to a limit, and never all at the same moment."""

import pytest

from dagferry_follow.defaults import MAX_PAUSE_SECONDS
from dagferry_follow.pauses import Repairs, backoff, longest_pause


def test_pauses_double_up_to_a_minute() -> None:
    assert [backoff(failures, 5.0, 1.0) for failures in range(1, 8)] == [5, 10, 20, 40, MAX_PAUSE_SECONDS, 60, 60]
    assert backoff(10_000, 5.0, 1.0) == MAX_PAUSE_SECONDS, "without an overflow"


def test_the_first_pause_may_be_longer_than_the_limit() -> None:
    assert longest_pause(300.0) == backoff(1, 300.0, 1.0) == backoff(9, 300.0, 1.0) == 300.0


def test_jitter_takes_up_to_half() -> None:
    assert [backoff(1, 8.0, jitter) for jitter in (0.0, 0.5, 1.0)] == [4, 6, 8]


def repaired(repairs: Repairs, now: float) -> Repairs:
    return repairs.after_publish(repaired=True, now=now, first=5.0, jitter=1.0)


def test_pauses_between_repairs_grow_until_another_deploy_is_published() -> None:
    repairs, now, pauses = Repairs(), 0.0, []
    for _ in range(6):
        repairs = repaired(repairs, now)
        pauses.append(repairs.not_before - now)
        now = repairs.not_before
    assert pauses == [5, 10, 20, 40, 60, 60]
    assert repairs.after_publish(repaired=False, now=now, first=5.0, jitter=1.0) == Repairs()


@pytest.mark.parametrize(("later", "in_a_row"), [(60.0, 3), (60.5, 1)])
def test_a_tree_that_stays_intact_for_longer_than_the_longest_pause_starts_a_new_row(later, in_a_row) -> None:
    repairs = repaired(repaired(Repairs(), 0.0), 5.0)
    assert repaired(repairs, repairs.not_before + later).in_a_row == in_a_row
