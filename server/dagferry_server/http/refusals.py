"""The last deploys that were refused, in memory: what people look for right after a deploy did not go through.

They are lost when the server restarts, and each of several servers has its own. The log has all of them.
"""

import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from dagferry_core.errors import DagferryError

MAX_REFUSALS = 50
"""How many are kept of each deployment; with its text, each takes up to 5 kB."""
MAX_MESSAGE_CHARACTERS = 2000


class Refusal(NamedTuple):
    """A deploy that was refused: when (seconds since the epoch), whose it was, and why."""

    time: int
    actor: str
    code: str
    message: str
    hint: str


class Refusals:
    """The refusals since the server started, which is ``since``, in seconds since the epoch."""

    def __init__(self) -> None:
        self.since = int(time.time())
        self._kept: dict[str, deque[Refusal]] = {}

    def add(self, deployment: str, actor: str, error: DagferryError, now: float) -> None:
        """Keep a refusal; the oldest one goes if there are too many."""
        texts = (text[:MAX_MESSAGE_CHARACTERS] for text in (error.message, error.hint))
        kept = self._kept.setdefault(deployment, deque(maxlen=MAX_REFUSALS))
        kept.appendleft(Refusal(int(now), actor, error.code, *texts))

    def forget(self, deployment: str) -> None:
        """Forget those of a deployment that was deleted: another one of the same name may be of others."""
        self._kept.pop(deployment, None)

    def of(self, deployment: str) -> Sequence[Refusal]:
        """Return those of a deployment, newest first."""
        return tuple(self._kept.get(deployment, ()))
