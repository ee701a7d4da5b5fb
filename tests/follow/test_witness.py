"""Whether a server's log is the one that was followed: what it tells about an entry, against what is remembered."""

import pytest

from dagferry_follow.choose import Apply, Condition, How, Nothing, Refuse, choose
from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import AnswerInvalid, LogRewritten, SequenceRegressed
from dagferry_follow.witness import Stated, may_be_behind, read_stated, rewritten

OURS, THEIRS = "a" * 64, "b" * 64
LIVE = DeployRef("log", 5, "v-5", "sha256:5", OURS)
OLD_RECORD = LIVE._replace(entry_sha256="")
NEWER = DeployRef("log", 6, "v-6", "sha256:6", "c" * 64)
OLDER = DeployRef("log", 4, "v-4", "sha256:4", "4" * 64)


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        (None, None),
        (f"5 {OURS}", Stated(5, OURS)),
        (f"4 {OURS} shared", Stated(4, OURS, shared=True)),
        ("0", Stated(0)),
        ("0 shared", Stated(0, shared=True)),
        (f"4 {OURS} later words shared", Stated(4, OURS, shared=True)),
    ],
)
def test_what_a_server_tells_is_read(text, stated) -> None:
    assert read_stated(text) == stated


@pytest.mark.parametrize("text", ["", "x", "-1", f"5 {OURS[1:]}", f"5  {OURS}", f"5 {OURS.upper()}", "1" * 13, "5, 6"])
def test_anything_else_is_an_invalid_answer(text) -> None:
    with pytest.raises(AnswerInvalid, match="its deploy log"):
        read_stated(text)


def test_another_hash_of_the_live_entry_is_a_rewritten_log_and_the_error_names_the_entry() -> None:
    error = rewritten(LIVE, Stated(5, THEIRS))
    assert isinstance(error, LogRewritten)
    assert str(error).startswith("Entry 5 of the deploy log was rewritten, or one before it")
    assert OURS in str(error)
    assert THEIRS in str(error)


@pytest.mark.parametrize(
    ("live", "stated"),
    [
        (LIVE, Stated(5, OURS)),
        (LIVE, None),  # an older server
        (OLD_RECORD, Stated(5, THEIRS)),  # a volume of an older sidecar
        (LIVE, Stated(5)),  # a server that cannot read its entry
        (LIVE, Stated(4, THEIRS)),  # it lacks the entry
        (LIVE, Stated(6, THEIRS)),  # the live tree was another when it was asked
    ],
)
def test_nothing_else_is(live, stated) -> None:
    assert rewritten(live, stated) is None


@pytest.mark.parametrize("offered", [LIVE, NEWER, OLDER, NEWER._replace(digest=LIVE.digest)])
@pytest.mark.parametrize("condition", Condition)
def test_nothing_of_a_rewritten_log_is_applied(offered, condition) -> None:
    choice = choose(LIVE, condition, offered, stated=Stated(5, THEIRS))
    assert isinstance(choice, Refuse)
    assert isinstance(choice.error, LogRewritten)
    assert not choice.behind


def test_the_offer_of_the_live_deploy_with_another_hash_is_refused_though_its_content_is_the_same() -> None:
    choice = choose(LIVE, Condition.INTACT, LIVE._replace(entry_sha256=THEIRS))
    assert isinstance(choice, Refuse)
    assert isinstance(choice.error, LogRewritten)


def test_without_one_of_the_hashes_the_live_deploy_is_the_live_deploy() -> None:
    assert choose(OLD_RECORD, Condition.INTACT, LIVE) == Nothing()
    assert choose(LIVE, Condition.INTACT, OLD_RECORD) == Nothing()
    assert choose(OLD_RECORD, Condition.INTACT, NEWER, stated=Stated(5, THEIRS)) == Apply(How.PATCH)


def test_another_log_id_is_followed_with_a_warning_whatever_its_entries_are() -> None:
    choice = choose(LIVE, Condition.INTACT, NEWER._replace(log_id="restored"), stated=Stated(5, THEIRS))
    assert isinstance(choice, Apply)
    assert "another log id" in choice.warning


def test_a_server_that_shares_its_store_and_lacks_the_live_deploy_may_be_behind() -> None:
    assert may_be_behind(LIVE, Stated(4, THEIRS, shared=True))
    choice = choose(LIVE, Condition.INTACT, OLDER, stated=Stated(4, THEIRS, shared=True))
    assert isinstance(choice, Refuse)
    assert isinstance(choice.error, SequenceRegressed)
    assert choice.behind


@pytest.mark.parametrize("stated", [None, Stated(4, THEIRS), Stated(5, OURS, shared=True)])
def test_no_other_server_may(stated) -> None:
    choice = choose(LIVE, Condition.INTACT, OLDER, stated=stated)
    assert isinstance(choice, Refuse)
    assert isinstance(choice.error, SequenceRegressed)
    assert not choice.behind
