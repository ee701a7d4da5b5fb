"""When it is time for something: what is due, how long a request may take, and how long a pause lasts. As pure as
``decide``.
"""

import math

from dagferry_sidecar.state import State, Touch

MAX_BACKOFF_SECONDS = 60.0
TOUCH_LATE_SECONDS = 2.0
"""How late a touch may be because a server that was to answer before does not."""
MIN_REQUEST_SECONDS = 1.0
MIN_DOWNLOAD_SECONDS = 5.0
"""With ``--once``, what a question and a download may take though the timeout is over: 0 means to try once."""


def touch_due(state: State, now: float) -> tuple[State, Touch | None]:
    """Return the touch whose time has come, if there is one. It may be done whatever else is under way."""
    for number, (due, paths) in enumerate(state.touches):
        if due <= now:
            return state._replace(touches=state.touches[:number] + state.touches[number + 1 :]), Touch(paths)
    return state, None


def timeouts(state: State, now: float) -> float:
    """Return for how many seconds at most the server may be waited for: something else may be due then."""
    if state.rules.once:
        return max(state.rules.deadline - now, MIN_REQUEST_SECONDS)
    due = min((due for due, _ in state.touches), default=math.inf)
    return max(due - now, 0.0) + TOUCH_LATE_SECONDS


def longest_pause(state: State) -> float:
    """Return the longest pause between two attempts, in seconds."""
    return max(MAX_BACKOFF_SECONDS, state.rules.poll_interval)


def backoff(state: State, failures: int, jitter: float) -> float:
    """Return the pause after so many failures in a row."""
    return min(longest_pause(state), state.rules.poll_interval * 2.0 ** min(failures - 1, 30)) * (0.5 + jitter / 2)
