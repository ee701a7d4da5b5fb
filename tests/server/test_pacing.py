"""Long work in a thread leaves the interpreter to others."""

import pytest

from dagferry_server import pacing
from dagferry_server.pacing import REST_SECONDS, TURN_SECONDS, paced


class Clock:
    """A clock that only work and rests move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.rests: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.rests.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pacing, "time", clock)
    return clock


def test_all_items_come_in_order(clock) -> None:
    assert list(paced(range(1000))) == list(range(1000))
    assert clock.rests == []


def test_after_each_turn_of_work_comes_a_rest(clock) -> None:
    for _ in paced(range(100)):
        clock.now += TURN_SECONDS / 4
    assert set(clock.rests) == {REST_SECONDS}
    assert len(clock.rests) == 20  # the fifth quarter is over the turn
