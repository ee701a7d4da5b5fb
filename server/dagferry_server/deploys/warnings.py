"""Warnings about an upload that do not concern its content, and the log line that repeats all of its warnings."""

import logging

from dagferry_core.deploylog import MAX_DESCRIPTION_CHARACTERS, Deploy
from dagferry_runtime.logs import fields

MAX_LOGGED_WARNINGS = 20
MAX_LOGGED_CHARACTERS = 500
"""How many warnings of an upload are logged, and how many characters of each."""

log = logging.getLogger(__name__)


def too_long_warnings(description: str) -> list[str]:
    """Return a warning if ``description`` is longer than the deploy log keeps."""
    if len(description) <= MAX_DESCRIPTION_CHARACTERS:
        return []
    return [
        f"The description is longer than {MAX_DESCRIPTION_CHARACTERS} characters; the deploy log has the first of them."
    ]


def dropped_warnings(description: str, current: Deploy) -> list[str]:
    """Return a warning if ``description`` was for a deploy that was not made: its content is that of ``current``."""
    # A client that sends an upload again because its answer was lost gives the same description.
    if not description or description[:MAX_DESCRIPTION_CHARACTERS] == current.description:
        return []
    return ["The description was dropped: the content is that of the current deploy, so no deploy was made."]


def log_warnings(warnings: list[str], kind: str, **who: str) -> None:
    """Log the warnings of a deploy, because its client may not show them. ``kind`` and ``who`` say which it was."""
    if warnings:
        shown = [text[:MAX_LOGGED_CHARACTERS] for text in warnings[:MAX_LOGGED_WARNINGS]]
        log.warning("%s has warnings", kind.capitalize(), extra=fields(**who, count=len(warnings), warnings=shown))
