"""Limits log lines that clients can cause: a number of lines a minute, then one line that counts the rest."""

import asyncio
from collections import Counter
from collections.abc import Callable

WINDOW_SECONDS = 60
MAX_KEYS = 1000
"""How many kinds are distinguished within a window; any further ones are counted together."""

Key = tuple[str, ...]
OTHERS: Key = ("(others)", "")


class LogLimit:
    """At most ``most`` lines of a kind within a window, which begins with the first of them.

    At its end ``summary`` is called with the number of suppressed lines of each kind. Used on the event loop.
    """

    __slots__ = ("_most", "_seen", "_summary", "_timer")

    def __init__(self, most: int, summary: Callable[[dict[Key, int]], None]) -> None:
        self._most = most
        self._summary = summary
        self._seen: Counter[Key] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def allows(self, key: Key) -> bool:
        """Return whether a line of the kind ``key`` is to be logged; else it is counted."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WINDOW_SECONDS, self.flush)
        if key not in self._seen and len(self._seen) >= MAX_KEYS:
            key = OTHERS
        self._seen[key] += 1
        return self._seen[key] <= self._most

    def flush(self) -> None:
        """End the window."""
        if self._timer:
            self._timer.cancel()
        seen, self._seen, self._timer = self._seen, Counter(), None
        self._summary({key: count - self._most for key, count in seen.items() if count > self._most})
