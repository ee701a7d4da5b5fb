"""When something is due, and how long a request may take because of it. As pure as ``decide``."""

import math

from dagferry_follow import pauses
from dagferry_sidecar.state import State, Touch

MAX_TOUCH_DELAY_SECONDS = 2.0
"""How late a touch may be because a server that should answer first does not."""
MIN_REQUEST_SECONDS = 1.0
MIN_DOWNLOAD_SECONDS = 5.0
"""With ``--once``, how long a poll and a download may take after the timeout: a timeout of 0 means to try once."""


def touch_due(state: State, now: float) -> tuple[State, Touch | None]:
    """Return the touch whose time has come, if there is one. It may be done whatever else is in progress."""
    for number, (due, paths) in enumerate(state.touches):
        if due <= now:
            return state._replace(touches=state.touches[:number] + state.touches[number + 1 :]), Touch(paths)
    return state, None


def request_timeout(state: State, now: float) -> float:
    """Return for how many seconds at most the server may keep the sidecar waiting: something else may be due then."""
    if state.rules.once:
        return max(state.rules.deadline - now, MIN_REQUEST_SECONDS)
    due = min((due for due, _ in state.touches), default=math.inf)
    return max(due - now, 0.0) + MAX_TOUCH_DELAY_SECONDS


def backoff(state: State, failures: int, jitter: float) -> float:
    """Return the pause after so many failures in a row."""
    return pauses.backoff(failures, state.rules.poll_interval, jitter)
