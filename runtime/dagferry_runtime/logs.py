"""Logs of all commands: JSON lines on stderr, or readable ones on a terminal."""

import logging
import sys

from dagferry_core.errors import DagferryError
from dagferry_runtime.lines import fields, json_line, readable_line

__all__ = ["fields", "log_failure", "set_up_logs"]

_log = logging.getLogger(__name__)


class _Lines(logging.Formatter):
    """Makes a line of each record, with the fields that its ``extra`` carries."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._make = readable_line if terminal else json_line

    def format(self, record: logging.LogRecord) -> str:
        exception = self.formatException(record.exc_info) if record.exc_info else ""
        values = getattr(record, "fields", {})
        return self._make(record.created, record.levelname.lower(), record.getMessage(), values, exception)


def log_failure(message: str, error: DagferryError, **where: object) -> None:
    """Log an error that the program survives: what failed, and why, with the fields ``where`` and without a traceback.

    ``where`` says what was concerned, such as ``deployment``. What to do is logged too, if it is not what is said of
    every error of that kind.
    """
    hint = {} if error.hint == error.default_hint else {"hint": error.hint}
    _log.error(message, extra=fields(**where, code=error.code, error=error.message, **hint))


def set_up_logs() -> None:
    """Send all logs to stderr: JSON lines, or readable ones on a terminal."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(terminal=sys.stderr.isatty()))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
