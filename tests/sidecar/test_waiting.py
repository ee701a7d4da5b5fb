"""When the server is asked, and for how long it is asked to wait: through restarts, cut waits and black holes."""

import pytest

from dagferry_follow.choose import Condition
from dagferry_follow.defaults import MAX_PAUSE_SECONDS
from dagferry_follow.errors import ProxyFailed, ServerRefused, ServerUnreachable, TokenUnreadable
from dagferry_sidecar.state import Changed, Check, Checked, Done, NotModified, Poll, PollFailed, Published, Sleep
from dagferry_sidecar.waiting import (
    NO_WAITS_SECONDS,
    RESTART_PAUSE_SECONDS,
    RESTART_SECONDS,
    SPREAD_SECONDS,
    WAIT_LIMIT_SECONDS,
)
from simulated_sidecar import AWAY, REFUSED, SimulatedSidecar, deploy


def refused(status: int) -> PollFailed:
    error = ServerRefused(f"The server answered {status}")
    error.answered = status
    return PollFailed(error)


def until_it_polls(sidecar: SimulatedSidecar, action) -> Poll:
    """Go on, with a sound tree, until the server is asked again."""
    while not isinstance(action, Poll):
        assert isinstance(action, (Check, Sleep))
        event = Checked(Condition.INTACT, "") if isinstance(action, Check) else Done()
        action = sidecar.handle(event, after=action.seconds if isinstance(action, Sleep) else 0)
    return action


def through_an_interruption(sidecar: SimulatedSidecar, after: float, error: PollFailed = AWAY) -> Poll:
    """Have a wait end with ``error`` after so many seconds, and the next question answered."""
    assert until_it_polls(sidecar, sidecar.handle(error, after=after)) == Poll("v-3", 0)
    assert sidecar.state.error is None, "one cut wait is no error"
    return until_it_polls(sidecar, sidecar.handle(NotModified()))


# --- a server that is away -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [AWAY, PollFailed(ProxyFailed("down")), refused(502), refused(503), refused(504)])
def test_for_a_minute_an_unreachable_server_is_polled_so_often_that_a_restart_is_hardly_noticed(failure) -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    pauses = []
    while sidecar.now < RESTART_SECONDS:
        before = sidecar.now
        assert until_it_polls(sidecar, sidecar.handle(failure)).wait == 0
        pauses.append(round(sidecar.now - before, 2))
    assert pauses[:5] == [0.1, 0.2, 0.4, 0.75, 0.75]
    assert max(pauses) == RESTART_PAUSE_SECONDS
    slow = []
    for _ in range(7):
        before = sidecar.now
        until_it_polls(sidecar, sidecar.handle(failure))
        slow.append(round(sidecar.now - before, 2))
    assert slow == [5, 10, 20, 40, MAX_PAUSE_SECONDS, 60, 60]
    assert sidecar.state.error is failure.error


def test_the_minute_begins_anew_when_the_server_was_there() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    for _ in range(200):
        until_it_polls(sidecar, sidecar.handle(AWAY))
    until_it_polls(sidecar, sidecar.handle(NotModified()))
    assert sidecar.state.error is None
    before = sidecar.now
    until_it_polls(sidecar, sidecar.handle(AWAY, after=0.5))
    assert sidecar.now - before == pytest.approx(0.6)


@pytest.mark.parametrize("failure", [REFUSED, refused(401), refused(500), PollFailed(TokenUnreadable("none"))])
def test_a_failure_that_no_restart_explains_is_followed_by_a_pause(failure) -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    assert sidecar.handle(failure) == Sleep(5.0)


def test_polls_after_a_failure_are_spread() -> None:
    pauses = set()
    for jitter in (0.0, 0.5, 1.0):
        sidecar = SimulatedSidecar().follow(deploy(3))
        for _ in range(5):
            action = sidecar.handle(AWAY, jitter=jitter)
        pauses.add(
            action.seconds if isinstance(action, Sleep) else sidecar.handle(Checked(Condition.INTACT, "")).seconds
        )
    assert pauses == {0.375, 0.5625, 0.75}


def test_a_server_that_ends_a_wait_before_its_time_is_polled_again_soon_once() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    assert sidecar.handle(NotModified(), after=0.01) == Check()
    assert sidecar.handle(Checked(Condition.INTACT, "")) == Sleep(SPREAD_SECONDS), (
        "so a server ends its waits that stops"
    )
    assert sidecar.handle(Done(), after=SPREAD_SECONDS) == Poll("v-3", 30)
    sidecar.handle(NotModified(), after=0.01)
    assert sidecar.handle(Checked(Condition.INTACT, "")) == Sleep(pytest.approx(4.99)), "this one does not wait at all"
    assert sidecar.handle(Done(), after=4.99) == Poll("v-3", 30)
    sidecar.handle(NotModified(), after=0.01)
    assert sidecar.handle(Checked(Condition.INTACT, "")) == Sleep(pytest.approx(4.99))
    sidecar.handle(Done(), after=4.99)
    until_it_polls(sidecar, sidecar.handle(NotModified(), after=30))
    sidecar.handle(NotModified(), after=0.01)
    assert sidecar.handle(Checked(Condition.INTACT, "")) == Sleep(SPREAD_SECONDS)


def test_each_restart_with_a_deploy_behind_it_is_hardly_noticed() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    for sequence in range(4, 8):
        until_it_polls(sidecar, sidecar.handle(NotModified(), after=0.125))  # it stops
        sidecar.handle(Changed(deploy(sequence)))
        until_it_polls(sidecar, sidecar.handle(Published(deploy(sequence), ())))
    before = sidecar.now
    until_it_polls(sidecar, sidecar.handle(NotModified()))
    assert sidecar.now - before <= SPREAD_SECONDS


# --- waits that are cut ----------------------------------------------------------------------------------------------


def test_one_interrupted_wait_changes_nothing() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    assert through_an_interruption(sidecar, 12) == Poll("v-3", 30)
    assert sidecar.state.error is None
    until_it_polls(sidecar, sidecar.handle(NotModified(), after=30))
    assert through_an_interruption(sidecar, 12) == Poll("v-3", 30), "the one before it does not count any more"


def test_after_an_interruption_the_server_is_polled_at_once_and_what_is_new_is_applied() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    before = sidecar.now
    until_it_polls(sidecar, sidecar.handle(AWAY, after=12))
    assert sidecar.now - before <= 12 + SPREAD_SECONDS
    assert sidecar.handle(Changed(deploy(4))).deploy == deploy(4)


@pytest.mark.parametrize(
    ("after", "failure"), [(2, AWAY), (12, AWAY), (12, refused(504)), (15, refused(502)), (30, AWAY)]
)
def test_waits_that_are_interrupted_twice_become_so_short_that_they_are_not(after, failure) -> None:
    sidecar = SimulatedSidecar(wait=50).follow(deploy(3))
    through_an_interruption(sidecar, after, failure)
    asked = through_an_interruption(sidecar, after, failure)
    if after == 2:
        assert sidecar.state.no_waits_until == sidecar.now + NO_WAITS_SECONDS - 5, "too short to be of use"
        return
    assert 0.6 * after < asked.wait < after
    started = sidecar.now
    while sidecar.now < started + WAIT_LIMIT_SECONDS - asked.wait:
        assert until_it_polls(sidecar, sidecar.handle(NotModified(), after=asked.wait)) == asked
    assert until_it_polls(sidecar, sidecar.handle(NotModified(), after=asked.wait)) == Poll("v-3", 50), (
        "may be better now"
    )


def test_a_black_hole_is_learned_from_the_first_time() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    asked = through_an_interruption(sidecar, 30 + 20)
    assert asked == Poll("v-3", 15)
    assert through_an_interruption(sidecar, 15 + 20) == Poll("v-3", 7), "its patience was below that, too"


def test_a_wait_that_ends_because_the_server_went_teaches_nothing() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    for _ in range(5):
        until_it_polls(sidecar, sidecar.handle(AWAY, after=12))
        until_it_polls(sidecar, sidecar.handle(AWAY))
        assert isinstance(sidecar.state.error, ServerUnreachable)
        assert until_it_polls(sidecar, sidecar.handle(NotModified())) == Poll("v-3", 30)


@pytest.mark.parametrize("failure", [refused(401), refused(500), PollFailed(TokenUnreadable("none"))])
def test_an_answer_of_the_server_is_no_interruption(failure) -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    sidecar.handle(failure, after=12)
    assert sidecar.state.error is failure.error


def test_where_waits_fail_at_once_it_polls_for_a_while() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    for _ in range(2):
        assert until_it_polls(sidecar, sidecar.handle(AWAY, after=1)) == Poll("v-3", 0)
        assert until_it_polls(sidecar, sidecar.handle(NotModified())) == Poll("v-3", 30)
    until_it_polls(sidecar, sidecar.handle(AWAY, after=1))
    until = sidecar.now + NO_WAITS_SECONDS
    action = sidecar.handle(NotModified())
    while sidecar.now < until - 6:
        assert until_it_polls(sidecar, action) == Poll("v-3", 0)
        action = sidecar.handle(NotModified())
    while (asked := until_it_polls(sidecar, action)).wait == 0:
        action = sidecar.handle(NotModified())
    assert asked == Poll("v-3", 30)
    assert sidecar.now - until < 6
