"""The lines of a log: one JSON object each, or readable ones on a terminal. ``logs`` makes them of Python's logging."""

import contextlib
import json
import sys
import time
from collections.abc import Mapping

NOT_WRITTEN = "debug"


def fields(**values: object) -> dict[str, dict[str, object]]:
    """Return the ``extra`` of a log call that carries these fields: ``log.info("Stored", extra=fields(version=v))``."""
    return {"fields": values}


def json_line(moment: float, level: str, message: str, values: Mapping[str, object], exception: str) -> str:
    """Return one JSON object: time (UTC), level, message, and the fields; ``moment`` in seconds since the epoch."""
    clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment % 1 * 1000):03d}Z"
    line = {"time": clock, "level": level, "message": message, **values}
    if exception:
        line["exception"] = exception
    return json.dumps(line, ensure_ascii=False, default=str)


def readable_line(moment: float, level: str, message: str, values: Mapping[str, object], exception: str) -> str:
    """Return the same for a person at a terminal: clock time, message, ``field=value``."""
    clock = time.strftime("%H:%M:%S", time.localtime(moment)) + f".{int(moment % 1 * 1000):03d}"
    mark = "" if level in {"debug", "info"} else level.upper() + " "
    shown = " ".join(f"{name}={value}" for name, value in values.items())
    return f"{clock} {mark}{message} {shown}".rstrip() + ("\n" + exception if exception else "")


def write_line(level: str, message: str, values: Mapping[str, object], exception: str = "") -> None:
    """Write a line to stderr, for a command without Python's logging. Like logging, it never fails."""
    if level == NOT_WRITTEN:
        return
    make = readable_line if sys.stderr.isatty() else json_line
    with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
        sys.stderr.write(make(time.time(), level, message, values, exception) + "\n")
        sys.stderr.flush()
