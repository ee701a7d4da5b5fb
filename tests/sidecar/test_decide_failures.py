"""What a sidecar does when a deploy cannot be applied or the server fails: it retries, never in a hot loop."""

import pytest

from dagferry_follow.choose import Condition, How
from dagferry_follow.defaults import MAX_PAUSE_SECONDS
from dagferry_follow.errors import (
    AnswerInvalid,
    DigestMismatch,
    PatchMismatch,
    ServerRefused,
    ServerUnreachable,
    TreeDamaged,
    VolumeFailed,
)
from dagferry_sidecar.state import (
    Apply,
    Changed,
    Check,
    Checked,
    Done,
    NotModified,
    Poll,
    Published,
    Sleep,
)
from player import AWAY, REFUSED, Player, deploy


@pytest.mark.parametrize("error", [PatchMismatch, DigestMismatch, TreeDamaged, AnswerInvalid])
def test_a_patch_that_does_not_fit_is_followed_at_once_by_the_whole_bundle(error) -> None:
    player = Player().follow(deploy(3))
    take = player.tell(Changed(deploy(4)))
    assert player.fail(take, error("no")) == Apply(deploy(4), How.WHOLE)


def test_a_broken_download_does_not_cost_the_patch() -> None:
    player = Player().follow(deploy(3))
    take = player.tell(Changed(deploy(4)))
    assert player.fail(take, ServerUnreachable("cut")) == Poll("v-4", 5)
    player.tell(NotModified(), after=5)
    assert player.tell(Checked(Condition.INTACT, "")) == Apply(deploy(4), How.PATCH)


def test_a_deploy_that_keeps_failing_is_tried_with_growing_pauses_up_to_a_limit() -> None:
    player = Player().follow(deploy(3))
    take = player.tell(Changed(deploy(4)))
    take = player.fail(take, DigestMismatch("wrong"))
    pauses = []
    for _ in range(7):
        assert take == Apply(deploy(4), How.WHOLE)
        player.fail(take, DigestMismatch("wrong"))
        pauses.append(player.state.retry_at - player.now)
        player.tell(NotModified(), after=pauses[-1])
        take = player.tell(Checked(Condition.INTACT, ""))
    assert pauses == [5, 10, 20, 40, MAX_PAUSE_SECONDS, 60, 60]


def test_a_newer_deploy_does_not_wait_longer_because_the_one_before_failed() -> None:
    player = Player().follow(deploy(3))
    take = player.tell(Changed(deploy(4)))
    for pause in (5, 10):
        player.fail(take, VolumeFailed("full"))
        assert player.state.retry_at == player.now + pause
        player.tell(NotModified(), after=pause)
        take = player.tell(Checked(Condition.INTACT, ""))
    take = player.tell(Changed(deploy(5)))
    player.fail(take, VolumeFailed("full"))
    assert player.state.retry_at == player.now + 5


def test_while_a_deploy_fails_the_server_is_waited_on_so_that_a_newer_one_comes_at_once() -> None:
    player = Player().follow(deploy(3))
    take = player.tell(Changed(deploy(4)))
    assert player.fail(take, VolumeFailed("full")) == Poll("v-4", 5)
    assert player.tell(Changed(deploy(5)), after=1) == Apply(deploy(5), How.PATCH)
    player.tell(Published(deploy(5), ()))
    assert player.state.error is None
    assert player.state.pending is None


def test_a_server_that_repeats_a_failing_deploy_at_once_makes_no_hot_loop() -> None:
    player = Player().follow(deploy(3))
    take = player.tell(Changed(deploy(4)))
    player.fail(take, VolumeFailed("full"))
    action = player.tell(Changed(deploy(4)), after=0.01)
    assert isinstance(action, Sleep)
    assert action.seconds > 4


def test_a_server_that_ignores_what_was_seen_makes_no_hot_loop() -> None:
    player = Player().follow(deploy(3))
    assert player.tell(Changed(deploy(3)), after=0.01) == Sleep(pytest.approx(4.99))


def test_pauses_are_jittered_by_up_to_half() -> None:
    pauses = set()
    for jitter in (0.0, 0.5, 1.0):
        player = Player()
        player.start()
        pauses.add(player.tell(REFUSED, jitter=jitter).seconds)
    assert pauses == {2.5, 3.75, 5.0}


def test_a_server_that_refuses_is_polled_less_and_less_often_and_no_tree_changes() -> None:
    player = Player().follow(deploy(3))
    pauses = []
    for number in range(7):
        action = player.tell(REFUSED)
        if number:
            assert action == Check(), "somebody may write into the tree meanwhile, and old trees expire"
            action = player.tell(Checked(Condition.INTACT, ""))
        pauses.append(action.seconds)
        assert player.tell(Done(), after=pauses[-1]) == Poll("v-3", 0)
    assert pauses == [5, 10, 20, 40, MAX_PAUSE_SECONDS, 60, 60]
    assert player.state.live == deploy(3)
    assert isinstance(player.state.error, ServerRefused)
    player.tell(NotModified())
    assert player.state.error is None
    assert player.tell(Checked(Condition.INTACT, "")) == Poll("v-3", 30)


def test_what_is_pending_is_not_tried_while_the_server_is_unreachable() -> None:
    player = Player().follow(deploy(3))
    take = player.tell(Changed(deploy(4)))
    player.fail(take, ServerUnreachable("cut"))
    assert isinstance(player.tell(AWAY), Sleep)
    assert player.tell(Done(), after=5) == Poll("v-4", 0)


def test_a_patch_that_does_not_come_twice_is_replaced_by_the_whole_bundle() -> None:
    player = Player().follow(deploy(3))
    action = player.tell(Changed(deploy(4)))
    for expected in (How.PATCH, How.WHOLE, How.WHOLE):
        action = player.fail(action, ServerUnreachable("silence"))
        for _ in range(10):
            if isinstance(action, Apply):
                break
            if isinstance(action, Poll):
                action = player.tell(NotModified(), after=action.wait)
            elif isinstance(action, Sleep):
                action = player.tell(Done(), after=action.seconds)
            else:
                action = player.tell(Checked(Condition.INTACT, ""))
        assert action == Apply(deploy(4), expected)
    player.tell(Published(deploy(4), ()))
    assert player.tell(Changed(deploy(5))) == Apply(deploy(5), How.PATCH)
