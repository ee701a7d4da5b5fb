"""How long a follower pauses after failures in a row, and between repairs of a tree that is damaged again and again.

Pure: times are seconds on the caller's monotonic clock, and ``jitter`` is the caller's random number from 0 to 1.
"""

from typing import NamedTuple

from dagferry_follow.defaults import MAX_PAUSE_SECONDS

_MAX_DOUBLINGS = 30  # enough for any pause, and no float overflows


def longest_pause(first: float) -> float:
    """Return the longest pause where the first one takes ``first`` seconds."""
    return max(MAX_PAUSE_SECONDS, first)


def backoff(failures: int, first: float, jitter: float) -> float:
    """Return the pause after so many failures in a row: ``first``, doubled each time; ``jitter`` takes up to half."""
    return min(longest_pause(first), first * 2.0 ** min(failures - 1, _MAX_DOUBLINGS)) * (0.5 + jitter / 2)


class Repairs(NamedTuple):
    """How often in a row the live deploy was built again because of damage, and when that may happen next."""

    in_a_row: int = 0
    not_before: float = 0.0

    def after_publish(self, *, repaired: bool, now: float, first: float, jitter: float) -> "Repairs":
        """Return what is known after a tree was published; ``repaired``: of the deploy that was live already.

        A tree that stayed intact for longer than the longest pause starts a new row.
        """
        if not repaired:
            return Repairs()
        in_a_row = 1 if now > self.not_before + longest_pause(first) else self.in_a_row + 1
        return Repairs(in_a_row, now + backoff(in_a_row, first, jitter))
