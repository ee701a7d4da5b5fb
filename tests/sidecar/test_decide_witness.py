"""What a sidecar does about a log that was rewritten, cut, or that a server does not know all of yet."""

import pytest

from dagferry_follow.choose import Condition, How
from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import LogRewritten, SequenceRegressed, VolumeFailed
from dagferry_follow.witness import MAX_BEHIND_SECONDS, Stated
from dagferry_sidecar.state import Apply, Changed, Check, Checked, Exit, NotModified, Poll, Published, Sleep
from simulated_sidecar import SimulatedSidecar
from simulated_sidecar import deploy as without_hash


def hash_of(sequence: int, log: str = "") -> str:
    return f"{log}{sequence}".encode().hex().rjust(64, "0")


def deploy(sequence: int, log: str = "") -> DeployRef:
    return without_hash(sequence)._replace(entry_sha256=hash_of(sequence, log))


OURS, THEIRS = Stated(3, hash_of(3)), Stated(3, hash_of(3, "x"))
BEHIND = Stated(2, hash_of(2), shared=True)
CHECKED = Checked(Condition.INTACT, "")


def test_a_newer_deploy_of_the_same_log_is_applied_and_its_hash_is_remembered() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    assert sidecar.handle(Changed(deploy(5), OURS)) == Apply(deploy(5), How.PATCH)
    sidecar.handle(Published(deploy(5), ()))
    assert sidecar.state.live == deploy(5)


def test_a_rewritten_log_is_refused_and_the_live_tree_stays() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    assert isinstance(sidecar.handle(Changed(deploy(5), THEIRS)), Sleep)
    assert isinstance(sidecar.state.error, LogRewritten)
    assert sidecar.state.live == deploy(3)
    assert sidecar.handle(CHECKED, after=5) == Poll("v-5", 30), "and it goes on asking, without a hot loop"


def test_it_is_noticed_also_where_there_is_no_news() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    assert sidecar.handle(NotModified(THEIRS), after=30) == Check()
    assert isinstance(sidecar.state.error, LogRewritten)
    # It asks at once without an ETag: this request reports the error, and its answer has the log id.
    assert sidecar.handle(CHECKED) == Poll("", 0)
    assert isinstance(sidecar.handle(Changed(deploy(3, "x"), THEIRS)), Sleep)
    assert isinstance(sidecar.state.error, LogRewritten)


def test_the_error_ends_when_the_log_is_as_it_was() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    sidecar.handle(NotModified(THEIRS), after=30)
    sidecar.handle(CHECKED)
    sidecar.handle(Changed(deploy(3), OURS))
    assert sidecar.state.error is None


def test_a_rewritten_log_with_a_new_log_id_is_followed_with_a_warning() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    sidecar.handle(NotModified(THEIRS), after=30)
    sidecar.handle(CHECKED)
    restored = deploy(2)._replace(log_id="restored")
    assert sidecar.handle(Changed(restored), after=1) == Apply(restored, How.PATCH)
    assert "another log id" in sidecar.state.warning


@pytest.mark.parametrize("event", [Changed(deploy(4), THEIRS), NotModified(THEIRS)])
def test_a_deploy_that_was_to_be_tried_again_is_not_if_the_log_was_rewritten(event) -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    action = sidecar.handle(Changed(deploy(4), OURS))
    sidecar.fail(action, VolumeFailed("full"))
    assert sidecar.state.pending == deploy(4)
    sidecar.handle(event, after=1)
    assert sidecar.state.pending is None
    assert isinstance(sidecar.state.error, LogRewritten)


def test_an_init_container_starts_with_the_tree_that_is_there_and_says_why() -> None:
    sidecar = SimulatedSidecar(once=True)
    assert sidecar.start(deploy(3)) == Poll("v-3", 0)
    assert sidecar.handle(NotModified(THEIRS)) == Exit(0)
    assert "rewritten" in sidecar.state.warning


def test_a_server_that_is_behind_for_a_moment_causes_no_error_and_no_hot_loop() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    assert sidecar.handle(Changed(deploy(2), BEHIND)) == Sleep(5.0)
    assert sidecar.state.error is None
    assert "may be behind" in sidecar.state.warning
    assert sidecar.handle(CHECKED, after=5) == Poll("v-2", 30), "it is stated as soon as the server has caught up"
    sidecar.handle(Changed(deploy(3), OURS), after=1)
    assert (sidecar.state.error, sidecar.state.behind_since) == (None, None)


def test_a_server_that_stays_behind_is_an_error_after_the_named_time() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    sidecar.handle(Changed(deploy(2), BEHIND))
    sidecar.handle(CHECKED, after=5)
    assert sidecar.handle(NotModified(BEHIND), after=30) == Check()
    assert sidecar.state.error is None
    assert sidecar.handle(CHECKED) == Poll("", 0)
    sidecar.handle(Changed(deploy(2), BEHIND), after=MAX_BEHIND_SECONDS)
    assert isinstance(sidecar.state.error, SequenceRegressed)


def test_every_answer_of_a_server_that_is_not_behind_begins_the_time_anew() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    for _ in range(5):
        sidecar.handle(Changed(deploy(2), BEHIND), after=MAX_BEHIND_SECONDS / 2)
        sidecar.handle(Changed(deploy(3), OURS), after=MAX_BEHIND_SECONDS / 2)
    sidecar.handle(Changed(deploy(2), BEHIND))
    assert sidecar.state.error is None


def test_a_log_that_was_cut_is_an_error_at_once_where_no_other_server_can_have_more() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    sidecar.handle(Changed(deploy(2), BEHIND._replace(shared=False)))
    assert isinstance(sidecar.state.error, SequenceRegressed)


def test_a_log_that_was_cut_and_went_on_is_a_rewritten_one() -> None:
    sidecar = SimulatedSidecar().follow(deploy(3))
    sidecar.handle(Changed(deploy(2), BEHIND))
    sidecar.handle(Changed(deploy(3, "x")._replace(version="v-other"), THEIRS), after=5)
    assert isinstance(sidecar.state.error, LogRewritten)
