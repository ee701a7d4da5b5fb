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
from player import REFUSED, Player, deploy


def test_fresh_files_are_touched_again_after_10_and_60_seconds() -> None:
    player = Player().follow(deploy(3))
    player.tell(Changed(deploy(4)))
    assert player.tell(Published(deploy(4), ("a.py",))) == Poll("v-4", 10)
    player.tell(NotModified(), after=10)
    assert player.tell(Checked(Condition.INTACT, "")) == Touch(("a.py",))
    assert player.tell(Done()) == Poll("v-4", 30)
    player.tell(NotModified(), after=30)
    assert player.tell(Checked(Condition.INTACT, "")) == Poll("v-4", 20)
    player.tell(NotModified(), after=20)
    assert player.tell(Checked(Condition.INTACT, "")) == Touch(("a.py",))
    assert player.tell(Done()) == Poll("v-4", 30)


def test_they_are_also_if_another_swap_came_between() -> None:
    player = Player().follow(deploy(3))
    player.tell(Changed(deploy(4)))
    player.tell(Published(deploy(4), ("a.py",)))
    player.tell(Changed(deploy(5)), after=4)
    assert player.tell(Published(deploy(5), ("b.py",))) == Poll("v-5", 6)
    player.tell(NotModified(), after=6)
    assert player.tell(Checked(Condition.INTACT, "")) == Touch(("a.py",))
    assert player.tell(Done()) == Poll("v-5", 4)


def test_they_are_also_while_the_server_is_unreachable() -> None:
    player = Player().follow(deploy(3))
    player.tell(Changed(deploy(4)))
    player.tell(Published(deploy(4), ("a.py",)))
    assert player.tell(REFUSED, after=6) == Check()
    player.tell(Checked(Condition.INTACT, ""))
    player.tell(Done(), after=1)
    assert player.tell(REFUSED) == Sleep(3.0)
    assert player.tell(Done(), after=3) == Touch(("a.py",))


def test_no_request_takes_so_long_that_a_touch_would_be_late() -> None:
    player = Player().follow(deploy(3))
    assert request_timeout(player.state, player.now) == math.inf
    player.tell(Changed(deploy(4)))
    player.tell(Published(deploy(4), ("a.py",)))
    assert request_timeout(player.state, player.now) == 10 + MAX_TOUCH_DELAY_SECONDS
    assert request_timeout(player.state, player.now + 15) == MAX_TOUCH_DELAY_SECONDS
    assert touch_due(player.state, player.now + 9.9)[1] is None
    state, touch = touch_due(player.state, player.now + 10)
    assert touch == Touch(("a.py",))
    assert touch_due(state, player.now + 10)[1] is None


def test_a_swap_that_made_nothing_fresh_is_followed_by_no_touch() -> None:
    player = Player().follow(deploy(3))
    player.tell(Changed(deploy(4)))
    player.tell(Published(deploy(4), ()))
    assert player.state.touches == ()
