"""The details of a deploy that its log entry has no room for: warnings, excluded paths, and which paths were changed.

They are stored as JSON beside the entry, before it is created. They are for people: nothing depends on them, so long
lists are truncated. The counts in the entry always cover all paths.
"""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from dagferry_core.typed import typed_json

MAX_DETAILS_BYTES = 256 * 1024
MAX_LISTED_PATHS = 1000
"""Of each kind: excluded, added, changed, removed."""
MAX_LISTED_WARNINGS = 100
MAX_WARNING_CHARACTERS = 1000


class DeployDetails(NamedTuple):
    """The details of a deploy. ``cut`` says whether they were truncated.

    Paths are those of the bundle; excluded ones are those of the archive.
    """

    warnings: list[str]
    excluded: list[str]
    added: list[str]
    changed: list[str]
    removed: list[str]
    cut: bool = False

    def encode(self) -> bytes:
        """Return the details as they are stored, within all limits."""
        limits = {"warnings": MAX_LISTED_WARNINGS}
        left = MAX_DETAILS_BYTES - 200  # for the JSON around the lists
        fitting: dict[str, Any] = {}
        for name in ("warnings", "excluded", "removed", "changed", "added"):
            texts = getattr(self, name)
            if name == "warnings":
                texts = [text[:MAX_WARNING_CHARACTERS] for text in texts]
            fitting[name], left = _fitting(texts[: limits.get(name, MAX_LISTED_PATHS)], left)
        fitting["cut"] = self.cut or any(fitting[name] != getattr(self, name) for name in fitting)
        return json.dumps(fitting, ensure_ascii=False, separators=(",", ":")).encode(errors="replace") + b"\n"


def _fitting(texts: Iterable[str], left: int) -> tuple[list[str], int]:
    """Return as many of ``texts`` as fit into ``left`` bytes of JSON, and how many bytes remain."""
    fitting: list[str] = []
    for text in texts:
        left -= len(json.dumps(text, ensure_ascii=False).encode(errors="replace")) + 1
        if left < 0:
            return fitting, 0
        fitting.append(text)
    return fitting, left


def decode_details(data: bytes) -> DeployDetails:
    """Read stored details; raise ``FormatError`` if they are damaged. What a newer server added is ignored."""
    return typed_json(DeployDetails, data)
