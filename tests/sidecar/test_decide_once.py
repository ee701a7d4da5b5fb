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
from player import AWAY, EMPTY_TREE, NOTHING, SEEDED, Player, deploy


def test_once_exits_with_0_when_the_deploy_is_live() -> None:
    player = Player(once=True)
    assert player.start() == Poll("", 0)
    assert player.tell(Changed(deploy(3))) == Apply(deploy(3), How.WHOLE)
    assert player.tell(Published(deploy(3), ())) == Exit(0)


def test_once_exits_with_0_when_the_newest_is_live_already() -> None:
    player = Player(once=True)
    player.start(deploy(3))
    assert player.tell(NotModified()) == Exit(0)


@pytest.mark.parametrize(("when_empty", "tree"), [(WhenEmpty.SEED, SEEDED), (WhenEmpty.EMPTY, EMPTY_TREE)])
def test_once_exits_with_0_with_a_seed_when_nothing_is_deployed(when_empty, tree) -> None:
    player = Player(once=True, when_empty=when_empty)
    player.start()
    player.tell(Changed(NOTHING))
    assert player.tell(Published(tree, ())) == Exit(0)


def test_once_waits_for_the_first_deploy_until_the_timeout_and_fails() -> None:
    player = Player(once=True, deadline=12.0)
    assert player.start() == Poll("", 0)
    pauses = []
    while isinstance(action := player.tell(Changed(NOTHING)), Sleep):
        pauses.append(action.seconds)
        assert player.tell(Done(), after=action.seconds) == Poll("", 0)
    assert pauses == [5, 5, 2]
    assert action == Exit(AwaitingFirstDeploy.exit_code)
    assert isinstance(player.state.error, AwaitingFirstDeploy)


def test_once_applies_the_first_deploy_it_waited_for() -> None:
    player = Player(once=True)
    player.start()
    player.tell(Changed(NOTHING))
    player.tell(Done(), after=5)
    assert player.tell(Changed(deploy(1))) == Apply(deploy(1), How.WHOLE)
    assert player.tell(Published(deploy(1), ())) == Exit(0)


def test_once_exits_with_0_with_a_warning_when_the_server_is_unreachable_and_an_intact_tree_is_there() -> None:
    player = Player(once=True)
    player.start(deploy(3))
    assert player.tell(AWAY) == Exit(0)
    assert player.state.warning == "away. The live tree stays."


def test_no_request_takes_longer_than_once_may_take() -> None:
    player = Player(once=True, deadline=3.0)
    player.start()
    assert request_timeout(player.state, 0.5) == 2.5
    assert request_timeout(player.state, 99) == MIN_REQUEST_SECONDS, "one attempt is made in any case"


@pytest.mark.parametrize("offered", [deploy(2), NOTHING, NOTHING._replace(log_id="new")])
def test_once_exits_with_0_when_what_the_server_offers_is_not_to_be_applied(offered) -> None:
    player = Player(once=True)
    player.start(deploy(3))
    assert player.tell(Changed(offered)) == Exit(0)
    assert player.state.error or player.state.warning


def test_once_polls_although_it_had_to_repair_the_tree_first() -> None:
    player = Player(once=True)
    assert player.start(deploy(3), Condition.UNEXPECTED) == Apply(deploy(3), How.SAME)
    assert player.tell(Published(deploy(3), ())) == Poll("v-3", 0)


@pytest.mark.parametrize(
    ("live", "damage"), [(None, Condition.INTACT), (deploy(3), Condition.CORRUPT), (None, Condition.CORRUPT)]
)
def test_once_without_an_intact_tree_tries_until_the_timeout_and_ends_with_the_error(live, damage) -> None:
    player = Player(once=True, deadline=100.0)
    assert player.start(live, damage) == Poll("", 0)
    while isinstance(action := player.tell(AWAY), Sleep):
        assert player.tell(Done(), after=action.seconds) == Poll("", 0)
    assert action == Exit(ServerUnreachable.exit_code)
    assert player.now == 100.0


def test_once_tries_a_deploy_that_fails_until_the_timeout_and_ends_with_its_error() -> None:
    player = Player(once=True, deadline=100.0)
    player.start(deploy(3))
    action = player.tell(Changed(deploy(4)))
    while not isinstance(action, Exit):
        action = player.fail(action, VolumeFailed("full"))
        if isinstance(action, Sleep):
            action = player.tell(Done(), after=action.seconds)
    assert action == Exit(VolumeFailed.exit_code)
    assert player.now == 100.0


def test_once_with_a_corrupt_tree_that_the_server_cannot_repair_ends_with_an_error() -> None:
    player = Player(once=True, deadline=10.0)
    player.start(deploy(3), Condition.CORRUPT)
    action = player.tell(Changed(NOTHING._replace(log_id="new")))
    while isinstance(action, Sleep):
        player.tell(Done(), after=action.seconds)
        action = player.tell(Changed(NOTHING._replace(log_id="new")))
    assert action == Exit(TreeDamaged.exit_code)
