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
from simulated_sidecar import AWAY, REFUSED, SimulatedSidecar, deploy


@pytest.mark.parametrize("error", [PatchMismatch, DigestMismatch, TreeDamaged, AnswerInvalid])
def test_a_patch_that_does_not_fit_is_followed_at_once_by_the_whole_bundle(error) -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    take = sidecar.handle(Changed(deploy(4)))
    assert sidecar.fail(take, error("no")) == Apply(deploy(4), How.WHOLE)


def test_a_broken_download_does_not_cost_the_patch() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    take = sidecar.handle(Changed(deploy(4)))
    assert sidecar.fail(take, ServerUnreachable("cut")) == Poll("v-4", 5)
    sidecar.handle(NotModified(), after=5)
    assert sidecar.handle(Checked(Condition.INTACT, "")) == Apply(deploy(4), How.PATCH)


def test_a_deploy_that_keeps_failing_is_tried_with_growing_pauses_up_to_a_limit() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    take = sidecar.handle(Changed(deploy(4)))
    take = sidecar.fail(take, DigestMismatch("wrong"))
    pauses = []
    for _ in range(7):
        assert take == Apply(deploy(4), How.WHOLE)
        sidecar.fail(take, DigestMismatch("wrong"))
        pauses.append(sidecar.state.retry_at - sidecar.now)
        sidecar.handle(NotModified(), after=pauses[-1])
        take = sidecar.handle(Checked(Condition.INTACT, ""))
    assert pauses == [5, 10, 20, 40, MAX_PAUSE_SECONDS, 60, 60]


def test_a_newer_deploy_does_not_wait_longer_because_the_one_before_failed() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    take = sidecar.handle(Changed(deploy(4)))
    for pause in (5, 10):
        sidecar.fail(take, VolumeFailed("full"))
        assert sidecar.state.retry_at == sidecar.now + pause
        sidecar.handle(NotModified(), after=pause)
        take = sidecar.handle(Checked(Condition.INTACT, ""))
    take = sidecar.handle(Changed(deploy(5)))
    sidecar.fail(take, VolumeFailed("full"))
    assert sidecar.state.retry_at == sidecar.now + 5


def test_while_a_deploy_fails_the_server_is_waited_on_so_that_a_newer_one_comes_at_once() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    take = sidecar.handle(Changed(deploy(4)))
    assert sidecar.fail(take, VolumeFailed("full")) == Poll("v-4", 5)
    assert sidecar.handle(Changed(deploy(5)), after=1) == Apply(deploy(5), How.PATCH)
    sidecar.handle(Published(deploy(5), ()))
    assert sidecar.state.error is None
    assert sidecar.state.pending is None


def test_a_server_that_repeats_a_failing_deploy_at_once_makes_no_hot_loop() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    take = sidecar.handle(Changed(deploy(4)))
    sidecar.fail(take, VolumeFailed("full"))
    action = sidecar.handle(Changed(deploy(4)), after=0.01)
    assert isinstance(action, Sleep)
    assert action.seconds > 4


def test_a_server_that_ignores_what_was_seen_makes_no_hot_loop() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    assert sidecar.handle(Changed(deploy(3)), after=0.01) == Sleep(pytest.approx(4.99))


def test_pauses_are_jittered_by_up_to_half() -> None:
    pauses = set()
    for jitter in (0.0, 0.5, 1.0):
        sidecar = SimulatedSidecar()
        sidecar.start()
        pauses.add(sidecar.handle(REFUSED, jitter=jitter).seconds)
    assert pauses == {2.5, 3.75, 5.0}


def test_a_server_that_refuses_is_polled_less_and_less_often_and_no_tree_changes() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    pauses = []
    for number in range(7):
        action = sidecar.handle(REFUSED)
        if number:
            assert action == Check(), "somebody may write into the tree meanwhile, and old trees expire"
            action = sidecar.handle(Checked(Condition.INTACT, ""))
        pauses.append(action.seconds)
        assert sidecar.handle(Done(), after=pauses[-1]) == Poll("v-3", 0)
    assert pauses == [5, 10, 20, 40, MAX_PAUSE_SECONDS, 60, 60]
    assert sidecar.state.live == deploy(3)
    assert isinstance(sidecar.state.error, ServerRefused)
    sidecar.handle(NotModified())
    assert sidecar.state.error is None
    assert sidecar.handle(Checked(Condition.INTACT, "")) == Poll("v-3", 30)


def test_what_is_pending_is_not_tried_while_the_server_is_unreachable() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    take = sidecar.handle(Changed(deploy(4)))
    sidecar.fail(take, ServerUnreachable("cut"))
    assert isinstance(sidecar.handle(AWAY), Sleep)
    assert sidecar.handle(Done(), after=5) == Poll("v-4", 0)


def test_a_patch_that_does_not_come_twice_is_replaced_by_the_whole_bundle() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    action = sidecar.handle(Changed(deploy(4)))
    for expected in (How.PATCH, How.WHOLE, How.WHOLE):
        action = sidecar.fail(action, ServerUnreachable("silence"))
        for _ in range(10):
            if isinstance(action, Apply):
                break
            if isinstance(action, Poll):
                action = sidecar.handle(NotModified(), after=action.wait)
            elif isinstance(action, Sleep):
                action = sidecar.handle(Done(), after=action.seconds)
            else:
                action = sidecar.handle(Checked(Condition.INTACT, ""))
        assert action == Apply(deploy(4), expected)
    sidecar.handle(Published(deploy(4), ()))
    assert sidecar.handle(Changed(deploy(5))) == Apply(deploy(5), How.PATCH)
