"""Which import errors are new with a version, and which were there before.

What is known is kept as text, so that a restart of the dag processor makes no error new. Pure.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from dagferry_airflow.reports import MAX_MESSAGE_CHARACTERS, Error, last_line

MAX_KNOWN = 300
MAX_KEPT_BYTES = 256 * 1024

_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")


class KnownErrors:
    """The import errors of a deployment at the version that was judged last. ``kept`` is what ``keep`` returned."""

    def __init__(self, kept: str = "") -> None:
        self._errors: dict[str, dict[str, Any]] = {}
        """By path: the message, the version at which the error was first seen, and whether it was new there."""
        try:
            for path, known in json.loads(kept)["errors"].items():
                message, version, new = known["message"], known["version"], known["new"]
                self._errors[str(path)] = {"message": str(message), "version": str(version), "new": bool(new)}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self._errors = {}

    def judge(
        self,
        version: str,
        traces: Mapping[str, str],
        is_touched: Callable[[str], bool],
        is_recorded: Callable[[str], bool],
    ) -> list[Error]:
        """Return the errors of the files that count, by what Airflow has recorded of them.

        ``version`` must be another one for each content, ``traces`` has the errors by path. An error is new if the
        version touched its file and the same error was not there at the previous version.
        """
        found = []
        for path, trace in traces.items():
            if not is_recorded(path):
                continue  # it is an older version's
            message = _ADDRESS.sub("0x", last_line(trace))[:MAX_MESSAGE_CHARACTERS]
            known = self._errors.get(path)
            if known is None or (known["message"] != message and is_touched(path)):
                known = {"message": message, "version": version, "new": is_touched(path)}
                self._errors[path] = known
            known["message"] = message
            found.append(Error(path, trace, known["new"] and known["version"] == version))
        for path in [path for path in self._errors if path not in traces and is_recorded(path)]:
            del self._errors[path]
        return found

    def forget_missing(self, is_file: Callable[[str], bool]) -> None:
        """Forget the errors of files that the live version does not have."""
        self._errors = {path: known for path, known in self._errors.items() if is_file(path)}

    def keep(self) -> str:
        """Return what is known as text of at most ``MAX_KEPT_BYTES``; of too much, the newest."""
        kept = list(self._errors.items())[-MAX_KNOWN:]
        while len(text := json.dumps({"errors": dict(kept)})) > MAX_KEPT_BYTES:
            kept = kept[(len(kept) + 1) // 2 :]  # without the older half
        return text
