"""SIGTERM and SIGINT break off the work at hand, which is safe at every step, and never get lost."""

import signal
from types import FrameType


class Stopped(BaseException):
    """A signal to stop came."""


class Stopping:
    """Takes the signals from ``listen`` on, in the main thread.

    The exception that a handler raises is dropped if Python happens to run a finalizer just then. So the loop asks
    with ``check`` before each step, too. Only the first signal counts: the end must not be broken off itself.
    """

    __slots__ = ("came",)

    def __init__(self) -> None:
        self.came = False

    def listen(self) -> None:
        """Raise ``Stopped`` wherever the main thread is when a signal comes."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._come)

    def _come(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - what a handler is given
        if not self.came:
            self.came = True
            raise Stopped

    def check(self) -> None:
        """Raise ``Stopped`` if a signal came."""
        if self.came:
            raise Stopped
