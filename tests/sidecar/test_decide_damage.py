"""What a sidecar does about a damaged tree: it repairs it, ever less often if that happens again and again."""

import itertools

import pytest

from dagferry_core.protocol import NOTHING_TAG
from dagferry_follow.choose import Condition, How, WhenEmpty
from dagferry_follow.defaults import MAX_PAUSE_SECONDS
from dagferry_follow.errors import (
    DigestMismatch,
    RootUnusable,
    SequenceRegressed,
    ServerRefused,
    TreeDamaged,
    VolumeFailed,
)
from dagferry_sidecar.state import (
    Apply,
    Changed,
    Check,
    Checked,
    Done,
    Exit,
    NotModified,
    Poll,
    Published,
    Sleep,
)
from simulated_sidecar import AWAY, REFUSED, SEEDED, SimulatedSidecar, deploy


def test_damage_found_while_idle_is_an_error_until_it_is_repaired_by_the_whole_bundle() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    sidecar.handle(NotModified(), after=30)
    assert sidecar.handle(Checked(Condition.CORRUPT, "a.py")) == Poll("", 0)
    assert isinstance(sidecar.state.error, TreeDamaged)
    assert sidecar.handle(Changed(deploy(3))) == Apply(deploy(3), How.WHOLE)
    assert sidecar.handle(Published(deploy(3), ("a.py",))) == Poll("v-3", 10)
    assert sidecar.state.error is None


def test_a_corrupt_tree_is_repaired_by_the_newer_deploy_if_there_is_one() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    sidecar.handle(NotModified(), after=30)
    sidecar.handle(Checked(Condition.CORRUPT, "a.py"))
    assert sidecar.handle(Changed(deploy(4))) == Apply(deploy(4), How.WHOLE)


def test_a_corrupt_tree_that_cannot_be_repaired_makes_no_hot_loop() -> None:
    sidecar = SimulatedSidecar()
    sidecar.start(deploy(3), Condition.CORRUPT)
    take = sidecar.handle(Changed(deploy(3)))
    assert sidecar.fail(take, VolumeFailed("full")) == Poll("v-3", 5)


def test_if_the_first_deploy_is_no_good_a_corrupt_seed_is_not_downloaded() -> None:
    sidecar = SimulatedSidecar()
    sidecar.start(SEEDED, Condition.CORRUPT)
    take = sidecar.handle(Changed(deploy(4)))
    assert sidecar.fail(take, VolumeFailed("full")) == Poll("v-4", 5)


def test_damage_does_not_hide_why_a_deploy_cannot_be_applied() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    sidecar.fail(sidecar.handle(Changed(deploy(4))), VolumeFailed("full"))
    sidecar.handle(NotModified(), after=1)
    sidecar.handle(Checked(Condition.UNEXPECTED, "extra.py"))
    assert isinstance(sidecar.state.error, VolumeFailed)


def test_a_repair_waits_also_for_the_end_of_the_pause_after_a_failure() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    sidecar.handle(NotModified(), after=30)
    sidecar.handle(Checked(Condition.UNEXPECTED, "extra.py"))
    sidecar.handle(Published(deploy(3), ()))
    sidecar.fail(sidecar.handle(Changed(deploy(4)), after=1), VolumeFailed("full"))
    sidecar.handle(NotModified(), after=1)
    assert isinstance(sidecar.handle(Checked(Condition.CORRUPT, "a.py")), Poll)
    assert not isinstance(sidecar.handle(Changed(deploy(3))), Apply)
    assert not isinstance(sidecar.handle(Done(), after=3), Apply), (
        "the pause between repairs is over, the other one is not"
    )
    assert sidecar.handle(Done(), after=1) == Apply(deploy(3), How.WHOLE)


def test_if_the_newer_deploy_is_no_good_the_live_one_is_repaired() -> None:
    sidecar = SimulatedSidecar()
    sidecar.start(deploy(3), Condition.CORRUPT)
    take = sidecar.handle(Changed(deploy(4)))
    assert sidecar.fail(take, DigestMismatch("wrong")) == Apply(deploy(3), How.WHOLE)
    action = sidecar.handle(Published(deploy(3), ()))
    assert action == Poll("v-4", 5)
    assert isinstance(sidecar.state.error, DigestMismatch)
    sidecar.handle(NotModified(), after=5)
    assert sidecar.handle(Checked(Condition.INTACT, "")) == Apply(deploy(4), How.PATCH)


def test_a_corrupt_tree_is_not_considered_intact_because_a_check_without_contents_finds_nothing() -> None:
    sidecar = SimulatedSidecar()
    sidecar.start(deploy(3), Condition.CORRUPT)
    sidecar.handle(AWAY)
    sidecar.handle(Done(), after=5)
    sidecar.handle(NotModified())
    sidecar.handle(Checked(Condition.INTACT, ""))
    assert sidecar.state.condition == Condition.CORRUPT


def test_unexpected_files_that_went_away_are_forgotten() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    sidecar.handle(NotModified(), after=30)
    take = sidecar.handle(Checked(Condition.UNEXPECTED, "extra.py"))
    assert take == Apply(deploy(3), How.SAME)
    sidecar.fail(take, RootUnusable("current is a folder"))
    sidecar.handle(NotModified(), after=1)
    sidecar.handle(Checked(Condition.INTACT, ""))
    assert sidecar.state.error is None


def test_without_the_server_the_tree_is_looked_at_at_most_once_in_a_poll_interval() -> None:
    sidecar = SimulatedSidecar(interval=5.0).follow(deploy(3))
    assert sidecar.handle(REFUSED, after=4.9) == Sleep(5.0)
    assert sidecar.handle(Done(), after=0.2) == Sleep(pytest.approx(4.8))
    sidecar.handle(Done(), after=4.8)
    assert sidecar.handle(REFUSED) == Check()
    once = SimulatedSidecar(once=True)
    once.start()
    assert isinstance(once.handle(REFUSED, after=100), Sleep), "--once has no time for that"


def test_unexpected_files_are_removed_without_the_server() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    sidecar.handle(REFUSED, after=30)
    assert sidecar.handle(Checked(Condition.UNEXPECTED, "current")) == Apply(deploy(3), How.SAME)
    assert sidecar.handle(Published(deploy(3), ())) == Sleep(5.0)
    assert isinstance(sidecar.state.error, ServerRefused)


def test_corrupt_files_are_noticed_without_the_server_which_is_not_polled_sooner_for_it() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    sidecar.handle(REFUSED, after=30)
    assert sidecar.handle(Checked(Condition.CORRUPT, "a.py")) == Sleep(5.0)
    assert sidecar.state.condition == Condition.CORRUPT
    assert isinstance(sidecar.state.error, TreeDamaged)
    assert sidecar.handle(Done(), after=5) == Poll("", 0)
    assert sidecar.handle(REFUSED) == Check()
    assert sidecar.handle(Checked(Condition.CORRUPT, "a.py")) == Sleep(10.0)
    sidecar.handle(Done(), after=10)
    assert sidecar.handle(Changed(deploy(3))) == Apply(deploy(3), How.WHOLE)


def test_a_server_that_answers_the_same_again_and_again_does_not_keep_the_tree_from_being_looked_at() -> None:
    sidecar = SimulatedSidecar(wait=0)
    sidecar.start(deploy(3))
    assert sidecar.handle(Changed(deploy(3))) == Sleep(5.0)
    sidecar.handle(Done(), after=5)
    assert sidecar.handle(Changed(deploy(3))) == Check()


@pytest.mark.parametrize("damage", [Condition.UNEXPECTED, Condition.CORRUPT])
def test_if_somebody_writes_into_the_tree_all_the_time_it_is_built_again_ever_less_often(damage) -> None:
    sidecar = SimulatedSidecar(wait=0, interval=1.0)
    built = []
    action = sidecar.start(deploy(3))
    while len(built) < 10:
        if isinstance(action, Apply):
            assert action == Apply(deploy(3), How.SAME if damage == Condition.UNEXPECTED else How.WHOLE)
            built.append(sidecar.now)
            action = sidecar.handle(Published(deploy(3), ()))
        elif isinstance(action, Check):
            action = sidecar.handle(Checked(damage, "a.py"))
        elif isinstance(action, Poll):
            action = sidecar.handle(NotModified() if action.seen == "v-3" else Changed(deploy(3)))
        else:
            assert isinstance(action, Sleep)
            action = sidecar.handle(Done(), after=action.seconds)
    pauses = [later - earlier for earlier, later in itertools.pairwise(built)]
    assert pauses == [1, 2, 4, 8, 16, 32, MAX_PAUSE_SECONDS, 60, 60]


def test_a_pause_between_repairs_holds_up_no_newer_deploy_and_is_over_with_it() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    sidecar.handle(NotModified(), after=30)
    sidecar.handle(Checked(Condition.UNEXPECTED, "extra.py"))
    sidecar.handle(Published(deploy(3), ()))
    sidecar.handle(NotModified(), after=3)
    assert isinstance(sidecar.handle(Checked(Condition.CORRUPT, "a.py")), Poll)
    assert sidecar.handle(Changed(deploy(3))) == Sleep(2.0), "too early"
    assert sidecar.handle(Changed(deploy(4))) == Apply(deploy(4), How.WHOLE)
    sidecar.handle(Published(deploy(4), ()))
    sidecar.handle(NotModified(), after=1)
    assert sidecar.handle(Checked(Condition.UNEXPECTED, "extra.py")) == Apply(deploy(4), How.SAME)


def test_a_tree_that_stayed_intact_for_long_is_built_again_at_once() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    for _ in range(5):
        sidecar.handle(NotModified(), after=200)
        assert sidecar.handle(Checked(Condition.UNEXPECTED, "extra.py")) == Apply(deploy(3), How.SAME)
        sidecar.handle(Published(deploy(3), ()))
    assert sidecar.state.repairs.in_a_row == 1


def test_a_repair_that_fails_while_a_newer_deploy_is_pending_makes_no_hot_loop() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    take = sidecar.handle(Changed(deploy(4)))
    sidecar.fail(take, VolumeFailed("full"))
    sidecar.handle(NotModified(), after=5)
    take = sidecar.handle(Checked(Condition.UNEXPECTED, "extra.py"))
    assert take == Apply(deploy(3), How.SAME)
    assert sidecar.fail(take, VolumeFailed("full")) == Poll("v-4", 10)
    assert sidecar.state.pending == deploy(4)


def test_a_pause_between_repairs_lets_no_refused_deploy_through() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    sidecar.handle(NotModified(), after=30)
    sidecar.handle(Checked(Condition.UNEXPECTED, "extra.py"))
    sidecar.handle(Published(deploy(3), ()))
    other = deploy(3, content="other")
    action = sidecar.handle(Changed(other), after=1)
    for _ in range(100):
        assert not isinstance(action, Apply)
        assert isinstance(sidecar.state.error, SequenceRegressed)
        event = (
            Changed(other)
            if isinstance(action, Poll)
            else Checked(Condition.INTACT, "")
            if action == Check()
            else Done()
        )
        action = sidecar.handle(event, after=1)


@pytest.mark.parametrize("answer", [NotModified(), AWAY])
def test_once_starts_a_pod_with_intact_files_though_an_unexpected_one_cannot_be_removed(answer) -> None:
    sidecar = SimulatedSidecar(once=True)
    take = sidecar.start(deploy(3), Condition.UNEXPECTED)
    assert take == Apply(deploy(3), How.SAME)
    assert isinstance(sidecar.fail(take, VolumeFailed("full")), Poll)
    assert sidecar.handle(answer) == Exit(0)


def test_a_damaged_seed_with_corrupt_files_is_seeded_again_not_downloaded() -> None:
    sidecar = SimulatedSidecar(when_empty=WhenEmpty.SEED).follow(SEEDED._replace(version=NOTHING_TAG))
    sidecar.handle(NotModified(), after=30)
    take = sidecar.handle(Checked(Condition.UNEXPECTED, "extra.py"))
    assert sidecar.fail(take, TreeDamaged("a.py")).how == How.SEED
