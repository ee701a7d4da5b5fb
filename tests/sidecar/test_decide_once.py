"""What ``--once`` does: when it ends, and with which exit code."""

import pytest

from dagferry_follow.choose import Condition, How, WhenEmpty
from dagferry_follow.errors import AwaitingFirstDeploy, ServerUnreachable, TreeDamaged, VolumeFailed
from dagferry_sidecar.pace import MIN_REQUEST_SECONDS, request_timeout
from dagferry_sidecar.state import (
    Apply,
    Changed,
    Done,
    Exit,
    NotModified,
    Poll,
    Published,
    Sleep,
)
from simulated_sidecar import AWAY, EMPTY_TREE, NOTHING, SEEDED, SimulatedSidecar, deploy


def test_once_exits_with_0_when_the_deploy_is_live() -> None:
    sidecar = SimulatedSidecar(once=True)
    assert sidecar.start() == Poll("", 0)
    assert sidecar.handle(Changed(deploy(3))) == Apply(deploy(3), How.WHOLE)
    assert sidecar.handle(Published(deploy(3), ())) == Exit(0)


def test_once_exits_with_0_when_the_newest_is_live_already() -> None:
    sidecar = SimulatedSidecar(once=True)
    sidecar.start(deploy(3))
    assert sidecar.handle(NotModified()) == Exit(0)


@pytest.mark.parametrize(("when_empty", "tree"), [(WhenEmpty.SEED, SEEDED), (WhenEmpty.EMPTY, EMPTY_TREE)])
def test_once_exits_with_0_with_a_seed_when_nothing_is_deployed(when_empty, tree) -> None:
    sidecar = SimulatedSidecar(once=True, when_empty=when_empty)
    sidecar.start()
    sidecar.handle(Changed(NOTHING))
    assert sidecar.handle(Published(tree, ())) == Exit(0)


def test_once_waits_for_the_first_deploy_until_the_timeout_and_fails() -> None:
    sidecar = SimulatedSidecar(once=True, deadline=12.0)
    assert sidecar.start() == Poll("", 0)
    pauses = []
    while isinstance(action := sidecar.handle(Changed(NOTHING)), Sleep):
        pauses.append(action.seconds)
        assert sidecar.handle(Done(), after=action.seconds) == Poll("", 0)
    assert pauses == [5, 5, 2]
    assert action == Exit(AwaitingFirstDeploy.exit_code)
    assert isinstance(sidecar.state.error, AwaitingFirstDeploy)


def test_once_applies_the_first_deploy_it_waited_for() -> None:
    sidecar = SimulatedSidecar(once=True)
    sidecar.start()
    sidecar.handle(Changed(NOTHING))
    sidecar.handle(Done(), after=5)
    assert sidecar.handle(Changed(deploy(1))) == Apply(deploy(1), How.WHOLE)
    assert sidecar.handle(Published(deploy(1), ())) == Exit(0)


@pytest.mark.parametrize("error", [AwaitingFirstDeploy("the seed has no files"), VolumeFailed("unreadable")])
def test_once_asks_again_before_it_tries_a_seed_again(error) -> None:
    sidecar = SimulatedSidecar(once=True, when_empty=WhenEmpty.SEED)
    sidecar.start()
    pause = sidecar.fail(sidecar.handle(Changed(NOTHING)), error)
    assert isinstance(pause, Sleep)
    assert sidecar.handle(Done(), after=pause.seconds) == Poll("", 0)
    assert sidecar.handle(Changed(deploy(1))) == Apply(deploy(1), How.WHOLE)
    assert sidecar.handle(Published(deploy(1), ())) == Exit(0)


def test_once_takes_a_newer_deploy_after_one_that_cannot_be_applied() -> None:
    sidecar = SimulatedSidecar(once=True)
    sidecar.start()
    pause = sidecar.fail(sidecar.handle(Changed(deploy(1))), VolumeFailed("full"))
    assert isinstance(pause, Sleep)
    assert sidecar.handle(Done(), after=pause.seconds) == Poll("", 0)
    assert sidecar.handle(Changed(deploy(2))) == Apply(deploy(2), How.WHOLE)


def test_once_exits_with_0_with_a_warning_when_the_server_is_unreachable_and_an_intact_tree_is_there() -> None:
    sidecar = SimulatedSidecar(once=True)
    sidecar.start(deploy(3))
    assert sidecar.handle(AWAY) == Exit(0)
    assert sidecar.state.warning == "away. The live tree stays."


def test_no_request_takes_longer_than_once_may_take() -> None:
    sidecar = SimulatedSidecar(once=True, deadline=3.0)
    sidecar.start()
    assert request_timeout(sidecar.state, 0.5) == 2.5
    assert request_timeout(sidecar.state, 99) == MIN_REQUEST_SECONDS, "one attempt is made in any case"


@pytest.mark.parametrize("offered", [deploy(2), NOTHING, NOTHING._replace(log_id="new")])
def test_once_exits_with_0_when_what_the_server_offers_is_not_to_be_applied(offered) -> None:
    sidecar = SimulatedSidecar(once=True)
    sidecar.start(deploy(3))
    assert sidecar.handle(Changed(offered)) == Exit(0)
    assert sidecar.state.error or sidecar.state.warning


def test_once_polls_although_it_had_to_repair_the_tree_first() -> None:
    sidecar = SimulatedSidecar(once=True)
    assert sidecar.start(deploy(3), Condition.UNEXPECTED) == Apply(deploy(3), How.SAME)
    assert sidecar.handle(Published(deploy(3), ())) == Poll("v-3", 0)


@pytest.mark.parametrize(
    ("live", "damage"), [(None, Condition.INTACT), (deploy(3), Condition.CORRUPT), (None, Condition.CORRUPT)]
)
def test_once_without_an_intact_tree_tries_until_the_timeout_and_ends_with_the_error(live, damage) -> None:
    sidecar = SimulatedSidecar(once=True, deadline=100.0)
    assert sidecar.start(live, damage) == Poll("", 0)
    while isinstance(action := sidecar.handle(AWAY), Sleep):
        assert sidecar.handle(Done(), after=action.seconds) == Poll("", 0)
    assert action == Exit(ServerUnreachable.exit_code)
    assert sidecar.now == 100.0


def test_once_tries_a_deploy_that_fails_until_the_timeout_and_ends_with_its_error() -> None:
    sidecar = SimulatedSidecar(once=True, deadline=100.0)
    sidecar.start(deploy(3))
    action = sidecar.handle(Changed(deploy(4)))
    while not isinstance(action, Exit):
        action = sidecar.fail(action, VolumeFailed("full"))
        if isinstance(action, Sleep):
            action = sidecar.handle(Done(), after=action.seconds)
    assert action == Exit(VolumeFailed.exit_code)
    assert sidecar.now == 100.0


def test_once_with_a_corrupt_tree_that_the_server_cannot_repair_ends_with_an_error() -> None:
    sidecar = SimulatedSidecar(once=True, deadline=10.0)
    sidecar.start(deploy(3), Condition.CORRUPT)
    action = sidecar.handle(Changed(NOTHING._replace(log_id="new")))
    while isinstance(action, Sleep):
        sidecar.handle(Done(), after=action.seconds)
        action = sidecar.handle(Changed(NOTHING._replace(log_id="new")))
    assert action == Exit(TreeDamaged.exit_code)
