"""Logs of all commands: JSON lines on stderr, or readable ones on a terminal."""

import json
import logging
import sys
import time

from dagferry_core.errors import DagferryError

_log = logging.getLogger(__name__)


class _JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, message, and the record's fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class _Readable(logging.Formatter):
    """The same for a person at a terminal: clock time, message, ``field=value``."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        fields = " ".join(f"{name}={value}" for name, value in getattr(record, "fields", {}).items())
        mark = "" if record.levelno <= logging.INFO else record.levelname + " "
        line = f"{clock}.{int(record.msecs):03d} {mark}{record.getMessage()} {fields}".rstrip()
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


def _utc(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment % 1 * 1000):03d}Z"


def fields(**values: object) -> dict[str, dict[str, object]]:
    """Return the ``extra`` of a log call that carries these fields: ``log.info("Stored", extra=fields(version=v))``."""
    return {"fields": values}


def log_failure(message: str, error: DagferryError, **where: object) -> None:
    """Log an error that the program survives: what failed, and why, with the fields ``where`` and without a traceback.

    ``where`` says what was concerned, such as ``deployment``.
    """
    _log.error(message, extra=fields(**where, code=error.code, error=error.message))


def set_up_logs() -> None:
    """Send all logs to stderr: JSON lines, or readable ones on a terminal."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Readable() if sys.stderr.isatty() else _JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
