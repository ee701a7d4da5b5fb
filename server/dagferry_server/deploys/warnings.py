"""What an upload is warned of beside its content, and the line in the log that repeats all warnings of an upload."""

import logging

from dagferry_core.deploylog import MAX_DESCRIPTION_CHARACTERS, Deploy
from dagferry_runtime.logs import fields

MAX_LOGGED_WARNINGS = 20
MAX_LOGGED_CHARACTERS = 500
"""How many warnings of an upload are logged, and how much of each."""

log = logging.getLogger(__name__)


def cut_warnings(description: str) -> list[str]:
    """Return a warning if the deploy log is too small for ``description``."""
    if len(description) <= MAX_DESCRIPTION_CHARACTERS:
        return []
    return [
        f"The description is longer than {MAX_DESCRIPTION_CHARACTERS} characters; the deploy log has the first of them."
    ]


def dropped_warnings(description: str, current: Deploy) -> list[str]:
    """Return a warning if ``description`` was for a deploy that was not made: its content is that of ``current``."""
    # Whoever sends a lost upload again says the same as before.
    if not description or description[:MAX_DESCRIPTION_CHARACTERS] == current.description:
        return []
    return ["The description was dropped: the content is that of the current deploy, so no deploy was made."]


def log_warnings(warnings: list[str], **who: str) -> None:
    """Log what the answer to an upload warns of: the client may show nothing of it. ``who`` says which upload."""
    if warnings:
        shown = [text[:MAX_LOGGED_CHARACTERS] for text in warnings[:MAX_LOGGED_WARNINGS]]
        log.warning("Upload has warnings", extra=fields(**who, count=len(warnings), warnings=shown))
