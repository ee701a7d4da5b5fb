"""SIGTERM and SIGINT interrupt the current work, which is safe at every step, and are never lost."""

import signal
from types import FrameType


class Stopped(BaseException):
    """A signal to stop was received."""


class Stopping:
    """Handles the signals in the main thread, from ``listen`` on.

    The exception that a handler raises is lost if Python happens to run a finalizer at that moment. So the loop also
    calls ``check`` before each step. Only the first signal counts: the shutdown itself must not be interrupted.
    """

    __slots__ = ("received",)

    def __init__(self) -> None:
        self.received = False

    def listen(self) -> None:
        """From now on, raise ``Stopped`` in the main thread when a signal is received."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - arguments of a handler
        if not self.received:
            self.received = True
            raise Stopped

    def check(self) -> None:
        """Raise ``Stopped`` if a signal was received."""
        if self.received:
            raise Stopped
