"""A sidecar whose clock and randomness the test controls: it gets events and returns its next action."""

from collections.abc import Mapping

from dagferry_follow.choose import Condition, WhenEmpty
from dagferry_follow.deploy_ref import DeployRef
from dagferry_follow.errors import ServerRefused, ServerUnreachable
from dagferry_sidecar.decide import decide
from dagferry_sidecar.state import (
    ApplyFailed,
    Checked,
    NotModified,
    Poll,
    PollFailed,
    Rules,
    Started,
    State,
)

AWAY = PollFailed(ServerUnreachable("away"))
REFUSED = PollFailed(ServerRefused("No."))

NOTHING = DeployRef("log", 0, "", "")
SEEDED = DeployRef("log", 0, "seed", "sha256:seed")
EMPTY_TREE = DeployRef("log", 0, "empty", "sha256:empty")


def deploy(sequence: int, log: str = "log", content: str = "") -> DeployRef:
    return DeployRef(log, sequence, f"v-{sequence}", f"sha256:{content or sequence}")


class SimulatedSidecar:
    """The decisions of a sidecar, with a clock and randomness that the test controls."""

    def __init__(
        self,
        *,
        once: bool = False,
        wait: int = 30,
        interval: float = 5.0,
        deadline: float = 300.0,
        when_empty: WhenEmpty = WhenEmpty.WAIT,
    ) -> None:
        self.state = State(Rules(once, wait, interval, deadline, when_empty))
        self.now = 0.0

    def start(
        self,
        live: DeployRef | None = None,
        condition: Condition = Condition.INTACT,
        ages: Mapping[str, float] | None = None,
    ):
        return self.handle(Started(live, condition, "a.py", ages or {}))

    def handle(self, event, after: float = 0.0, jitter: float = 1.0):
        self.now += after
        self.state, action = decide(self.state, event, self.now, jitter)
        return action

    def follow(self, live: DeployRef) -> "SimulatedSidecar":
        """Reach the usual state of a sidecar: at the newest deploy, waiting for the next."""
        self.start(live)
        self.handle(NotModified())
        assert self.handle(Checked(Condition.INTACT, "")) == Poll(live.version, self.state.rules.poll_wait)
        return self

    def fail(self, action, error, jitter: float = 1.0):
        return self.handle(ApplyFailed(action, error), jitter=jitter)
