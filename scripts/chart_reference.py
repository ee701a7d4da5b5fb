"""The table of the Helm chart's values, from ``values.yaml``: the comment of a key is its description."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

CHART = Path(__file__).resolve().parent.parent / "deploy" / "chart" / "dagferry"
README = CHART / "README.md"

DEPLOY = CHART.parent.parent
COPIES = {
    CHART / "files" / "alerts.yaml": DEPLOY / "prometheus" / "alerts.yaml",
    CHART / "files" / "dashboard.json": DEPLOY / "grafana" / "dashboard.json",
}
"""Files that the chart must contain itself, and where they are edited."""

_KEY = re.compile(r"^( *)([A-Za-z][A-Za-z0-9]*):")
_INDENT = 2


class Value(NamedTuple):
    """A value: its path such as ``image.tag``, its default, its description."""

    path: str
    default: object
    description: str


def values(text: str) -> Iterator[Value]:
    """Yield what ``text``, a ``values.yaml``, describes, in its order. A key without a comment is only a group."""
    everything = yaml.safe_load(text)
    path: list[str] = []
    comment = ""
    for line in text.splitlines():
        if found := _KEY.match(line):
            del path[len(found[1]) // _INDENT :]
            path.append(found[2])
            if comment:
                yield Value(".".join(path), _at(everything, path), comment)
        comment = line.strip().removeprefix("# ") if line.lstrip().startswith("#") else ""


def _at(everything: object, path: list[str]) -> object:
    found = everything
    for step in path:
        found = found[step]  # type: ignore[index]
    return found


def documented() -> list[tuple[str, str, str]]:
    """Return value, default and meaning of every value, for the chart's README."""
    return [
        (f"`{value.path}`", "" if value.default in ("", None) else f"`{json.dumps(value.default)}`", value.description)
        for value in values((CHART / "values.yaml").read_text())
    ]
