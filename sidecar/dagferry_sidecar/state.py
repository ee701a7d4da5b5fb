"""The types that ``decide`` works with: state, events and actions. Times are on one monotonic clock."""

from collections.abc import Mapping
from typing import NamedTuple

from dagferry_core.errors import DagferryError
from dagferry_follow.choose import Condition, How, WhenEmpty
from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import AwaitingFirstDeploy
from dagferry_follow.pauses import Repairs
from dagferry_follow.witness import Stated


class Rules(NamedTuple):
    """The settings that ``decide`` needs, in seconds; ``deadline``, for ``once``, is on the clock of the events."""

    once: bool
    poll_wait: int
    poll_interval: float
    deadline: float
    when_empty: WhenEmpty = WhenEmpty.WAIT


class State(NamedTuple):
    """All that is known. Times are on the clock of the events, which never runs backwards."""

    rules: Rules
    live: DeployRef | None = None
    condition: Condition = Condition.INTACT
    """Of the published tree."""
    repairs: Repairs = Repairs()
    seen: str = ""
    """The version last seen, refused ones included: the server is to answer when it has another."""
    warning: str = ""
    behind_since: float | None = None
    """Since when the server that answers lacks the live deploy, which other servers may have."""

    # Applying deploys
    pending: DeployRef | None = None
    """A deploy that could not be applied; it is tried again, but not before ``retry_at``."""
    pending_whole: bool = False
    """Whether a patch to ``pending`` was tried and failed."""
    apply_failures: int = 0
    retry_at: float = 0.0
    deploy_error: DagferryError | None = None
    touches: tuple[tuple[float, tuple[str, ...]], ...] = ()
    """When to touch which files again."""
    checked_at: float = 0.0
    """When the tree was last checked although the server had no news, or did not answer."""

    # Polling
    reached: bool = False
    """Whether the server has answered since it was last unreachable: only then is it asked to wait."""
    poll_at: float = 0.0
    polled_at: float = 0.0
    waiting: int = 0
    """The seconds the server was asked to wait."""
    was_early: bool = False
    """Whether the last wait ended before its time, though there was no news."""
    contact_error: DagferryError | None = None
    poll_failures: int = 0
    slow_failures: int = 0
    """How many of the ``poll_failures`` were followed by a pause that grows."""
    unreachable_since: float = 0.0
    failed_waits: int = 0
    interrupted_waits: int = 0
    interrupted_after: float = 0.0
    """After how many seconds the last wait was interrupted; 0: it was not."""
    interrupted_wait: int = 0
    """How many seconds that wait was to take."""
    wait_limit: int = 0
    """The longest wait that is asked for until ``wait_limit_until``."""
    wait_limit_until: float = 0.0
    no_waits_until: float = 0.0

    @property
    def error(self) -> DagferryError | None:
        """What keeps the sidecar from being at the newest deploy, if anything does."""
        if self.contact_error and isinstance(self.deploy_error, AwaitingFirstDeploy):
            return self.contact_error  # there may be a deploy by now
        return self.deploy_error or self.contact_error


# --- events ----------------------------------------------------------------------------------------------------------


class Started(NamedTuple):
    """The state of the volume; ``ages`` are the seconds since the mtimes of files that a recent swap made fresh."""

    live: DeployRef | None
    condition: Condition
    text: str
    ages: Mapping[str, float]


class Changed(NamedTuple):
    """The server's newest deploy is another one than the version last seen; sequence 0: nothing is deployed.

    ``stated`` is what the server says of its entry of the live deploy.
    """

    deploy: DeployRef
    stated: Stated | None = None


class NotModified(NamedTuple):
    """The server's newest deploy still is the version last seen; ``stated`` as in ``Changed``."""

    stated: Stated | None = None


class PollFailed(NamedTuple):
    """The server could not be asked."""

    error: DagferryError


class Published(NamedTuple):
    """A deploy went live; ``fresh`` are the paths of its new inodes if there was a tree before it."""

    deploy: DeployRef
    fresh: tuple[str, ...]


class ApplyFailed(NamedTuple):
    """A deploy could not be applied; the tree stays what it was."""

    action: "Apply"
    error: DagferryError


class Checked(NamedTuple):
    """The live tree was checked, without reading contents."""

    condition: Condition
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
    """Get a deploy and publish it."""

    deploy: DeployRef
    how: How


class Check(NamedTuple):
    """Check the live tree, without reading contents."""


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
