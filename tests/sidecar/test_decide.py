"""What a sidecar does next: each test is a promise of docs/concepts.md, played without sockets, clocks or chance."""

import itertools
import math

import pytest

from dagferry_follow.errors import (
    AnswerInvalid,
    AwaitingFirstDeploy,
    DigestMismatch,
    PatchMismatch,
    RootUnusable,
    SequenceRegressed,
    ServerRefused,
    ServerUnreachable,
    TreeDamaged,
    VolumeFailed,
)
from dagferry_follow.volume.records import DeployRef
from dagferry_sidecar.pace import MAX_BACKOFF_SECONDS, MIN_REQUEST_SECONDS, TOUCH_LATE_SECONDS, timeouts, touch_due
from dagferry_sidecar.state import (
    EMPTY,
    NO_VERSION,
    ODD,
    PATCH,
    SAME,
    SEED,
    SOUND,
    TORN,
    WHOLE,
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
    Touch,
)
from player import AWAY, REFUSED, Player, deploy

NOTHING = DeployRef("log", 0, "", "")
SEEDED = DeployRef("log", 0, "seed", "sha256:seed")
EMPTY_TREE = DeployRef("log", 0, "empty", "sha256:empty")


# --- start -----------------------------------------------------------------------------------------------------------


def test_it_asks_at_once_and_does_not_wait_before_it_has_met_the_server() -> None:
    assert Player().start() == Poll("", 0)
    assert Player().start(deploy(3)) == Poll("v-3", 0)
    assert Player().start(SEEDED) == Poll(NO_VERSION, 0)


def test_then_it_waits_for_a_change() -> None:
    player = Player()
    player.start(deploy(3))
    assert player.tell(NotModified()) == Check()
    assert player.tell(Checked(SOUND, "")) == Poll("v-3", 30)


def test_a_torn_tree_asks_for_the_newest_whatever_it_is() -> None:
    player = Player()
    assert player.start(deploy(3), TORN) == Poll("", 0)
    assert player.tell(Changed(deploy(3))) == Apply(deploy(3), WHOLE)


def test_a_tree_with_odd_things_in_it_is_linked_anew_without_the_server() -> None:
    player = Player()
    assert player.start(deploy(3), ODD) == Apply(deploy(3), SAME)
    assert player.tell(Published(deploy(3), ())) == Poll("v-3", 0)
    assert player.state.error is None


def test_files_made_fresh_right_before_the_start_are_touched_again_in_time() -> None:
    player = Player()
    player.start(deploy(3), ages={"a.py": 4.0, "b.py": 4.5})
    player.tell(NotModified())
    assert player.tell(Checked(SOUND, "")) == Poll("v-3", 6)
    player.tell(NotModified(), after=6)
    assert player.tell(Checked(SOUND, "")) == Touch(("a.py", "b.py"))
    assert player.tell(Done()) == Poll("v-3", 30)


# --- which deploy is taken -------------------------------------------------------------------------------------------


def test_a_newer_deploy_is_taken_as_a_patch() -> None:
    player = Player().follow(deploy(3))
    assert player.tell(Changed(deploy(4))) == Apply(deploy(4), PATCH)
    assert player.tell(Published(deploy(4), ())) == Poll("v-4", 30)
    assert player.state.live == deploy(4)


def test_the_first_deploy_is_taken_whole() -> None:
    player = Player()
    player.start()
    assert player.tell(Changed(deploy(9))) == Apply(deploy(9), WHOLE)


def test_a_deploy_with_the_content_that_is_live_needs_no_download() -> None:
    player = Player().follow(deploy(3, content="same"))
    assert player.tell(Changed(deploy(5, content="same"))) == Apply(deploy(5, content="same"), SAME)


@pytest.mark.parametrize("offered", [deploy(2), NOTHING], ids=["an older one", "none at all"])
def test_a_lower_sequence_of_the_same_log_is_not_taken(offered) -> None:
    player = Player().follow(deploy(3))
    action = player.tell(Changed(offered))
    assert isinstance(action, Sleep)
    assert isinstance(player.state.error, SequenceRegressed)
    assert player.state.live == deploy(3)
    assert player.state.seen == (offered.version or NO_VERSION)


def test_another_content_under_the_same_sequence_is_not_taken() -> None:
    player = Player().follow(deploy(3))
    player.tell(Changed(deploy(3, content="other")))
    assert isinstance(player.state.error, SequenceRegressed)


def test_a_refusal_stays_an_error_until_the_server_says_something_else() -> None:
    player = Player().follow(deploy(3))
    player.tell(Changed(deploy(2)))
    assert player.tell(Done(), after=5) == Poll("v-2", 30)
    player.tell(NotModified(), after=30)
    assert isinstance(player.state.error, SequenceRegressed)
    player.tell(Checked(SOUND, ""))
    player.tell(Changed(deploy(3)), after=1)
    assert player.state.error is None


def test_a_refused_version_is_asked_for_by_name_again_because_its_log_id_may_be_another_now() -> None:
    player = Player().follow(deploy(3))
    player.tell(Changed(deploy(2)))
    assert player.tell(Done(), after=5) == Poll("v-2", 30)
    player.tell(NotModified(), after=30)
    assert player.tell(Checked(SOUND, "")) == Poll("", 0)
    assert isinstance(player.tell(Changed(deploy(2))), Sleep), "and still it makes no hot loop"
    player.tell(Done(), after=5)
    player.tell(NotModified(), after=30)
    player.tell(Checked(SOUND, ""))
    assert player.tell(Changed(deploy(2, log="restored"))) == Apply(deploy(2, log="restored"), PATCH)


def test_another_log_with_deploys_is_followed_with_a_warning_though_its_sequence_is_lower() -> None:
    player = Player().follow(deploy(30))
    assert player.tell(Changed(deploy(2, log="new"))) == Apply(deploy(2, log="new"), PATCH)
    assert "another log id, new" in player.state.warning


def test_another_log_without_deploys_leaves_the_tree_alone_with_a_warning() -> None:
    player = Player().follow(deploy(30))
    action = player.tell(Changed(NOTHING._replace(log_id="new")))
    assert isinstance(action, Sleep)
    assert "no deploys" in player.state.warning
    assert player.state.error is None
    assert player.state.live == deploy(30)


def test_servers_that_take_turns_with_two_logs_do_not_make_a_hot_loop_of_swaps() -> None:
    player = Player().follow(deploy(3))
    player.tell(Changed(deploy(3, log="other")))
    assert player.tell(Published(deploy(3, log="other"), ())) == Sleep(5.0)


# --- nothing deployed ------------------------------------------------------------------------------------------------


def test_as_long_as_nothing_is_deployed_nothing_is_published_and_the_first_deploy_is_taken_at_once() -> None:
    player = Player()
    player.start()
    assert player.tell(Changed(NOTHING)) == Poll(NO_VERSION, 30)
    assert isinstance(player.state.error, AwaitingFirstDeploy)
    player.tell(NotModified(), after=30)
    assert player.tell(Checked(SOUND, "")) == Poll(NO_VERSION, 30)
    assert isinstance(player.state.error, AwaitingFirstDeploy), "that is why the pod is not ready"
    assert player.tell(Changed(deploy(1)), after=3) == Apply(deploy(1), WHOLE)
    player.tell(Published(deploy(1), ()))
    assert player.state.error is None


def test_waiting_for_the_first_deploy_makes_no_hot_loop_where_the_server_does_not_wait() -> None:
    player = Player()
    player.start()
    player.tell(Changed(NOTHING))
    assert player.tell(Changed(NOTHING), after=0.01) == Sleep(pytest.approx(4.99))
    player = Player(wait=0)
    player.start()
    assert player.tell(Changed(NOTHING)) == Sleep(5.0)


def test_while_the_first_deploy_is_awaited_a_server_that_is_away_is_what_is_told() -> None:
    player = Player()
    player.start()
    player.tell(Changed(NOTHING))
    player.tell(AWAY, after=1)
    assert isinstance(player.state.error, ServerUnreachable)
    player.tell(Checked(SOUND, ""))
    player.tell(Done(), after=5)
    player.tell(NotModified())
    assert isinstance(player.state.error, AwaitingFirstDeploy)


@pytest.mark.parametrize("live", [SEEDED, EMPTY_TREE, deploy(3)])
def test_what_is_published_stays_when_another_log_has_nothing(live) -> None:
    player = Player()
    player.start(live)
    player.tell(Changed(NOTHING._replace(log_id="new")))
    assert player.state.live == live
    assert player.state.error is None


def test_a_torn_seed_is_left_alone_if_the_sidecar_has_no_seed_any_more() -> None:
    player = Player()
    player.start(SEEDED, TORN)
    assert not isinstance(player.tell(Changed(NOTHING)), Apply)
    assert isinstance(player.state.error, TreeDamaged)


def test_an_empty_tree_is_published_where_that_is_wanted() -> None:
    player = Player(when_empty=EMPTY)
    player.start()
    assert player.tell(Changed(NOTHING)) == Apply(NOTHING, SEED)
    assert player.tell(Published(EMPTY_TREE, ())) == Poll(NO_VERSION, 30)


def test_the_seed_is_published_only_when_the_server_says_that_nothing_is_deployed() -> None:
    player = Player(when_empty=SEED)
    player.start()
    assert isinstance(player.tell(AWAY), Sleep)
    player.tell(Done(), after=5)
    assert player.tell(Changed(NOTHING)) == Apply(NOTHING, SEED)
    assert player.tell(Published(SEEDED, ())) == Poll(NO_VERSION, 30)


def test_a_published_seed_is_not_published_again() -> None:
    player = Player()
    player.start(SEEDED)
    player.tell(Changed(NOTHING._replace(log_id="new")))
    assert player.state.live == SEEDED
    assert player.state.error is None


def test_the_first_deploy_replaces_the_seed_whole_whatever_its_log() -> None:
    player = Player().follow(EMPTY_TREE._replace(version=NO_VERSION))
    assert player.tell(Changed(deploy(1, log="new"))) == Apply(deploy(1, log="new"), WHOLE)
    assert player.state.warning == ""


def test_a_torn_seed_is_published_again() -> None:
    player = Player(when_empty=SEED)
    player.start(SEEDED, TORN)
    assert player.tell(Changed(NOTHING)) == Apply(NOTHING, SEED)


def test_a_seed_that_cannot_be_read_is_tried_again_later_and_then_done_with() -> None:
    player = Player(when_empty=SEED)
    player.start()
    take = player.tell(Changed(NOTHING))
    assert player.fail(take, VolumeFailed("unreadable")) == Poll(NO_VERSION, 5)
    player.tell(NotModified(), after=5)
    assert player.tell(Checked(SOUND, "")) == Apply(NOTHING, SEED)
    assert player.tell(Published(SEEDED, ())) == Poll(NO_VERSION, 30)
    assert player.state.error is None


def test_a_published_tree_that_cannot_be_checked_is_not_replaced_by_the_seed() -> None:
    player = Player(when_empty=SEED)
    player.start(None, TORN)
    assert isinstance(player.tell(Changed(NOTHING)), Sleep)
    assert isinstance(player.state.error, TreeDamaged)
    assert "cannot be checked" in player.state.warning
    player.tell(Done(), after=5)
    assert player.tell(Changed(deploy(1))) == Apply(deploy(1), WHOLE)


# --- damage ----------------------------------------------------------------------------------------------------------


def test_damage_found_while_idle_is_an_error_until_it_is_healed_by_the_whole_bundle() -> None:
    player = Player().follow(deploy(3))
    player.tell(NotModified(), after=30)
    assert player.tell(Checked(TORN, "a.py")) == Poll("", 0)
    assert isinstance(player.state.error, TreeDamaged)
    assert player.tell(Changed(deploy(3))) == Apply(deploy(3), WHOLE)
    assert player.tell(Published(deploy(3), ("a.py",))) == Poll("v-3", 10)
    assert player.state.error is None


def test_a_torn_tree_is_healed_by_the_newer_deploy_if_there_is_one() -> None:
    player = Player().follow(deploy(3))
    player.tell(NotModified(), after=30)
    player.tell(Checked(TORN, "a.py"))
    assert player.tell(Changed(deploy(4))) == Apply(deploy(4), WHOLE)


def test_if_the_newer_deploy_is_no_good_the_live_one_is_healed() -> None:
    player = Player()
    player.start(deploy(3), TORN)
    take = player.tell(Changed(deploy(4)))
    assert player.fail(take, DigestMismatch("wrong")) == Apply(deploy(3), WHOLE)
    action = player.tell(Published(deploy(3), ()))
    assert action == Poll("v-4", 5)
    assert isinstance(player.state.error, DigestMismatch)
    player.tell(NotModified(), after=5)
    assert player.tell(Checked(SOUND, "")) == Apply(deploy(4), PATCH)


def test_a_torn_tree_is_not_taken_for_sound_because_a_cheap_look_finds_nothing() -> None:
    player = Player()
    player.start(deploy(3), TORN)
    player.tell(AWAY)
    player.tell(Done(), after=5)
    player.tell(NotModified())
    player.tell(Checked(SOUND, ""))
    assert player.state.damage == TORN


def test_odd_things_that_went_by_themselves_are_forgotten() -> None:
    player = Player().follow(deploy(3))
    player.tell(NotModified(), after=30)
    take = player.tell(Checked(ODD, "extra.py"))
    assert take == Apply(deploy(3), SAME)
    player.fail(take, RootUnusable("current is a folder"))
    player.tell(NotModified(), after=1)
    player.tell(Checked(SOUND, ""))
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


def test_odd_things_are_put_right_without_the_server() -> None:
    player = Player().follow(deploy(3))
    player.tell(REFUSED, after=30)
    assert player.tell(Checked(ODD, "current")) == Apply(deploy(3), SAME)
    assert player.tell(Published(deploy(3), ())) == Sleep(5.0)
    assert isinstance(player.state.error, ServerRefused)


def test_torn_files_are_noticed_without_the_server_which_is_not_asked_sooner_for_it() -> None:
    player = Player().follow(deploy(3))
    player.tell(REFUSED, after=30)
    assert player.tell(Checked(TORN, "a.py")) == Sleep(5.0)
    assert player.state.damage == TORN
    assert isinstance(player.state.error, TreeDamaged)
    assert player.tell(Done(), after=5) == Poll("", 0)
    assert player.tell(REFUSED) == Check()
    assert player.tell(Checked(TORN, "a.py")) == Sleep(10.0)
    player.tell(Done(), after=10)
    assert player.tell(Changed(deploy(3))) == Apply(deploy(3), WHOLE)


def test_a_server_that_answers_the_same_again_and_again_does_not_keep_the_tree_from_being_looked_at() -> None:
    player = Player(wait=0)
    player.start(deploy(3))
    assert player.tell(Changed(deploy(3))) == Sleep(5.0)
    player.tell(Done(), after=5)
    assert player.tell(Changed(deploy(3))) == Check()


@pytest.mark.parametrize("damage", [ODD, TORN])
def test_if_somebody_writes_into_the_tree_all_the_time_it_is_built_again_ever_less_often(damage) -> None:
    player = Player(wait=0, interval=1.0)
    built = []
    action = player.start(deploy(3))
    while len(built) < 10:
        if isinstance(action, Apply):
            assert action == Apply(deploy(3), SAME if damage == ODD else WHOLE)
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
    assert pauses == [1, 2, 4, 8, 16, 32, MAX_BACKOFF_SECONDS, 60, 60]


def test_a_pause_between_repairs_holds_up_no_newer_deploy_and_is_over_with_it() -> None:
    player = Player().follow(deploy(3))
    player.tell(NotModified(), after=30)
    player.tell(Checked(ODD, "extra.py"))
    player.tell(Published(deploy(3), ()))
    player.tell(NotModified(), after=3)
    assert isinstance(player.tell(Checked(TORN, "a.py")), Poll)
    assert player.tell(Changed(deploy(3))) == Sleep(2.0), "too early"
    assert player.tell(Changed(deploy(4))) == Apply(deploy(4), WHOLE)
    player.tell(Published(deploy(4), ()))
    player.tell(NotModified(), after=1)
    assert player.tell(Checked(ODD, "extra.py")) == Apply(deploy(4), SAME)


def test_a_tree_that_stayed_whole_for_long_is_built_again_at_once() -> None:
    player = Player().follow(deploy(3))
    for _ in range(5):
        player.tell(NotModified(), after=200)
        assert player.tell(Checked(ODD, "extra.py")) == Apply(deploy(3), SAME)
        player.tell(Published(deploy(3), ()))
    assert player.state.repairs == 1


def test_a_repair_that_fails_while_a_newer_deploy_is_pending_makes_no_hot_loop() -> None:
    player = Player().follow(deploy(3))
    take = player.tell(Changed(deploy(4)))
    player.fail(take, VolumeFailed("full"))
    player.tell(NotModified(), after=5)
    take = player.tell(Checked(ODD, "extra.py"))
    assert take == Apply(deploy(3), SAME)
    assert player.fail(take, VolumeFailed("full")) == Poll("v-4", 10)
    assert player.state.pending == deploy(4)


def test_a_pause_between_repairs_lets_no_refused_deploy_through() -> None:
    player = Player().follow(deploy(3))
    player.tell(NotModified(), after=30)
    player.tell(Checked(ODD, "extra.py"))
    player.tell(Published(deploy(3), ()))
    other = deploy(3, content="other")
    action = player.tell(Changed(other), after=1)
    for _ in range(100):
        assert not isinstance(action, Apply)
        assert isinstance(player.state.error, SequenceRegressed)
        event = Changed(other) if isinstance(action, Poll) else Checked(SOUND, "") if action == Check() else Done()
        action = player.tell(event, after=1)


@pytest.mark.parametrize("answer", [NotModified(), AWAY])
def test_once_starts_a_pod_with_sound_files_though_what_is_odd_beside_them_cannot_be_put_right(answer) -> None:
    player = Player(once=True)
    take = player.start(deploy(3), ODD)
    assert take == Apply(deploy(3), SAME)
    assert isinstance(player.fail(take, VolumeFailed("full")), Poll)
    assert player.tell(answer) == Exit(0)


def test_a_damaged_seed_with_torn_files_is_seeded_again_not_downloaded() -> None:
    player = Player(when_empty=SEED).follow(SEEDED._replace(version=NO_VERSION))
    player.tell(NotModified(), after=30)
    take = player.tell(Checked(ODD, "extra.py"))
    assert player.fail(take, TreeDamaged("a.py")).how == SEED


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [PatchMismatch, DigestMismatch, TreeDamaged, AnswerInvalid])
def test_a_patch_that_does_not_fit_is_followed_at_once_by_the_whole_bundle(error) -> None:
    player = Player().follow(deploy(3))
    take = player.tell(Changed(deploy(4)))
    assert player.fail(take, error("no")) == Apply(deploy(4), WHOLE)


def test_a_broken_download_does_not_cost_the_patch() -> None:
    player = Player().follow(deploy(3))
    take = player.tell(Changed(deploy(4)))
    assert player.fail(take, ServerUnreachable("cut")) == Poll("v-4", 5)
    player.tell(NotModified(), after=5)
    assert player.tell(Checked(SOUND, "")) == Apply(deploy(4), PATCH)


def test_a_deploy_that_keeps_failing_is_tried_with_growing_pauses_up_to_a_limit() -> None:
    player = Player().follow(deploy(3))
    take = player.tell(Changed(deploy(4)))
    take = player.fail(take, DigestMismatch("wrong"))
    pauses = []
    for _ in range(7):
        assert take == Apply(deploy(4), WHOLE)
        player.fail(take, DigestMismatch("wrong"))
        pauses.append(player.state.retry_at - player.now)
        player.tell(NotModified(), after=pauses[-1])
        take = player.tell(Checked(SOUND, ""))
    assert pauses == [5, 10, 20, 40, MAX_BACKOFF_SECONDS, 60, 60]


def test_while_a_deploy_fails_the_server_is_waited_on_so_that_a_newer_one_comes_at_once() -> None:
    player = Player().follow(deploy(3))
    take = player.tell(Changed(deploy(4)))
    assert player.fail(take, VolumeFailed("full")) == Poll("v-4", 5)
    assert player.tell(Changed(deploy(5)), after=1) == Apply(deploy(5), PATCH)
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


def test_a_server_that_refuses_is_asked_less_and_less_often_and_no_tree_changes() -> None:
    player = Player().follow(deploy(3))
    pauses = []
    for number in range(7):
        action = player.tell(REFUSED)
        if number:
            assert action == Check(), "somebody may write into the tree meanwhile, and old trees expire"
            action = player.tell(Checked(SOUND, ""))
        pauses.append(action.seconds)
        assert player.tell(Done(), after=pauses[-1]) == Poll("v-3", 0)
    assert pauses == [5, 10, 20, 40, MAX_BACKOFF_SECONDS, 60, 60]
    assert player.state.live == deploy(3)
    assert isinstance(player.state.error, ServerRefused)
    player.tell(NotModified())
    assert player.state.error is None
    assert player.tell(Checked(SOUND, "")) == Poll("v-3", 30)


def test_what_is_pending_is_not_tried_while_the_server_is_away() -> None:
    player = Player().follow(deploy(3))
    take = player.tell(Changed(deploy(4)))
    player.fail(take, ServerUnreachable("cut"))
    assert isinstance(player.tell(AWAY), Sleep)
    assert player.tell(Done(), after=5) == Poll("v-4", 0)


# --- waiting and polling ---------------------------------------------------------------------------------------------


def test_without_a_wait_it_polls_at_the_interval() -> None:
    player = Player(wait=0)
    player.start(deploy(3))
    player.tell(NotModified(), after=1)
    assert player.tell(Checked(SOUND, "")) == Sleep(4.0)
    assert player.tell(Done(), after=4) == Poll("v-3", 0)


# --- touching again --------------------------------------------------------------------------------------------------


def test_fresh_files_are_touched_again_after_10_and_60_seconds() -> None:
    player = Player().follow(deploy(3))
    player.tell(Changed(deploy(4)))
    assert player.tell(Published(deploy(4), ("a.py",))) == Poll("v-4", 10)
    player.tell(NotModified(), after=10)
    assert player.tell(Checked(SOUND, "")) == Touch(("a.py",))
    assert player.tell(Done()) == Poll("v-4", 30)
    player.tell(NotModified(), after=30)
    assert player.tell(Checked(SOUND, "")) == Poll("v-4", 20)
    player.tell(NotModified(), after=20)
    assert player.tell(Checked(SOUND, "")) == Touch(("a.py",))
    assert player.tell(Done()) == Poll("v-4", 30)


def test_they_are_also_if_another_swap_came_between() -> None:
    player = Player().follow(deploy(3))
    player.tell(Changed(deploy(4)))
    player.tell(Published(deploy(4), ("a.py",)))
    player.tell(Changed(deploy(5)), after=4)
    assert player.tell(Published(deploy(5), ("b.py",))) == Poll("v-5", 6)
    player.tell(NotModified(), after=6)
    assert player.tell(Checked(SOUND, "")) == Touch(("a.py",))
    assert player.tell(Done()) == Poll("v-5", 4)


def test_they_are_also_while_the_server_is_away() -> None:
    player = Player().follow(deploy(3))
    player.tell(Changed(deploy(4)))
    player.tell(Published(deploy(4), ("a.py",)))
    assert player.tell(REFUSED, after=6) == Check()
    player.tell(Checked(SOUND, ""))
    player.tell(Done(), after=1)
    assert player.tell(REFUSED) == Sleep(3.0)
    assert player.tell(Done(), after=3) == Touch(("a.py",))


def test_no_request_takes_so_long_that_a_touch_would_be_late() -> None:
    player = Player().follow(deploy(3))
    assert timeouts(player.state, player.now) == math.inf
    player.tell(Changed(deploy(4)))
    player.tell(Published(deploy(4), ("a.py",)))
    assert timeouts(player.state, player.now) == 10 + TOUCH_LATE_SECONDS
    assert timeouts(player.state, player.now + 15) == TOUCH_LATE_SECONDS
    assert touch_due(player.state, player.now + 9.9)[1] is None
    state, touch = touch_due(player.state, player.now + 10)
    assert touch == Touch(("a.py",))
    assert touch_due(state, player.now + 10)[1] is None


def test_a_swap_that_made_nothing_fresh_is_followed_by_no_touch() -> None:
    player = Player().follow(deploy(3))
    player.tell(Changed(deploy(4)))
    player.tell(Published(deploy(4), ()))
    assert player.state.touches == ()


# --- once ------------------------------------------------------------------------------------------------------------


def test_once_ends_well_when_the_deploy_is_live() -> None:
    player = Player(once=True)
    assert player.start() == Poll("", 0)
    assert player.tell(Changed(deploy(3))) == Apply(deploy(3), WHOLE)
    assert player.tell(Published(deploy(3), ())) == Exit(0)


def test_once_ends_well_when_the_newest_is_live_already() -> None:
    player = Player(once=True)
    player.start(deploy(3))
    assert player.tell(NotModified()) == Exit(0)


@pytest.mark.parametrize(("when_empty", "tree"), [(SEED, SEEDED), (EMPTY, EMPTY_TREE)])
def test_once_ends_well_with_a_seed_when_nothing_is_deployed(when_empty, tree) -> None:
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


def test_once_takes_the_first_deploy_it_waited_for() -> None:
    player = Player(once=True)
    player.start()
    player.tell(Changed(NOTHING))
    player.tell(Done(), after=5)
    assert player.tell(Changed(deploy(1))) == Apply(deploy(1), WHOLE)
    assert player.tell(Published(deploy(1), ())) == Exit(0)


def test_once_ends_well_with_a_warning_when_the_server_is_away_and_a_whole_tree_is_there() -> None:
    player = Player(once=True)
    player.start(deploy(3))
    assert player.tell(AWAY) == Exit(0)
    assert player.state.warning == "away. What is published stays."


def test_no_request_takes_longer_than_once_has_time_for() -> None:
    player = Player(once=True, deadline=3.0)
    player.start()
    assert timeouts(player.state, 0.5) == 2.5
    assert timeouts(player.state, 99) == MIN_REQUEST_SECONDS, "one attempt is made in any case"


@pytest.mark.parametrize("offered", [deploy(2), NOTHING, NOTHING._replace(log_id="new")])
def test_once_ends_well_when_what_the_server_offers_is_not_to_be_taken(offered) -> None:
    player = Player(once=True)
    player.start(deploy(3))
    assert player.tell(Changed(offered)) == Exit(0)
    assert player.state.error or player.state.warning


def test_once_asks_the_server_although_it_had_to_tidy_up_first() -> None:
    player = Player(once=True)
    assert player.start(deploy(3), ODD) == Apply(deploy(3), SAME)
    assert player.tell(Published(deploy(3), ())) == Poll("v-3", 0)


@pytest.mark.parametrize(("live", "damage"), [(None, SOUND), (deploy(3), TORN), (None, TORN)])
def test_once_without_a_whole_tree_tries_until_the_timeout_and_ends_with_the_error(live, damage) -> None:
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


def test_once_with_a_torn_tree_that_the_server_cannot_heal_ends_with_an_error() -> None:
    player = Player(once=True, deadline=10.0)
    player.start(deploy(3), TORN)
    action = player.tell(Changed(NOTHING._replace(log_id="new")))
    while isinstance(action, Sleep):
        player.tell(Done(), after=action.seconds)
        action = player.tell(Changed(NOTHING._replace(log_id="new")))
    assert action == Exit(TreeDamaged.exit_code)


def test_a_patch_that_does_not_come_twice_is_replaced_by_the_whole_bundle() -> None:
    player = Player().follow(deploy(3))
    action = player.tell(Changed(deploy(4)))
    for expected in (PATCH, WHOLE, WHOLE):
        action = player.fail(action, ServerUnreachable("silence"))
        for _ in range(10):
            if isinstance(action, Apply):
                break
            if isinstance(action, Poll):
                action = player.tell(NotModified(), after=action.wait)
            elif isinstance(action, Sleep):
                action = player.tell(Done(), after=action.seconds)
            else:
                action = player.tell(Checked(SOUND, ""))
        assert action == Apply(deploy(4), expected)
    player.tell(Published(deploy(4), ()))
    assert player.tell(Changed(deploy(5))) == Apply(deploy(5), PATCH)
