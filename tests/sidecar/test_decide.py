"""What a sidecar does next: each test is a promise of how-a-swap-works.md, without sockets, clocks or randomness."""

import pytest

from dagferry_core.protocol import NOTHING_TAG
from dagferry_follow.choose import Condition, How, WhenEmpty
from dagferry_follow.errors import (
    AwaitingFirstDeploy,
    SequenceRegressed,
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
    Touch,
)
from simulated_sidecar import AWAY, EMPTY_TREE, NOTHING, SEEDED, SimulatedSidecar, deploy

# --- start -----------------------------------------------------------------------------------------------------------


def test_it_polls_at_once_and_does_not_wait_before_it_has_reached_the_server() -> None:
    assert SimulatedSidecar().start() == Poll("", 0)
    assert SimulatedSidecar().start(deploy(3)) == Poll("v-3", 0)
    assert SimulatedSidecar().start(SEEDED) == Poll(NOTHING_TAG, 0)


def test_then_it_waits_for_a_change() -> None:
    sidecar = SimulatedSidecar()
    sidecar.start(deploy(3))
    assert sidecar.handle(NotModified()) == Check()
    assert sidecar.handle(Checked(Condition.INTACT, "")) == Poll("v-3", 30)


def test_a_corrupt_tree_polls_for_the_newest_whatever_it_is() -> None:
    sidecar = SimulatedSidecar()
    assert sidecar.start(deploy(3), Condition.CORRUPT) == Poll("", 0)
    assert sidecar.handle(Changed(deploy(3))) == Apply(deploy(3), How.WHOLE)


def test_a_tree_with_unexpected_files_is_linked_again_without_the_server() -> None:
    sidecar = SimulatedSidecar()
    assert sidecar.start(deploy(3), Condition.UNEXPECTED) == Apply(deploy(3), How.SAME)
    assert sidecar.handle(Published(deploy(3), ())) == Poll("v-3", 0)
    assert sidecar.state.error is None


def test_files_made_fresh_right_before_the_start_are_touched_again_in_time() -> None:
    sidecar = SimulatedSidecar()
    sidecar.start(deploy(3), ages={"a.py": 4.0, "b.py": 8.0})
    sidecar.handle(NotModified())
    assert sidecar.handle(Checked(Condition.INTACT, "")) == Poll("v-3", 6)
    sidecar.handle(NotModified(), after=6)
    assert sidecar.handle(Checked(Condition.INTACT, "")) == Touch(("a.py", "b.py"))
    assert sidecar.handle(Done()) == Poll("v-3", 30)


def test_the_server_is_asked_to_wait_until_something_is_due_and_never_for_less_than_a_second() -> None:
    sidecar = SimulatedSidecar()
    sidecar.start(deploy(3), ages={"a.py": 9.75})
    sidecar.handle(NotModified())
    assert sidecar.handle(Checked(Condition.INTACT, "")) == Poll("v-3", 1)


# --- which deploy is applied ------------------------------------------------------------------------------------------


def test_a_newer_deploy_is_applied_as_a_patch() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    assert sidecar.handle(Changed(deploy(4))) == Apply(deploy(4), How.PATCH)
    assert sidecar.handle(Published(deploy(4), ())) == Poll("v-4", 30)
    assert sidecar.state.live == deploy(4)


def test_the_first_deploy_is_applied_as_a_whole() -> None:
    sidecar = SimulatedSidecar()
    sidecar.start()
    assert sidecar.handle(Changed(deploy(9))) == Apply(deploy(9), How.WHOLE)


def test_a_deploy_with_the_content_that_is_live_needs_no_download() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3, content="same"))
    assert sidecar.handle(Changed(deploy(5, content="same"))) == Apply(deploy(5, content="same"), How.SAME)


@pytest.mark.parametrize("offered", [deploy(2), NOTHING], ids=["an older one", "none at all"])
def test_a_lower_sequence_of_the_same_log_is_not_applied(offered) -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    action = sidecar.handle(Changed(offered))
    assert isinstance(action, Sleep)
    assert isinstance(sidecar.state.error, SequenceRegressed)
    assert sidecar.state.live == deploy(3)
    assert sidecar.state.seen == (offered.version or NOTHING_TAG)


def test_another_content_under_the_same_sequence_is_not_applied() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    sidecar.handle(Changed(deploy(3, content="other")))
    assert isinstance(sidecar.state.error, SequenceRegressed)


def test_a_refusal_stays_an_error_until_the_server_says_something_else() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    sidecar.handle(Changed(deploy(2)))
    assert sidecar.handle(Done(), after=5) == Poll("v-2", 30)
    sidecar.handle(NotModified(), after=30)
    assert isinstance(sidecar.state.error, SequenceRegressed)
    sidecar.handle(Checked(Condition.INTACT, ""))
    sidecar.handle(Changed(deploy(3)), after=1)
    assert sidecar.state.error is None


def test_a_refused_version_is_polled_without_an_etag_because_its_log_id_may_be_another_now() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    sidecar.handle(Changed(deploy(2)))
    assert sidecar.handle(Done(), after=5) == Poll("v-2", 30)
    sidecar.handle(NotModified(), after=30)
    assert sidecar.handle(Checked(Condition.INTACT, "")) == Poll("", 0)
    assert isinstance(sidecar.handle(Changed(deploy(2))), Sleep), "and still it makes no hot loop"
    sidecar.handle(Done(), after=5)
    sidecar.handle(NotModified(), after=30)
    sidecar.handle(Checked(Condition.INTACT, ""))
    assert sidecar.handle(Changed(deploy(2, log="restored"))) == Apply(deploy(2, log="restored"), How.PATCH)


def test_another_log_with_deploys_is_followed_with_a_warning_though_its_sequence_is_lower() -> None:
    sidecar = SimulatedSidecar().follow(deploy(30))
    assert sidecar.handle(Changed(deploy(2, log="new"))) == Apply(deploy(2, log="new"), How.PATCH)
    assert "another log id, new" in sidecar.state.warning


def test_another_log_without_deploys_does_not_change_the_tree_with_a_warning() -> None:
    sidecar = SimulatedSidecar().follow(deploy(30))
    action = sidecar.handle(Changed(NOTHING._replace(log_id="new")))
    assert isinstance(action, Sleep)
    assert "without deploys" in sidecar.state.warning
    assert sidecar.state.error is None
    assert sidecar.state.live == deploy(30)


def test_servers_that_take_turns_with_two_logs_do_not_make_a_hot_loop_of_swaps() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    sidecar.handle(Changed(deploy(3, log="other")))
    assert sidecar.handle(Published(deploy(3, log="other"), ())) == Sleep(5.0)


# --- nothing deployed ------------------------------------------------------------------------------------------------


def test_as_long_as_nothing_is_deployed_nothing_is_published_and_the_first_deploy_is_applied_at_once() -> None:
    sidecar = SimulatedSidecar()
    sidecar.start()
    assert sidecar.handle(Changed(NOTHING)) == Poll(NOTHING_TAG, 30)
    assert isinstance(sidecar.state.error, AwaitingFirstDeploy)
    sidecar.handle(NotModified(), after=30)
    assert sidecar.handle(Checked(Condition.INTACT, "")) == Poll(NOTHING_TAG, 30)
    assert isinstance(sidecar.state.error, AwaitingFirstDeploy), "that is why the pod is not ready"
    assert sidecar.handle(Changed(deploy(1)), after=3) == Apply(deploy(1), How.WHOLE)
    sidecar.handle(Published(deploy(1), ()))
    assert sidecar.state.error is None


def test_waiting_for_the_first_deploy_makes_no_hot_loop_where_the_server_does_not_wait() -> None:
    sidecar = SimulatedSidecar()
    sidecar.start()
    sidecar.handle(Changed(NOTHING))
    assert sidecar.handle(Changed(NOTHING), after=0.01) == Sleep(pytest.approx(4.99))
    sidecar = SimulatedSidecar(wait=0)
    sidecar.start()
    assert sidecar.handle(Changed(NOTHING)) == Sleep(5.0)


def test_while_the_first_deploy_is_awaited_an_unreachable_server_is_what_is_reported() -> None:
    sidecar = SimulatedSidecar()
    sidecar.start()
    sidecar.handle(Changed(NOTHING))
    sidecar.handle(AWAY, after=1)
    assert isinstance(sidecar.state.error, ServerUnreachable)
    sidecar.handle(Checked(Condition.INTACT, ""))
    sidecar.handle(Done(), after=5)
    sidecar.handle(NotModified())
    assert isinstance(sidecar.state.error, AwaitingFirstDeploy)


@pytest.mark.parametrize("live", [SEEDED, EMPTY_TREE, deploy(3)])
def test_what_is_published_stays_when_another_log_has_nothing(live) -> None:
    sidecar = SimulatedSidecar()
    sidecar.start(live)
    sidecar.handle(Changed(NOTHING._replace(log_id="new")))
    assert sidecar.state.live == live
    assert sidecar.state.error is None


def test_a_corrupt_seed_is_left_alone_if_the_sidecar_has_no_seed_any_more() -> None:
    sidecar = SimulatedSidecar()
    sidecar.start(SEEDED, Condition.CORRUPT)
    assert not isinstance(sidecar.handle(Changed(NOTHING)), Apply)
    assert isinstance(sidecar.state.error, TreeDamaged)


def test_an_empty_tree_is_published_where_that_is_wanted() -> None:
    sidecar = SimulatedSidecar(when_empty=WhenEmpty.EMPTY)
    sidecar.start()
    assert sidecar.handle(Changed(NOTHING)) == Apply(NOTHING, How.SEED)
    assert sidecar.handle(Published(EMPTY_TREE, ())) == Poll(NOTHING_TAG, 30)


def test_the_seed_is_published_only_when_the_server_says_that_nothing_is_deployed() -> None:
    sidecar = SimulatedSidecar(when_empty=WhenEmpty.SEED)
    sidecar.start()
    assert isinstance(sidecar.handle(AWAY), Sleep)
    sidecar.handle(Done(), after=5)
    assert sidecar.handle(Changed(NOTHING)) == Apply(NOTHING, How.SEED)
    assert sidecar.handle(Published(SEEDED, ())) == Poll(NOTHING_TAG, 30)


def test_a_published_seed_is_not_published_again() -> None:
    sidecar = SimulatedSidecar()
    sidecar.start(SEEDED)
    sidecar.handle(Changed(NOTHING._replace(log_id="new")))
    assert sidecar.state.live == SEEDED
    assert sidecar.state.error is None


def test_the_first_deploy_replaces_the_seed_whole_whatever_its_log() -> None:
    sidecar = SimulatedSidecar().follow(EMPTY_TREE._replace(version=NOTHING_TAG))
    assert sidecar.handle(Changed(deploy(1, log="new"))) == Apply(deploy(1, log="new"), How.WHOLE)
    assert sidecar.state.warning == ""


def test_a_corrupt_seed_is_published_again() -> None:
    sidecar = SimulatedSidecar(when_empty=WhenEmpty.SEED)
    sidecar.start(SEEDED, Condition.CORRUPT)
    assert sidecar.handle(Changed(NOTHING)) == Apply(NOTHING, How.SEED)


def test_a_seed_that_cannot_be_read_is_tried_again_later_and_then_published() -> None:
    sidecar = SimulatedSidecar(when_empty=WhenEmpty.SEED)
    sidecar.start()
    take = sidecar.handle(Changed(NOTHING))
    assert sidecar.fail(take, VolumeFailed("unreadable")) == Poll(NOTHING_TAG, 5)
    sidecar.handle(NotModified(), after=5)
    assert sidecar.handle(Checked(Condition.INTACT, "")) == Apply(NOTHING, How.SEED)
    assert sidecar.handle(Published(SEEDED, ())) == Poll(NOTHING_TAG, 30)
    assert sidecar.state.error is None


def test_a_published_tree_that_cannot_be_checked_is_not_replaced_by_the_seed() -> None:
    sidecar = SimulatedSidecar(when_empty=WhenEmpty.SEED)
    sidecar.start(None, Condition.CORRUPT)
    assert isinstance(sidecar.handle(Changed(NOTHING)), Sleep)
    assert isinstance(sidecar.state.error, TreeDamaged)
    assert "cannot be checked" in sidecar.state.warning
    sidecar.handle(Done(), after=5)
    assert sidecar.handle(Changed(deploy(1))) == Apply(deploy(1), How.WHOLE)


# --- waiting and polling ---------------------------------------------------------------------------------------------


def test_the_live_deploy_that_is_offered_at_once_is_followed_by_a_wait_and_again_by_a_pause() -> None:
    """A server that has restarted offers each pod what it has; one that ignores If-None-Match does so for ever."""
    sidecar = SimulatedSidecar()
    assert sidecar.start(deploy(3)) == Poll("v-3", 0)
    assert sidecar.handle(Changed(deploy(3))) == Poll("v-3", 30)
    assert sidecar.handle(Changed(deploy(3)), after=0.01) == Sleep(pytest.approx(4.99))
    sidecar = SimulatedSidecar(wait=0)
    assert sidecar.start(deploy(3)) == Poll("v-3", 0)
    assert sidecar.handle(Changed(deploy(3))) == Sleep(5.0), "plain polls keep their interval"


def test_without_a_wait_it_polls_at_the_interval() -> None:
    sidecar = SimulatedSidecar(wait=0)
    sidecar.start(deploy(3))
    sidecar.handle(NotModified(), after=1)
    assert sidecar.handle(Checked(Condition.INTACT, "")) == Sleep(4.0)
    assert sidecar.handle(Done(), after=4) == Poll("v-3", 0)


def test_a_server_that_answers_early_is_polled_again_soon_if_there_was_news_since_it_last_did() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    for number in (4, 5):
        sidecar.handle(NotModified(), after=0.1)
        assert sidecar.handle(Checked(Condition.INTACT, "")) == Sleep(pytest.approx(0.5))
        assert sidecar.handle(Done(), after=0.5) == Poll(f"v-{number - 1}", 30)
        sidecar.handle(Changed(deploy(number)))
        sidecar.handle(Published(deploy(number), ()))
    sidecar.handle(NotModified(), after=0.1)
    sidecar.handle(Checked(Condition.INTACT, ""))
    sidecar.handle(Done(), after=0.5)
    sidecar.handle(NotModified(), after=0.1)
    assert sidecar.handle(Checked(Condition.INTACT, "")) == Sleep(pytest.approx(4.9)), (
        "without news it is one that does not wait"
    )
