"""Collects the errors in the names and links of an archive, so that one answer lists them all."""

from collections.abc import Callable

from dagferry_core.archive.errors import (
    BundleError,
    LinkRefused,
    PathConflict,
    PathDuplicate,
    PathRefused,
)
from dagferry_core.limits import MAX_LISTED_ERRORS

COLLECTED_ERRORS = (PathRefused, PathDuplicate, PathConflict, LinkRefused)
"""The errors that are collected. After any other error, the rest of the archive cannot be trusted."""
MAX_MESSAGE_CHARACTERS = 4000
"""The maximum length of the combined message: names may be long."""


class ErrorCollector:
    """The first ``MAX_LISTED_ERRORS`` errors."""

    __slots__ = ("_errors",)

    def __init__(self) -> None:
        self._errors: list[BundleError] = []

    def add(self, error: BundleError) -> None:
        """Add an error; raise all of them when there are ``MAX_LISTED_ERRORS``."""
        self._errors.append(error.with_traceback(None))
        if len(self._errors) == MAX_LISTED_ERRORS:
            self.raise_any()

    def check(self, check: Callable[[str], object], path: str) -> None:
        """Call ``check`` with ``path``, and add the error it raises."""
        try:
            check(path)
        except COLLECTED_ERRORS as error:
            self.add(error)

    def raise_any(self) -> None:
        """Raise the collected errors, if any, as one error: its type is that of the first, its message names all."""
        if not self._errors:
            return
        first = self._errors[0]
        # Several links that lead through the same invalid one have the same message.
        messages = list(dict.fromkeys(error.message for error in self._errors))
        if len(messages) == 1:
            raise first
        count = f"At least {len(messages)}" if len(self._errors) == MAX_LISTED_ERRORS else f"{len(messages)}"
        message = f"{count} names or links in the archive are refused. {' '.join(messages)}"
        if len(message) > MAX_MESSAGE_CHARACTERS:
            message = message[:MAX_MESSAGE_CHARACTERS] + "…"
        hints = dict.fromkeys(error.hint for error in self._errors)
        raise type(first)(message, " ".join(hints))
