"""A report as it is sent to a server: of a bounded size, whatever the DAG files raise. Pure."""

import json
from collections.abc import Mapping
from typing import Any

from dagferry_checker.problems import Report

MAX_VERDICT_BYTES = 240 * 1024
"""Less than the 256 KiB that a server reads; the rest is for what is sent beside the report."""


def bounded(report: Report, versions: Mapping[str, str]) -> dict[str, Any]:
    """Return the report as JSON of at most ``MAX_VERDICT_BYTES``: first the last traces go, then the last problems."""
    found = report.as_dict(versions)
    for list_name in ("unjudged", "problems"):
        entries = found[list_name]
        if list_name == "problems":
            for entry in reversed(entries):
                if _size(found) <= MAX_VERDICT_BYTES:
                    return found
                entry["trace"] = ""
        while entries and _size(found) > MAX_VERDICT_BYTES:
            del entries[len(entries) // 2 :]
    return found


def _size(found: Mapping[str, Any]) -> int:
    return len(json.dumps(found))
