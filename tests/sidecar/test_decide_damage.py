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
from player import AWAY, REFUSED, SEEDED, Player, deploy


def test_damage_found_while_idle_is_an_error_until_it_is_repaired_by_the_whole_bundle() -> None:
    player = Player().follow(deploy(3))
    player.tell(NotModified(), after=30)
    assert player.tell(Checked(Condition.CORRUPT, "a.py")) == Poll("", 0)
    assert isinstance(player.state.error, TreeDamaged)
    assert player.tell(Changed(deploy(3))) == Apply(deploy(3), How.WHOLE)
    assert player.tell(Published(deploy(3), ("a.py",))) == Poll("v-3", 10)
    assert player.state.error is None


def test_a_corrupt_tree_is_repaired_by_the_newer_deploy_if_there_is_one() -> None:
    player = Player().follow(deploy(3))
    player.tell(NotModified(), after=30)
    player.tell(Checked(Condition.CORRUPT, "a.py"))
    assert player.tell(Changed(deploy(4))) == Apply(deploy(4), How.WHOLE)


def test_a_corrupt_tree_that_cannot_be_repaired_makes_no_hot_loop() -> None:
    player = Player()
    player.start(deploy(3), Condition.CORRUPT)
    take = player.tell(Changed(deploy(3)))
    assert player.fail(take, VolumeFailed("full")) == Poll("v-3", 5)


def test_if_the_first_deploy_is_no_good_a_corrupt_seed_is_not_downloaded() -> None:
    player = Player()
    player.start(SEEDED, Condition.CORRUPT)
    take = player.tell(Changed(deploy(4)))
    assert player.fail(take, VolumeFailed("full")) == Poll("v-4", 5)


def test_damage_does_not_hide_why_a_deploy_cannot_be_applied() -> None:
    player = Player().follow(deploy(3))
    player.fail(player.tell(Changed(deploy(4))), VolumeFailed("full"))
    player.tell(NotModified(), after=1)
    player.tell(Checked(Condition.UNEXPECTED, "extra.py"))
    assert isinstance(player.state.error, VolumeFailed)


def test_a_repair_waits_also_for_the_end_of_the_pause_after_a_failure() -> None:
    player = Player().follow(deploy(3))
    player.tell(NotModified(), after=30)
    player.tell(Checked(Condition.UNEXPECTED, "extra.py"))
    player.tell(Published(deploy(3), ()))
    player.fail(player.tell(Changed(deploy(4)), after=1), VolumeFailed("full"))
    player.tell(NotModified(), after=1)
    assert isinstance(player.tell(Checked(Condition.CORRUPT, "a.py")), Poll)
    assert not isinstance(player.tell(Changed(deploy(3))), Apply)
    assert not isinstance(player.tell(Done(), after=3), Apply), (
        "the pause between repairs is over, the other one is not"
    )
    assert player.tell(Done(), after=1) == Apply(deploy(3), How.WHOLE)


def test_if_the_newer_deploy_is_no_good_the_live_one_is_repaired() -> None:
    player = Player()
    player.start(deploy(3), Condition.CORRUPT)
    take = player.tell(Changed(deploy(4)))
    assert player.fail(take, DigestMismatch("wrong")) == Apply(deploy(3), How.WHOLE)
    action = player.tell(Published(deploy(3), ()))
    assert action == Poll("v-4", 5)
    assert isinstance(player.state.error, DigestMismatch)
    player.tell(NotModified(), after=5)
    assert player.tell(Checked(Condition.INTACT, "")) == Apply(deploy(4), How.PATCH)


def test_a_corrupt_tree_is_not_considered_intact_because_a_check_without_contents_finds_nothing() -> None:
    player = Player()
    player.start(deploy(3), Condition.CORRUPT)
    player.tell(AWAY)
    player.tell(Done(), after=5)
    player.tell(NotModified())
    player.tell(Checked(Condition.INTACT, ""))
    assert player.state.condition == Condition.CORRUPT


def test_unexpected_files_that_went_away_are_forgotten() -> None:
    player = Player().follow(deploy(3))
    player.tell(NotModified(), after=30)
    take = player.tell(Checked(Condition.UNEXPECTED, "extra.py"))
    assert take == Apply(deploy(3), How.SAME)
    player.fail(take, RootUnusable("current is a folder"))
    player.tell(NotModified(), after=1)
    player.tell(Checked(Condition.INTACT, ""))
    assert player.state.error is None


def test_without_the_server_the_tree_is_looked_at_at_most_once_in_a_poll_interval() -> None:
    player = Player(interval=5.0).follow(deploy(3))
    assert player.tell(REFUSED, after=4.9) == Sleep(5.0)
    assert player.tell(Done(), after=0.2) == Sleep(pytest.approx(4.8))
    player.tell(Done(), after=4.8)
    assert player.tell(REFUSED) == Check()
    once = Player(once=True)
    once.start()
    assert isinstance(once.tell(REFUSED, after=100), Sleep), "--once has no time for that"


def test_unexpected_files_are_removed_without_the_server() -> None:
    player = Player().follow(deploy(3))
    player.tell(REFUSED, after=30)
    assert player.tell(Checked(Condition.UNEXPECTED, "current")) == Apply(deploy(3), How.SAME)
    assert player.tell(Published(deploy(3), ())) == Sleep(5.0)
    assert isinstance(player.state.error, ServerRefused)


def test_corrupt_files_are_noticed_without_the_server_which_is_not_polled_sooner_for_it() -> None:
    player = Player().follow(deploy(3))
    player.tell(REFUSED, after=30)
    assert player.tell(Checked(Condition.CORRUPT, "a.py")) == Sleep(5.0)
    assert player.state.condition == Condition.CORRUPT
    assert isinstance(player.state.error, TreeDamaged)
    assert player.tell(Done(), after=5) == Poll("", 0)
    assert player.tell(REFUSED) == Check()
    assert player.tell(Checked(Condition.CORRUPT, "a.py")) == Sleep(10.0)
    player.tell(Done(), after=10)
    assert player.tell(Changed(deploy(3))) == Apply(deploy(3), How.WHOLE)


def test_a_server_that_answers_the_same_again_and_again_does_not_keep_the_tree_from_being_looked_at() -> None:
    player = Player(wait=0)
    player.start(deploy(3))
    assert player.tell(Changed(deploy(3))) == Sleep(5.0)
    player.tell(Done(), after=5)
    assert player.tell(Changed(deploy(3))) == Check()


@pytest.mark.parametrize("damage", [Condition.UNEXPECTED, Condition.CORRUPT])
def test_if_somebody_writes_into_the_tree_all_the_time_it_is_built_again_ever_less_often(damage) -> None:
    player = Player(wait=0, interval=1.0)
    built = []
    action = player.start(deploy(3))
    while len(built) < 10:
        if isinstance(action, Apply):
            assert action == Apply(deploy(3), How.SAME if damage == Condition.UNEXPECTED else How.WHOLE)
            built.append(player.now)
            action = player.tell(Published(deploy(3), ()))
        elif isinstance(action, Check):
            action = player.tell(Checked(damage, "a.py"))
        elif isinstance(action, Poll):
            action = player.tell(NotModified() if action.seen == "v-3" else Changed(deploy(3)))
        else:
            assert isinstance(action, Sleep)
            action = player.tell(Done(), after=action.seconds)
    pauses = [later - earlier for earlier, later in itertools.pairwise(built)]
    assert pauses == [1, 2, 4, 8, 16, 32, MAX_PAUSE_SECONDS, 60, 60]


def test_a_pause_between_repairs_holds_up_no_newer_deploy_and_is_over_with_it() -> None:
    player = Player().follow(deploy(3))
    player.tell(NotModified(), after=30)
    player.tell(Checked(Condition.UNEXPECTED, "extra.py"))
    player.tell(Published(deploy(3), ()))
    player.tell(NotModified(), after=3)
    assert isinstance(player.tell(Checked(Condition.CORRUPT, "a.py")), Poll)
    assert player.tell(Changed(deploy(3))) == Sleep(2.0), "too early"
    assert player.tell(Changed(deploy(4))) == Apply(deploy(4), How.WHOLE)
    player.tell(Published(deploy(4), ()))
    player.tell(NotModified(), after=1)
    assert player.tell(Checked(Condition.UNEXPECTED, "extra.py")) == Apply(deploy(4), How.SAME)


def test_a_tree_that_stayed_intact_for_long_is_built_again_at_once() -> None:
    player = Player().follow(deploy(3))
    for _ in range(5):
        player.tell(NotModified(), after=200)
        assert player.tell(Checked(Condition.UNEXPECTED, "extra.py")) == Apply(deploy(3), How.SAME)
        player.tell(Published(deploy(3), ()))
    assert player.state.repairs.in_a_row == 1


def test_a_repair_that_fails_while_a_newer_deploy_is_pending_makes_no_hot_loop() -> None:
    player = Player().follow(deploy(3))
    take = player.tell(Changed(deploy(4)))
    player.fail(take, VolumeFailed("full"))
    player.tell(NotModified(), after=5)
    take = player.tell(Checked(Condition.UNEXPECTED, "extra.py"))
    assert take == Apply(deploy(3), How.SAME)
    assert player.fail(take, VolumeFailed("full")) == Poll("v-4", 10)
    assert player.state.pending == deploy(4)


def test_a_pause_between_repairs_lets_no_refused_deploy_through() -> None:
    player = Player().follow(deploy(3))
    player.tell(NotModified(), after=30)
    player.tell(Checked(Condition.UNEXPECTED, "extra.py"))
    player.tell(Published(deploy(3), ()))
    other = deploy(3, content="other")
    action = player.tell(Changed(other), after=1)
    for _ in range(100):
        assert not isinstance(action, Apply)
        assert isinstance(player.state.error, SequenceRegressed)
        event = (
            Changed(other)
            if isinstance(action, Poll)
            else Checked(Condition.INTACT, "")
            if action == Check()
            else Done()
        )
        action = player.tell(event, after=1)


@pytest.mark.parametrize("answer", [NotModified(), AWAY])
def test_once_starts_a_pod_with_intact_files_though_an_unexpected_one_cannot_be_removed(answer) -> None:
    player = Player(once=True)
    take = player.start(deploy(3), Condition.UNEXPECTED)
    assert take == Apply(deploy(3), How.SAME)
    assert isinstance(player.fail(take, VolumeFailed("full")), Poll)
    assert player.tell(answer) == Exit(0)


def test_a_damaged_seed_with_corrupt_files_is_seeded_again_not_downloaded() -> None:
    player = Player(when_empty=WhenEmpty.SEED).follow(SEEDED._replace(version=NOTHING_TAG))
    player.tell(NotModified(), after=30)
    take = player.tell(Checked(Condition.UNEXPECTED, "extra.py"))
    assert player.fail(take, TreeDamaged("a.py")).how == How.SEED
