"""Collects what is wrong with the names and links of an archive, so that whoever packed it hears of it all at once."""

from collections.abc import Callable

from dagferry_core.archive.errors import (
    BundleError,
    LinkRefused,
    PathConflict,
    PathDuplicate,
    PathRefused,
)
from dagferry_core.limits import MAX_REFUSALS

REFUSED_NAMES = (PathRefused, PathDuplicate, PathConflict, LinkRefused)
"""The errors that are collected. After any other one the rest of an archive says nothing."""
MAX_MESSAGE_CHARACTERS = 4000
"""Of a refusal of many names; some of them may be long."""


class Refusals:
    """The first ``MAX_REFUSALS`` of what is wrong."""

    __slots__ = ("_errors",)

    def __init__(self) -> None:
        self._errors: list[BundleError] = []

    def add(self, error: BundleError) -> None:
        """Note an error; raise all when there are enough."""
        self._errors.append(error.with_traceback(None))
        if len(self._errors) == MAX_REFUSALS:
            self.raise_any()

    def check(self, check: Callable[[str], object], path: str) -> None:
        """Call ``check`` with ``path``, and note the error it raises."""
        try:
            check(path)
        except REFUSED_NAMES as error:
            self.add(error)

    def raise_any(self) -> None:
        """Raise what was noted, if anything was: an error of the first one's kind, with the messages of all."""
        if not self._errors:
            return
        first = self._errors[0]
        # Several links that lead through the same wrong one have the same message.
        messages = list(dict.fromkeys(error.message for error in self._errors))
        if len(messages) == 1:
            raise first
        count = f"At least {len(messages)}" if len(self._errors) == MAX_REFUSALS else f"{len(messages)}"
        message = f"{count} names or links in the archive are refused. {' '.join(messages)}"
        if len(message) > MAX_MESSAGE_CHARACTERS:
            message = message[:MAX_MESSAGE_CHARACTERS] + "…"
        hints = dict.fromkeys(error.hint for error in self._errors)
        raise type(first)(message, " ".join(hints))
