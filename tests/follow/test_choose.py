"""Which deploy is applied, and how: every combination of what is live, its condition, and what the server offers."""

import itertools
from typing import NamedTuple

import pytest

from dagferry_follow.choose import (
    Apply,
    Condition,
    How,
    Nothing,
    Refuse,
    WhenEmpty,
    choose,
    condition_of,
    how_to_apply,
    whole_may_help,
)
from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import (
    AnswerInvalid,
    AwaitingFirstDeploy,
    DigestMismatch,
    PatchMismatch,
    SequenceRegressed,
    ServerUnreachable,
    TreeDamaged,
    VolumeFailed,
)
from dagferry_follow.volume.tree import Damage

INTACT, UNEXPECTED, CORRUPT = Condition
WAIT, SEED, EMPTY = WhenEmpty
NOTHING_LIVE = None
SEEDED = DeployRef("log", 0, "seed", "sha256:seed")
LIVE = DeployRef("log", 5, "v-5", "sha256:5")

OFFERED = {
    "nothing": DeployRef("log", 0, "", ""),
    "older": DeployRef("log", 4, "v-4", "sha256:4"),
    "the same": LIVE,
    "same sequence, other content": DeployRef("log", 5, "v-5", "sha256:other"),
    "same sequence, other version": DeployRef("log", 5, "v-other", "sha256:5"),
    "newer": DeployRef("log", 6, "v-6", "sha256:6"),
    "newer, same content": DeployRef("log", 6, "v-6", "sha256:5"),
    "other log, nothing": DeployRef("other", 0, "", ""),
    "other log, older": DeployRef("other", 4, "v-4", "sha256:4"),
    "other log, same sequence and content": DeployRef("other", 5, "v-5", "sha256:5"),
    "other log, newer": DeployRef("other", 6, "v-6", "sha256:6"),
}


class Expected(NamedTuple):
    """What ``choose`` returns, in short."""

    kind: type
    detail: object = None
    """The error of a refusal, or how the deploy is applied."""
    warning: str = ""
    """A part of the warning."""


WAITS = Expected(Refuse, AwaitingFirstDeploy)
REGRESSED = Expected(Refuse, SequenceRegressed)
TREE_STAYS = Expected(Refuse, None, "cannot be checked or rebuilt")
OTHER_LOG_IS_EMPTY = Expected(Refuse, None, "another log id, other, without deploys")
NOTHING = Expected(Nothing)
SEEDS, WHOLE, PATCH, SAME = (Expected(Apply, how) for how in (How.SEED, How.WHOLE, How.PATCH, How.SAME))
FOLLOWED = "another log id, other, with deploys"
OTHER_WHOLE, OTHER_PATCH, OTHER_SAME = (each._replace(warning=FOLLOWED) for each in (WHOLE, PATCH, SAME))

# One line for each offer: with nothing live · with a seed live · with a deploy live.
INTACT_TABLE = {
    "nothing": (WAITS, NOTHING, REGRESSED),
    "older": (WHOLE, WHOLE, REGRESSED),
    "the same": (WHOLE, WHOLE, NOTHING),
    "same sequence, other content": (WHOLE, WHOLE, REGRESSED),
    "same sequence, other version": (WHOLE, WHOLE, REGRESSED),
    "newer": (WHOLE, WHOLE, PATCH),
    "newer, same content": (WHOLE, WHOLE, SAME),
    "other log, nothing": (WAITS, NOTHING, OTHER_LOG_IS_EMPTY),
    "other log, older": (WHOLE, WHOLE, OTHER_PATCH),
    "other log, same sequence and content": (WHOLE, WHOLE, OTHER_SAME),
    "other log, newer": (WHOLE, WHOLE, OTHER_PATCH),
}
CORRUPT_TABLE = {
    "nothing": (TREE_STAYS, TREE_STAYS, REGRESSED),
    "older": (WHOLE, WHOLE, REGRESSED),
    "the same": (WHOLE, WHOLE, WHOLE),
    "same sequence, other content": (WHOLE, WHOLE, REGRESSED),
    "same sequence, other version": (WHOLE, WHOLE, REGRESSED),
    "newer": (WHOLE, WHOLE, WHOLE),
    "newer, same content": (WHOLE, WHOLE, WHOLE),
    "other log, nothing": (TREE_STAYS, TREE_STAYS, OTHER_LOG_IS_EMPTY),
    "other log, older": (WHOLE, WHOLE, OTHER_WHOLE),
    "other log, same sequence and content": (WHOLE, WHOLE, OTHER_WHOLE),
    "other log, newer": (WHOLE, WHOLE, OTHER_WHOLE),
}
TABLES = {INTACT: INTACT_TABLE, UNEXPECTED: INTACT_TABLE, CORRUPT: CORRUPT_TABLE}
"""What is unexpected in a tree is put right by links, whatever the server offers: it changes no choice."""

LIVES = (NOTHING_LIVE, SEEDED, LIVE)
SEEDED_ANEW = {
    (condition, live, offer): SEEDS
    for offer in ("nothing", "other log, nothing")
    for condition, live in ((INTACT, NOTHING_LIVE), (UNEXPECTED, NOTHING_LIVE), (CORRUPT, SEEDED))
}
"""What differs from the tables with ``--when-empty seed`` and ``empty``."""


def expected(live: DeployRef | None, condition: Condition, offer: str, when_empty: WhenEmpty) -> Expected:
    usual = TABLES[condition][offer][LIVES.index(live)]
    return usual if when_empty is WAIT else SEEDED_ANEW.get((condition, live, offer), usual)


def test_the_tables_have_every_offer() -> None:
    assert set(INTACT_TABLE) == set(CORRUPT_TABLE) == set(OFFERED)


@pytest.mark.parametrize("when_empty", WhenEmpty)
@pytest.mark.parametrize("offer", OFFERED)
@pytest.mark.parametrize("condition", Condition)
@pytest.mark.parametrize("live", LIVES, ids=["nothing live", "a seed live", "a deploy live"])
def test_every_combination_of_what_is_live_and_what_is_offered(live, condition, offer, when_empty) -> None:
    choice = choose(live, condition, OFFERED[offer], when_empty)
    kind, detail, warning = expected(live, condition, offer, when_empty)
    assert type(choice) is kind
    if isinstance(choice, Refuse):
        assert type(choice.error) is (detail or type(None))
    if isinstance(choice, Apply):
        assert choice.how is detail
    if not isinstance(choice, Nothing):
        assert (warning in choice.warning) if warning else choice.warning == ""


def test_a_refusal_says_which_deploys_it_is_about() -> None:
    older = choose(LIVE, INTACT, OFFERED["older"])
    other = choose(LIVE, INTACT, OFFERED["same sequence, other content"])
    assert str(older.error) == "The server offers deploy 4, but deploy 5 is live."
    assert str(other.error) == "The server offers a deploy 5 that differs from the live one."


@pytest.mark.parametrize("offer", ["newer", "newer, same content", "other log, newer"])
def test_after_a_patch_failed_the_whole_bundle_is_applied(offer) -> None:
    choice = choose(LIVE, INTACT, OFFERED[offer], whole=True)
    assert isinstance(choice, Apply)
    assert choice.how is How.WHOLE
    assert choose(LIVE, INTACT, LIVE, whole=True) == Nothing()
    assert how_to_apply(SEEDED, INTACT, OFFERED["nothing"], whole=True) is How.SEED


def test_the_whole_bundle_helps_only_where_something_smaller_was_wrong() -> None:
    wrong = (PatchMismatch, DigestMismatch, TreeDamaged, AnswerInvalid)
    other = (ServerUnreachable, VolumeFailed)
    for how, error in itertools.product(How, (*wrong, *other)):
        helps = how in {How.PATCH, How.SAME} and error in wrong
        assert whole_may_help(how, error("no")) is helps


@pytest.mark.parametrize(
    ("corrupt", "unexpected", "condition"),
    [([], [], INTACT), ([], ["x.py"], UNEXPECTED), (["a.py"], [], CORRUPT), (["a.py"], ["x.py"], CORRUPT)],
)
def test_a_missing_file_is_worse_than_an_unexpected_one(corrupt, unexpected, condition) -> None:
    assert condition_of(Damage(corrupt, unexpected)) is condition


def test_settings_and_logs_show_the_plain_text() -> None:
    assert [str(how) for how in How] == ["same", "patch", "whole", "seed"]
    assert [f"{when_empty}" for when_empty in WhenEmpty] == ["wait", "seed", "empty"]
