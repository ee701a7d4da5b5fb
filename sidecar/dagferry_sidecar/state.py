"""The words that ``decide`` speaks: what is known, what happened, what to do next. Times are on one steady clock."""

from collections.abc import Mapping
from typing import NamedTuple

from dagferry_core.errors import DagferryError
from dagferry_follow.errors import AwaitingFirstDeploy
from dagferry_follow.remote.server import PATCH, WHOLE
from dagferry_follow.volume.records import DeployRef

SAME, SEED = "same", "seed"
HOWS = (WHOLE, PATCH, SAME, SEED)
"""How a deploy is taken: all of it, what changed, only links because the content is the same, or from ``--seed``
(without it: an empty tree)."""

SOUND, ODD, TORN = "", "unexpected", "corrupt"
"""Damage: none; what links can put right; files are not what was published, or cannot be checked."""

WAIT, EMPTY = "wait", "empty"
WHEN_EMPTY = (WAIT, SEED, EMPTY)
"""What ``--when-empty`` may say: as long as nothing is deployed, publish nothing, the seed, or an empty tree."""

NO_VERSION = "none"
"""The ETag of an empty deploy log."""


class Rules(NamedTuple):
    """The settings that decide. Seconds; ``deadline`` on the clock of the events, and meaningful with ``once``."""

    once: bool
    poll_wait: int
    poll_interval: float
    deadline: float
    when_empty: str = WAIT


class State(NamedTuple):
    """All that is known. Times are on the clock of the events, which never runs backwards."""

    rules: Rules
    live: DeployRef | None = None
    damage: str = SOUND
    seen: str = ""
    """The version last seen, refused ones included: the server is to answer when it has another."""
    pending: DeployRef | None = None
    """A deploy that could not be taken and is tried again, not before ``retry_at``."""
    pending_whole: bool = False
    take_failures: int = 0
    retry_at: float = 0.0
    repairs: int = 0
    """How often in a row the live deploy was built again because of damage; the next time not before ``repair_at``."""
    repair_at: float = 0.0
    met: bool = False
    """Whether the server has answered since it was last found away: only then is it asked to wait."""
    ask_failures: int = 0
    ask_at: float = 0.0
    asked_at: float = 0.0
    waiting: int = 0
    """The seconds the server was asked to wait."""
    was_quick: bool = False
    """Whether the last wait ended before its time, though there was nothing new."""
    away_since: float = 0.0
    slow_failures: int = 0
    """How many of the ``ask_failures`` were followed by a pause that grows."""
    failed_waits: int = 0
    cut_waits: int = 0
    cut_after: float = 0.0
    """After how many seconds the last wait was cut, and (``cut_wait``) how long it was to take; 0: it was not."""
    cut_wait: int = 0
    wait_limit: int = 0
    """No longer wait than this is asked for until ``wait_limit_until``."""
    wait_limit_until: float = 0.0
    plain_until: float = 0.0
    looked_at: float = 0.0
    """When the tree was last looked at, though the server had nothing new to say, or nothing at all."""
    touches: tuple[tuple[float, tuple[str, ...]], ...] = ()
    contact_error: DagferryError | None = None
    deploy_error: DagferryError | None = None
    warning: str = ""

    @property
    def error(self) -> DagferryError | None:
        """What keeps the sidecar from being at the newest deploy, if anything does."""
        if self.contact_error and isinstance(self.deploy_error, AwaitingFirstDeploy):
            return self.contact_error  # who knows what is deployed meanwhile
        return self.deploy_error or self.contact_error


# --- events ----------------------------------------------------------------------------------------------------------


class Started(NamedTuple):
    """What the volume holds; ``ages`` are the seconds since the mtimes of files that a recent swap made fresh."""

    live: DeployRef | None
    damage: str
    text: str
    ages: Mapping[str, float]


class Changed(NamedTuple):
    """The server said what its newest deploy is; sequence 0: none."""

    deploy: DeployRef


class NotModified(NamedTuple):
    """The server said that it still is the one last seen."""


class PollFailed(NamedTuple):
    """The server could not be asked."""

    error: DagferryError


class Published(NamedTuple):
    """A deploy went live; ``fresh`` are the paths of its new inodes if there was a tree before it."""

    deploy: DeployRef
    fresh: tuple[str, ...]


class ApplyFailed(NamedTuple):
    """A deploy could not be taken; the tree stays what it was."""

    take: "Apply"
    error: DagferryError


class Checked(NamedTuple):
    """The live tree was looked at."""

    damage: str
    text: str


class Done(NamedTuple):
    """A ``Touch`` or a ``Sleep`` is over."""


Event = Started | Changed | NotModified | PollFailed | Published | ApplyFailed | Checked | Done


# --- actions ---------------------------------------------------------------------------------------------------------


class Poll(NamedTuple):
    """Ask for the newest deploy, and let the server wait for one other than ``seen`` for up to ``wait`` seconds."""

    seen: str
    wait: int


class Apply(NamedTuple):
    """Get a deploy and publish it; ``how`` is one of ``WHOLE``, ``PATCH``, ``SAME``, ``SEED``."""

    deploy: DeployRef
    how: str


class Check(NamedTuple):
    """Look at the live tree, without reading contents."""


class Touch(NamedTuple):
    """Touch these files of the live tree again."""

    paths: tuple[str, ...]


class Sleep(NamedTuple):
    """Do nothing."""

    seconds: float


class Exit(NamedTuple):
    """End with this exit code."""

    code: int


Action = Poll | Apply | Check | Touch | Sleep | Exit
