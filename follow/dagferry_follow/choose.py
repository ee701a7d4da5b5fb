"""Which deploy a follower applies, and how. The sidecar and the DAG bundle both decide by these rules. Pure: no I/O.

- Within one log id a follower never goes to a lower sequence, nor to other content under the same sequence, and not on
  from a deploy whose entry, or one before it, is not what it was.
- Another log id is followed if it has deploys, with a warning; if it has none, the live tree stays.
- As long as nothing is deployed, nothing is published, unless the user wants a seed or an empty tree.
- A corrupt tree is replaced by a whole bundle. An unexpected file is removed by linking the tree again, which needs no
  server; so it does not change which deploy is applied.
"""

from enum import Enum
from typing import NamedTuple

from dagferry_core.errors import DagferryError
from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import (
    AnswerInvalid,
    AwaitingFirstDeploy,
    DigestMismatch,
    LogRewritten,
    PatchMismatch,
    SequenceRegressed,
    TreeDamaged,
)
from dagferry_follow.volume.tree import Damage
from dagferry_follow.witness import Stated, is_another, may_be_behind, rewritten


class Condition(Enum):
    """What was found when the live tree was compared with its manifest."""

    INTACT = "intact"
    UNEXPECTED = "unexpected"
    """All files are as published, but there are others; a new tree of links to the same files repairs that."""
    CORRUPT = "corrupt"
    """Files differ from what was published, or cannot be checked."""


class How(Enum):
    """How a deploy is applied. The values are shown in the log."""

    SAME = "same"
    """By links to the files of the live tree, which has the same content."""
    PATCH = "patch"
    """By a patch with the changes since the live deploy."""
    WHOLE = "whole"
    """By the whole bundle."""
    SEED = "seed"
    """By the files of ``--seed``, or none: nothing is deployed."""

    def __str__(self) -> str:
        """Return the word for the log."""
        return self.value


class WhenEmpty(Enum):
    """What is published as long as nothing is deployed: nothing, the seed, or an empty tree."""

    WAIT = "wait"
    SEED = "seed"
    EMPTY = "empty"

    def __str__(self) -> str:
        """Return the word for settings and the log."""
        return self.value


class Refuse(NamedTuple):
    """The offered deploy is not applied: because of an error, or (``error`` is ``None``) with a warning only.

    ``behind``: the server may lack the live deploy only for a moment, because another server made it.
    """

    error: DagferryError | None
    warning: str = ""
    behind: bool = False


class Nothing(NamedTuple):
    """Nothing to apply: the offered deploy is live, or a seed or an empty tree is published."""


class Apply(NamedTuple):
    """The offered deploy is applied; ``warning`` says what is unusual about it, if anything."""

    how: How
    warning: str = ""


Choice = Refuse | Nothing | Apply


def condition_of(damage: Damage) -> Condition:
    """Return the condition of a tree in which ``damage`` was found."""
    if damage.corrupt:
        return Condition.CORRUPT
    return Condition.UNEXPECTED if damage.unexpected else Condition.INTACT


def choose(
    live: DeployRef | None,
    condition: Condition,
    offered: DeployRef,
    when_empty: WhenEmpty = WhenEmpty.WAIT,
    *,
    whole: bool = False,
    stated: Stated | None = None,
) -> Choice:
    """Return what to do with the deploy that the server offers as its newest; sequence 0: nothing is deployed.

    ``live`` is what is published, in ``condition``. ``live`` is ``None`` if nothing is published or, with a corrupt
    tree, if it is not known what is. ``whole``: a patch to ``offered`` has failed already. ``stated`` is what the
    server says of its entry of ``live``.
    """
    offered = offered.known_as(live)
    if offered.sequence == 0 and (refusal := _refuse_nothing(live, condition, offered, when_empty)):
        return refusal
    is_other_log = _is_other_log(live, offered)
    if live and live.sequence and not is_other_log and (error := rewritten(live, stated) or _regression(live, offered)):
        return Refuse(error, behind=offered.sequence < live.sequence and may_be_behind(live, stated))
    if live and condition is not Condition.CORRUPT and (offered.sequence == 0 or offered == live):
        return Nothing()
    warning = f"The server has another log id, {offered.log_id}, with deploys. They are followed."
    return Apply(how_to_apply(live, condition, offered, whole=whole), warning if is_other_log else "")


def _is_other_log(live: DeployRef | None, offered: DeployRef) -> bool:
    return live is not None and live.sequence > 0 and live.log_id != offered.log_id


def _refuse_nothing(
    live: DeployRef | None, condition: Condition, offered: DeployRef, when_empty: WhenEmpty
) -> Refuse | None:
    """Return why a tree stays as it is, or none is published, although nothing is deployed."""
    waits = when_empty is WhenEmpty.WAIT
    if condition is Condition.CORRUPT and (live is None or (waits and live.sequence == 0)):
        return Refuse(None, "Nothing is deployed, and the published tree cannot be checked or rebuilt. It stays.")
    if _is_other_log(live, offered):
        return Refuse(None, f"The server has another log id, {offered.log_id}, without deploys. The live tree stays.")
    if live is None and waits:
        return Refuse(AwaitingFirstDeploy("Nothing is deployed yet, so nothing is published."))
    return None


def _regression(live: DeployRef, offered: DeployRef) -> LogRewritten | SequenceRegressed | None:
    """Return the error if ``offered`` cannot follow ``live`` in the same log."""
    if offered.sequence < live.sequence:
        return SequenceRegressed(f"The server offers deploy {offered.sequence}, but deploy {live.sequence} is live.")
    if offered.sequence == live.sequence and offered != live:
        if offered.entry_sha256 and live.entry_sha256:
            return is_another(live, offered.entry_sha256)
        return SequenceRegressed(f"The server offers a deploy {offered.sequence} that differs from the live one.")
    return None


def how_to_apply(live: DeployRef | None, condition: Condition, deploy: DeployRef, *, whole: bool = False) -> How:
    """Return how to apply a deploy that is not refused; ``whole``: a patch to it has failed already."""
    if deploy.sequence == 0:
        return How.SEED
    if live is None or condition is Condition.CORRUPT or whole:
        return How.WHOLE
    if live.digest == deploy.digest:
        return How.SAME
    return How.PATCH if live.sequence else How.WHOLE


_WHOLE_HELPS = (PatchMismatch, DigestMismatch, TreeDamaged, AnswerInvalid)


def whole_may_help(how: How, error: DagferryError) -> bool:
    """Return whether to try the whole bundle at once after ``error``: the failed attempt was based on the live tree."""
    return how in {How.PATCH, How.SAME} and isinstance(error, _WHOLE_HELPS)
