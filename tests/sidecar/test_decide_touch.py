"""When a sidecar touches files again after a swap."""

import math

from dagferry_follow.choose import Condition
from dagferry_sidecar.pace import MAX_TOUCH_DELAY_SECONDS, request_timeout, touch_due
from dagferry_sidecar.state import (
    Changed,
    Check,
    Checked,
    Done,
    NotModified,
    Poll,
    Published,
    Sleep,
    Touch,
)
from simulated_sidecar import REFUSED, SimulatedSidecar, deploy


def test_fresh_files_are_touched_again_after_10_and_60_seconds() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    sidecar.handle(Changed(deploy(4)))
    assert sidecar.handle(Published(deploy(4), ("a.py",))) == Poll("v-4", 10)
    sidecar.handle(NotModified(), after=10)
    assert sidecar.handle(Checked(Condition.INTACT, "")) == Touch(("a.py",))
    assert sidecar.handle(Done()) == Poll("v-4", 30)
    sidecar.handle(NotModified(), after=30)
    assert sidecar.handle(Checked(Condition.INTACT, "")) == Poll("v-4", 20)
    sidecar.handle(NotModified(), after=20)
    assert sidecar.handle(Checked(Condition.INTACT, "")) == Touch(("a.py",))
    assert sidecar.handle(Done()) == Poll("v-4", 30)


def test_they_are_also_if_another_swap_came_between() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    sidecar.handle(Changed(deploy(4)))
    sidecar.handle(Published(deploy(4), ("a.py",)))
    sidecar.handle(Changed(deploy(5)), after=4)
    assert sidecar.handle(Published(deploy(5), ("b.py",))) == Poll("v-5", 6)
    sidecar.handle(NotModified(), after=6)
    assert sidecar.handle(Checked(Condition.INTACT, "")) == Touch(("a.py",))
    assert sidecar.handle(Done()) == Poll("v-5", 4)


def test_they_are_also_while_the_server_is_unreachable() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    sidecar.handle(Changed(deploy(4)))
    sidecar.handle(Published(deploy(4), ("a.py",)))
    assert sidecar.handle(REFUSED, after=6) == Check()
    sidecar.handle(Checked(Condition.INTACT, ""))
    sidecar.handle(Done(), after=1)
    assert sidecar.handle(REFUSED) == Sleep(3.0)
    assert sidecar.handle(Done(), after=3) == Touch(("a.py",))


def test_no_request_takes_so_long_that_a_touch_would_be_late() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    assert request_timeout(sidecar.state, sidecar.now) == math.inf
    sidecar.handle(Changed(deploy(4)))
    sidecar.handle(Published(deploy(4), ("a.py",)))
    assert request_timeout(sidecar.state, sidecar.now) == 10 + MAX_TOUCH_DELAY_SECONDS
    assert request_timeout(sidecar.state, sidecar.now + 15) == MAX_TOUCH_DELAY_SECONDS
    assert touch_due(sidecar.state, sidecar.now + 9.9)[1] is None
    state, touch = touch_due(sidecar.state, sidecar.now + 10)
    assert touch == Touch(("a.py",))
    assert touch_due(state, sidecar.now + 10)[1] is None


def test_a_swap_that_made_nothing_fresh_is_followed_by_no_touch() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    sidecar.handle(Changed(deploy(4)))
    sidecar.handle(Published(deploy(4), ()))
    assert sidecar.state.touches == ()
