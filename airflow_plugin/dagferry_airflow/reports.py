"""The body of a report to the server: what Airflow has parsed, bounded in every part (docs/reference/protocol.md)."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dagferry_core.protocol import (
    MAX_REPORT_BYTES,
    MAX_REPORTED_ERRORS,
    MAX_REPORTED_HINDRANCES,
    MAX_REPORTED_PROVIDERS,
    MAX_REPORTED_SLOWEST,
    MAX_TRACE_BYTES,
)

MAX_PARSED_BYTES = MAX_REPORT_BYTES - 32 * 1024
"""The rest is for the names of versions, and of who reports."""
MAX_MESSAGE_CHARACTERS = 500
MAX_PATH_CHARACTERS = 512
_SHORTER_TRACES = (MAX_TRACE_BYTES, 1024, 256, 0)
"""What traces are shortened to, one after the other, until a report is small enough."""


class Error(NamedTuple):
    """An import error; ``path`` is relative to the root, ``new`` is whether it came with the version."""

    path: str
    trace: str
    new: bool

    @property
    def message(self) -> str:
        """The last line of the trace that says something."""
        return last_line(self.trace)


class Parsed(NamedTuple):
    """What a dag processor has parsed of a version. ``complete_for``: seconds since all files are recorded."""

    version: str
    sequence: int
    digest: str
    files: int
    recorded: int
    mixed: int
    dags: int
    complete_for: float | None
    errors: Sequence[Error]
    seconds: Mapping[str, float]
    """How long the last parse of each file took."""
    hindrances: Sequence[str]
    airflow: str
    python: str
    providers: Mapping[str, str]


class Sender(NamedTuple):
    """Who reports: ``id`` are 32 hexadecimal digits, ``component`` is ``dag-processor`` or ``bundle``."""

    instance: str
    id: str
    component: str


def parsed_body(parsed: Parsed) -> dict[str, Any]:
    """Return what is reported of ``parsed``, in at most ``MAX_PARSED_BYTES`` of JSON."""
    for trace_bytes in _SHORTER_TRACES:
        said = _parsed(parsed, trace_bytes)
        if len(json.dumps(said)) <= MAX_PARSED_BYTES:
            return said
    while said["errors"] and len(json.dumps(said)) > MAX_PARSED_BYTES:  # a letter may take twelve bytes of JSON
        del said["errors"][len(said["errors"]) // 2 :]
    return said


def body(who: Sender, log_id: str, parsed: Parsed | None, *, leaving: bool = False) -> dict[str, Any]:
    """Return a report of a dag processor beside a sidecar, in at most ``MAX_REPORT_BYTES`` of JSON."""
    return {
        "instance": who.instance,
        "id": who.id,
        "component": who.component,
        "log_id": log_id,
        "leaving": leaving,
        "versions": [],
        "leases": None,
        "parsed": parsed and parsed_body(parsed),
    }


def substance(report: Mapping[str, Any]) -> str:
    """Return what a report says, without what changes although nothing happened."""
    parsed = report["parsed"]
    if parsed:
        parsed = {**parsed, "complete_for": parsed["complete_for"] is not None, "parse_seconds": None}
    return json.dumps({**report, "parsed": parsed}, sort_keys=True)


def _parsed(parsed: Parsed, trace_bytes: int) -> dict[str, Any]:
    new_first = sorted(parsed.errors, key=lambda error: (not error.new, error.path))
    slowest = sorted(parsed.seconds.items(), key=lambda item: (-item[1], item[0]))
    return {
        "version": parsed.version,
        "sequence": parsed.sequence,
        "digest": parsed.digest,
        "files": parsed.files,
        "recorded": parsed.recorded,
        "mixed": parsed.mixed,
        "dags": parsed.dags,
        "complete_for": None if parsed.complete_for is None else round(max(parsed.complete_for, 0.0), 3),
        "errors": [_error(error, trace_bytes) for error in new_first[:MAX_REPORTED_ERRORS]],
        "error_count": len(parsed.errors),
        "new_error_count": sum(error.new for error in parsed.errors),
        "parse_seconds": {
            "total": round(sum(parsed.seconds.values()), 3),
            "longest": round(slowest[0][1], 3) if slowest else 0.0,
            "slowest": [
                {"path": _clean(path, MAX_PATH_CHARACTERS), "seconds": round(seconds, 3)}
                for path, seconds in slowest[:MAX_REPORTED_SLOWEST]
            ],
        },
        "hindrances": [_clean(text, MAX_MESSAGE_CHARACTERS) for text in parsed.hindrances[:MAX_REPORTED_HINDRANCES]],
        "airflow": _clean(parsed.airflow, 64),
        "python": _clean(parsed.python, 64),
        "providers": {_clean(name, 100): _clean(version, 64) for name, version in _first(parsed.providers)},
    }


def _first(providers: Mapping[str, str]) -> list[tuple[str, str]]:
    return sorted(providers.items())[:MAX_REPORTED_PROVIDERS]


def _error(error: Error, trace_bytes: int) -> dict[str, object]:
    return {
        "path": _clean(error.path, MAX_PATH_CHARACTERS),
        "message": _clean(error.message, MAX_MESSAGE_CHARACTERS),
        "trace": shortened(error.trace, trace_bytes),
        "new": error.new,
    }


def shortened(trace: str, max_bytes: int) -> str:
    """Return the end of a trace, which says most, in at most ``max_bytes`` of UTF-8; whole lines if it has such."""
    clean = "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in trace.strip())
    data = clean.encode("utf-8", "replace")
    if len(data) <= max_bytes:
        return data.decode()
    end = data[len(data) - max_bytes :]
    first, newline, rest = end.partition(b"\n")
    return (rest if newline and rest else first).decode("utf-8", "ignore")


def last_line(trace: str) -> str:
    """Return the last line of a trace that is not blank."""
    return next((line.strip() for line in reversed(trace.splitlines()) if line.strip()), "")


def _clean(text: str, max_characters: int) -> str:
    """Return printable text of at most so many characters, which UTF-8 can hold."""
    clean = "".join(letter if letter.isprintable() else " " for letter in text[:max_characters])
    return clean.encode("utf-8", "replace").decode()
